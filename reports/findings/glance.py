"""Numbers to see at a glance, in words: the terminal and the page show the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from ..numbers.statistics import Outcome, Statistics
from ..words import duration, hits, size, source


@dataclass(frozen=True)
class Figure:
    """A number in words, and its name; ``of`` is the name of the one above that it belongs to."""

    name: str
    text: str
    of: str = ""


def lasted(s: Statistics) -> str:
    """Return how long the command took, or how much of it was recorded."""
    return f"{duration(s.duration_ns)}{' recorded' if s.survivors.command_did else ''}"


def ending(s: Statistics) -> str:
    """Return how the command ended, and whether recording had ended before."""
    if not s.outcome.complete:
        return "incomplete run"
    how = _exit(s.outcome)
    return f"then the command went on ({how})" if s.survivors.command_did else how


def _exit(outcome: Outcome) -> str:
    if outcome.signal:
        return f"killed by signal {outcome.signal}"
    code = outcome.exit_code
    return "end not seen" if code is None else "succeeded" if code == 0 else f"exit code {code}"


def at_a_glance(s: Statistics) -> list[Figure]:
    """Return what came for the command, from where, and how; the mounts' where it was more."""
    return [
        *_over_http(s),
        *_chunks(s),
        Figure("FUSE requests", f"{s.counts['fuse_requests']:,}"),
        Figure("page-cache hits", hits(s.counts["page_cache_hits"], s.counts["page_cache_ns"])),
        *(Figure(source(name), size(count)) for name, count in s.bytes.by_source.items() if count),
    ]


def _over_http(s: Statistics) -> list[Figure]:
    name, everybody, trip_ns = "over HTTP", s.of_mounts.over_http, s.network.round_trip_ns
    found = [Figure(name, size(s.bytes.over_http))]
    if everybody != s.bytes.over_http:
        found.append(Figure("the mounts', for everybody", size(everybody), name))
    if trip_ns is not None:
        found.append(Figure("round trip", duration(trip_ns), name))
    return found


def _chunks(s: Statistics) -> list[Figure]:
    name, known = "chunks or files downloaded", s.objects_looked_up
    files = s.fetches.files_downloaded
    return [
        Figure(name, f"{s.fetches.chunks_downloaded:,}"),
        *([Figure("of these whole files", f"{files:,}", name)] if files else []),
        Figure(
            "at once, on average", f"{s.fetches.mean_at_once:.1f}" if s.fetches.busy_ns else "none",
            name,
        ),
        Figure("objects cached at start", f"{s.objects_cached_at_start:,} of {known:,}"
               if known else "–"),
    ]  # fmt: skip
