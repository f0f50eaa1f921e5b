"""Findings in plain language, each computed from the statistics, the most important first.

What limits trust in the numbers comes first, then where the time went, then why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ...probes.diagnosis import lost
from ...profiler.tables import FETCH_CAUSES
from ..numbers.fetching import Fetches
from ..numbers.network import Network
from ..numbers.phases import Phase
from ..numbers.statistics import Statistics
from ..words import duration, percent, plural, size

Tone = Literal["warning", "main", "good", "note"]

#: a wait below this share of a phase is not worth a reader's time
_NEGLIGIBLE = 0.02
#: up to this many fetches at once, on average, they came one after another
_ONE_AFTER_ANOTHER = 1.1
#: lost segments, or samples, below which nothing is said
_FEW = 5
#: share of segments lost from which on a network is lossy
_LOSSY = 0.01
#: a round trip or an answer from which on it may be called slow
_SLOW_NS = 5_000_000
#: all together; shorter ones are the ordinary business of threads
_SHORTEST_COLLISION_NS = 1_000_000
#: why time may stay undivided
_UNDIVIDED = {
    "daemon": "No CVMFS client serves that file system, or nothing was seen of what it does.",
    "fetch": "The HTTP requests, or what the download thread did with the answers, were not seen: "
    "they are encrypted, or were sent before recording began.",
}
_READS = ("operations_read", "operations_splice", "operations_fault")


@dataclass(frozen=True)
class Finding:
    """A headline, what it means, and its tone."""

    tone: Tone
    headline: str
    meaning: str = ""


def findings(statistics: Statistics) -> list[Finding]:
    """Return the findings, the most important first."""
    if statistics.imported is not None:
        return [each for rule in _OF_IMPORTED for each in rule(statistics)]
    rules: tuple[Callable[[Statistics], Iterator[Finding]], ...] = (
        _incomplete, _lost, _unreconciled, _died, _unfinished, _command_failed, _where_time_went,
        _failed_fetches, _renewed, _downloaded_again, _latency, _slow_because,
        _failed_connections, _cached_chunks, _page_cache, _joined, _collisions, _ahead, _stalls,
        _unexplained, _undivided, _unasked, _unobserved,
    )  # fmt: skip
    return [finding for rule in rules for finding in rule(statistics)]


def main_phase(statistics: Statistics) -> Phase | None:
    """Return the phase that waited longest for CVMFS, else the longest one."""
    return max(statistics.phases, key=lambda p: (p.cvmfs_ns, p.duration_ns), default=None)


def _incomplete(s: Statistics) -> Iterator[Finding]:
    if not s.outcome.complete:
        yield Finding(
            "warning",
            "This run is incomplete: recording stopped before the command ended.",
            "What was recorded up to then is shown; the last second may be missing.",
        )


def _lost(s: Statistics) -> Iterator[Finding]:
    if s.lost:
        worst = max(s.losses, key=lambda loss: int(loss["count"]))
        yield Finding(
            "warning",
            f"{plural(s.lost, 'event was', 'events were')} lost.",
            f"Most by {worst['probe']} ({worst['cause']}). Counts below are too low by as many, "
            "and time that those events would explain may count as unknown.",
        )


def _died(s: Statistics) -> Iterator[Finding]:
    for incident in s.incidents:
        if incident["kind"] in {"crash", "hang", "exit"}:
            after = duration(incident["time_ns"] - s.start_ns)
            who = "A task" if incident["pid"] is None else f"Process {incident['pid']}"
            word = {"crash": "died", "hang": "hung", "exit": "ended"}[incident["kind"]]
            signal = "" if incident["signal"] is None else f" of signal {incident['signal']}"
            yield Finding(
                "warning", f"{who} {word}{signal} {after} after the start.", str(incident["detail"])
            )


def _unasked(s: Statistics) -> Iterator[Finding]:
    for incident in s.incidents:
        if incident["kind"] == "unasked":
            yield Finding(
                "note", "The chunks of some files are not known.", f"{incident['detail']}."
            )


def _unfinished(s: Statistics) -> Iterator[Finding]:
    if s.unfinished:
        number = plural(len(s.unfinished), "file operation")
        yield Finding("warning", f"{number} never ended.", "; ".join(s.unfinished[:3]) + ".")


def _command_failed(s: Statistics) -> Iterator[Finding]:
    if s.outcome.signal:
        yield Finding("warning", f"The command was killed by signal {s.outcome.signal}.")
    elif s.outcome.exit_code:
        yield Finding("warning", f"The command failed with exit code {s.outcome.exit_code}.")


def _in_order(fetches: Fetches) -> str:
    """How the fetches lay in time, in words."""
    if fetches.chunks_downloaded < 2:
        return ""
    if fetches.most_at_once == 1:
        return " fetched one after another"
    if fetches.mean_at_once < _ONE_AFTER_ANOTHER:
        return " fetched nearly one after another"
    return f" fetched {fetches.mean_at_once:.1f} at a time on average"


def _where_time_went(s: Statistics) -> Iterator[Finding]:
    phase = main_phase(s)
    if phase is None or not phase.duration_ns or not phase.causes_ns:
        return
    share = phase.cvmfs_ns / phase.duration_ns
    if share < _NEGLIGIBLE:
        yield _nothing_waited(s, phase)
        return
    fetch_ns = sum(ns for cause, ns in phase.causes_ns.items() if cause in FETCH_CAUSES)
    if fetch_ns >= phase.cvmfs_ns / 2 and phase.fetches.chunks_downloaded:
        yield _waited_for_chunks(phase, fetch_ns)
    else:
        yield Finding(
            "main",
            f"{percent(share)} of “{phase.title}” waited for CVMFS, little of it for the network.",
            f"{duration(phase.cvmfs_ns)} of {duration(phase.duration_ns)}: {_top_causes(phase)}.",
        )


def _waited_for_chunks(phase: Phase, fetch_ns: int) -> Finding:
    fetches = phase.fetches
    chunks = plural(fetches.chunks_downloaded, "chunk")
    meaning = f"{duration(fetch_ns)} of {duration(phase.duration_ns)}: {_top_causes(phase)}."
    if fetches.chunks_downloaded > 1 and fetches.mean_at_once < _ONE_AFTER_ANOTHER:
        meaning += (
            " A chunk is fetched only when a read or page fault reaches it, and the next one only "
            "when that one is there: the waits add up."
        )
    headline = f"{percent(fetch_ns / phase.duration_ns)} of “{phase.title}” waited for {chunks}"
    return Finding("main", f"{headline}{_in_order(fetches)}.", meaning)


def _top_causes(phase: Phase, count: int = 4) -> str:
    largest = sorted(phase.causes_ns.items(), key=lambda item: -item[1])[:count]
    cached = {"cpu": _of_page_cache(phase)}
    return ", ".join(f"{cause} {duration(ns)}{cached.get(cause, '')}" for cause, ns in largest)


def _of_page_cache(phase: Phase) -> str:
    """How much of the CPU time went into page-cache hits, where that is worth telling."""
    if phase.page_cache_ns < _NEGLIGIBLE * phase.duration_ns:
        return ""
    hits = plural(phase.page_cache_hits, "hit")
    return f" (of it {duration(phase.page_cache_ns)} reading the page cache, {hits})"


def _nothing_waited(s: Statistics, phase: Phase) -> Finding:
    spent = f"“{phase.title}” took {duration(phase.duration_ns)}: {_top_causes(phase)}."
    if not s.fetches.downloaded:
        return Finding("good", "Nothing waited for CVMFS: no chunk had to be fetched.", spent)
    waited = percent(phase.cvmfs_ns / phase.duration_ns)
    return Finding("good", f"Next to nothing waited for CVMFS: {waited} of “{phase.title}”.", spent)


def _latency(s: Statistics) -> Iterator[Finding]:
    first, transfer = s.latency.first_byte_ns, s.latency.transfer_ns
    if first is None or transfer is None:
        return
    medians = f"(medians of {s.latency.downloads})"
    numbers = f"{duration(first)} to its first byte and {duration(transfer)} to transfer {medians}"
    speed = "" if s.latency.bytes_per_s is None else f", at {size(s.latency.bytes_per_s)}/s"
    known_better = any(_slow_because(s))  # which says what would help
    advice = "" if known_better else _what_would_help(first, transfer)
    yield Finding("note", f"Each chunk took {numbers}{speed}.", advice)


def _what_would_help(first_byte_ns: int, transfer_ns: int) -> str:
    if first_byte_ns > 2 * transfer_ns:
        return (
            "Latency, not bandwidth: a nearer proxy, larger chunks or fetching ahead would help, "
            "a faster line would not."
        )
    if transfer_ns > 2 * first_byte_ns:
        return "Bandwidth more than latency: a faster line or server, or a warm cache, would help."
    return "Latency and bandwidth count about alike."


def _slow_because(s: Statistics) -> Iterator[Finding]:
    """The server, the network or the client, where the samples of connections say so clearly."""
    n = s.network
    if n.round_trip_ns is None or not n.total_ns:
        return
    rules = (_packets_lost, _client_slow, _server_slow, _far_away, _line_slow)
    yield from [finding for rule in rules if (finding := rule(n))][:1]


def _packets_lost(n: Network) -> Finding | None:
    lost = n.disordered + n.retransmits
    if lost < _FEW or lost < _LOSSY * n.segments:
        return None
    return Finding(
        "note",
        f"The network lost packets: {n.disordered:,} of {plural(n.segments, 'segment')} "
        f"came out of order, {n.retransmits:,} were sent again.",
        f"The round trip is {duration(n.round_trip_ns or 0)}; every loss slows the sender down.",
    )


def _client_slow(n: Network) -> Finding | None:
    if n.transfer_samples < _FEW or n.unread_samples < n.transfer_samples / 2:
        return None
    if n.transfer_ns < n.total_ns / 2:
        return None
    return Finding(
        "note",
        "The client, not the network, set the pace of transfers: in "
        f"{percent(n.unread_samples / n.transfer_samples)} of {n.transfer_samples:,} samples "
        "bytes that had arrived waited to be read.",
        f"{size(n.unread_bytes)} of them in the median: the daemon was still unpacking, verifying "
        "and writing what came before. A faster line or server would not help.",
    )


def _server_slow(n: Network) -> Finding | None:
    mean_ns, trip_ns = n.answer_ns / n.downloads, n.round_trip_ns or 0
    if n.answer_ns < n.total_ns / 2 or mean_ns < max(_SLOW_NS, 5 * trip_ns):
        return None
    return Finding(
        "note",
        f"The server or proxy, not the network, was slow: {duration(mean_ns)} on average "
        f"until it answered, beyond a round trip of {duration(trip_ns)}.",
        "It had to fetch the objects itself, or is busy: look there, or put a cache before it.",
    )


def _far_away(n: Network) -> Finding | None:
    trip_ns = n.round_trip_ns or 0
    if trip_ns < _SLOW_NS or n.travel_ns < max(n.answer_ns, n.total_ns / 4):
        return None
    return Finding(
        "note",
        f"The way to the server is long: of {duration(n.total_ns)} in requests "
        f"{duration(n.travel_ns)} were round trips of {duration(trip_ns)}.",
        "A nearer proxy or larger chunks would help.",
    )


def _line_slow(n: Network) -> Finding | None:
    if n.transfer_samples < _FEW or n.unread_samples > n.transfer_samples / 10:
        return None
    if n.transfer_ns < n.total_ns / 2:
        return None
    return Finding(
        "note",
        "The line or the server's sending set the pace of transfers, not the client: in "
        f"{percent(1 - n.unread_samples / n.transfer_samples)} of {n.transfer_samples:,} samples "
        "nothing that had arrived waited to be read.",
        f"The round trip is {duration(n.round_trip_ns or 0)}.",
    )


def _failed_connections(s: Statistics) -> Iterator[Finding]:
    n = s.network
    if n.failed_connections:
        number = plural(n.failed_connections, "connection")
        yield Finding(
            "warning",
            f"{number} failed, to {', '.join(n.failed_to[:4]) or 'nobody knows whom'}.",
            f"It took {duration(n.failed_ns)} until the next attempt: a proxy or server that is "
            "down or cannot be reached.",
        )


def _cached_chunks(s: Statistics) -> Iterator[Finding]:
    if s.chunks_looked_up and s.fetches.downloaded:
        cached, known = s.chunks_cached_at_start, s.chunks_looked_up
        were = f"{plural(known, 'chunk')} {'was' if cached == 1 else 'were'} already"
        wire = size(s.bytes.over_http)
        yield Finding(
            "note",
            f"{cached:,} of {were} in the client's cache at start.",
            f"{size(s.bytes.unpacked)} of data came over HTTP, in {wire} on the wire.",
        )


def _page_cache(s: Statistics) -> Iterator[Finding]:
    hits, requests = s.counts["page_cache_hits"], s.counts["fuse_reads"]
    if not hits:
        return
    why = (
        "The kernel keeps pages that it has read, so cvmfs2 never sees these accesses. That is why "
        "cvmfs_read seems to be called only once per file."
    )
    done = hits + sum(s.counts.get(kind, 0) for kind in _READS)
    if not requests:
        headline = f"No read reached the daemon: all {done:,} came from the kernel's page cache."
    elif hits >= done / 2:
        headline = (
            f"{percent(hits / done)} of {done:,} reads and page faults came from the kernel's page "
            f"cache; cvmfs2 answered {plural(requests, 'READ')}."
        )
    else:
        return
    yield Finding("note", headline, why)


def _failed_fetches(s: Statistics) -> Iterator[Finding]:
    broken, failed = s.failures, s.fetches.failed
    if not failed and not broken.requests:
        return
    errors = ", ".join(f"{name}: {number:,}" for name, number in broken.fetches.items())
    named = f" ({errors})" if errors else ""
    fetches = f"{plural(failed, 'fetch', 'fetches')} failed{named}, and"
    if not failed:
        fetches = "No fetch failed, but"
    requests = plural(broken.requests, "request")
    said = [
        *(f"{number:,} answered with status {code}" for code, number in broken.statuses.items()),
        *([f"{broken.unanswered:,} not answered"] if broken.unanswered else []),
        *(
            [f"{broken.rejected:,} answered with what the client did not accept"]
            if broken.rejected
            else []
        ),
    ]
    meaning = [f"{_capital('; '.join(said))}."] if said else []
    if "ENOSPC" in broken.fetches:
        meaning.append("ENOSPC: the client's cache has no room for an object of that size.")
    headline = f"{fetches} {requests} to servers brought nothing."
    yield Finding("warning", headline, " ".join(meaning))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_RENEWALS = {
    "reload": "A client was reloaded",
    "remount": "A repository was remounted",
    "eviction": "A client removed objects from its cache",
}


def _renewed(s: Statistics) -> Iterator[Finding]:
    for incident in s.incidents:
        if incident["kind"] in _RENEWALS:
            after = duration(incident["time_ns"] - s.start_ns)
            headline = f"{_RENEWALS[incident['kind']]} {after} after the start."
            yield Finding("note", headline, f"{_capital(str(incident['detail']))}.")


def _downloaded_again(s: Statistics) -> Iterator[Finding]:
    again = s.failures.downloaded_again
    if not again:
        return
    managers = {str(mount["cache_manager"]) for mount in s.mounts}
    if any(manager.startswith("streaming") for manager in managers):
        why = (
            "This client streams: it keeps nothing of what it downloads, and each READ that "
            "reaches it downloads its whole chunk anew."
        )
    elif any(incident["kind"] == "eviction" for incident in s.incidents):
        why = "They had been removed from the client's cache meanwhile: its limit is too low."
    else:
        why = "They were not in the client's cache when they were asked for again."
    objects = plural(again, "object was", "objects were")
    yield Finding("warning", f"{objects} downloaded more than once.", why)


def _unreconciled(s: Statistics) -> Iterator[Finding]:
    for row in s.reconciliation:
        if row["difference"]:
            what = _QUANTITIES[str(row["quantity"])]
            more = "more" if row["difference"] > 0 else "fewer"
            remark = f" {_capital(str(row['remark']))}." if row["remark"] else ""
            yield Finding(
                "warning",
                f"{abs(row['difference']):,} {more} {what} than the client counted.",
                f"The client counted {row['counted']:,}, this run holds {row['recorded']:,}."
                f"{remark}",
            )


_QUANTITIES = {
    "objects": "objects handed to download", "body_bytes": "bytes received",
    "chunks": "chunks downloaded",
}  # fmt: skip


def _joined(s: Statistics) -> Iterator[Finding]:
    if s.fetches.joined:
        number = plural(s.fetches.joined, "fetch", "fetches")
        yield Finding(
            "note",
            f"{number} waited for a download that another thread had begun.",
            "The object was downloaded once; nothing was fetched twice.",
        )


def _collisions(s: Statistics) -> Iterator[Finding]:
    met = s.collisions
    if met.total_ns < _SHORTEST_COLLISION_NS:
        return
    reads = plural(met.count, "read")
    waiting, holding = met.waiting_path or "a file", met.holding_path or "another"
    yield Finding(
        "note",
        f"{reads} waited {duration(met.total_ns)} for a lock that another open file held.",
        "cvmfs2 holds a lock while it fetches a chunk, and has 128 of them for all open files: "
        "files that have nothing to do with each other may share one. The longest: "
        f"{waiting} waited {duration(met.longest_ns)} for {holding}.",
    )


def _ahead(s: Statistics) -> Iterator[Finding]:
    if s.fetched_for_no_request:
        number = plural(s.fetched_for_no_request, "object was", "objects were")
        yield Finding(
            "note",
            f"{number} fetched by the client on its own account.",
            "No request asked for them: the client fetches bundles ahead, or the request "
            "was taken before recording began.",
        )


def _undivided(s: Statistics) -> Iterator[Finding]:
    phase = main_phase(s)
    for cause, reason in _UNDIVIDED.items():
        ns = 0 if phase is None else phase.causes_ns.get(cause, 0)
        if phase is not None and ns > _NEGLIGIBLE * phase.duration_ns:
            yield Finding(
                "note", f"{duration(ns)} of “{phase.title}” stay undivided as {cause}.", reason
            )


def _stalls(s: Statistics) -> Iterator[Finding]:
    if not s.stalls.count or not s.stalls.total_ns:
        return
    fetch_ns = sum(ns for cause, ns in s.stalls.causes_ns.items() if cause in FETCH_CAUSES)
    share = fetch_ns / s.stalls.total_ns
    longest = s.stalls.longest[0]
    yield Finding(
        "note",
        f"The device stood idle for {duration(s.stalls.total_ns)} in "
        f"{plural(s.stalls.count, 'stall')}, {percent(share)} of it waiting for fetches.",
        f"The longest lasted {duration(longest.end_ns - longest.start_ns)}.",
    )


def _unexplained(s: Statistics) -> Iterator[Finding]:
    phase = main_phase(s)
    if phase is not None and phase.duration_ns:
        share = phase.causes_ns.get("unknown", 0) / phase.duration_ns
        if share > _NEGLIGIBLE:
            yield Finding(
                "warning",
                f"{percent(share)} of “{phase.title}” could not be explained.",
                "It is counted as unknown. The probes listed at the end say what was not observed.",
            )


def _unobserved(s: Statistics) -> Iterator[Finding]:
    seen = {probe["event"] for probe in s.probes if probe["family"] not in {"none", ""}}
    missing = [each for each in s.probes if each["event"] not in seen and each["reason"]]
    reasons = {str(probe["event"]): str(probe["reason"]) for probe in missing[::-1]}
    if reasons:
        told = " ".join(_missing(event, why) for event, why in reasons.items())
        yield Finding(
            "note",
            f"{plural(len(reasons), 'kind of event', 'kinds of event')} could not be "
            "observed here.",
            f"{told} The way to get it: cvmprof doctor.",
        )


def _missing(event: str, reason: str) -> str:
    effect = lost(event)
    return f"{event}: {reason}" + (f"; so {effect}." if effect else ".")


_TOLD = {
    "debug log": "what was called, looked up and fetched, and in which order.",
    "trace file": "what was called and when each call began; reads and fetches are not in it.",
}


def _imported(s: Statistics) -> Iterator[Finding]:
    if s.imported is not None:
        told = _TOLD.get(s.imported.kind, _TOLD["debug log"])
        yield Finding(
            "note",
            f"Imported from a {s.imported.kind} of the client; its times are "
            f"{s.imported.precision}.",
            f"It tells {told} It names no threads, so how long a call or a fetch took, and what "
            "waited for it, cannot be said.",
        )


def _unread_lines(s: Statistics) -> Iterator[Finding]:
    for loss in s.losses:
        yield Finding("warning", f"Not taken from the log: {loss['count']:,} × {loss['cause']}.")


def _fetched(s: Statistics) -> Iterator[Finding]:
    if s.imported is not None and s.fetches.downloaded:
        missed, hit = s.imported.lookups_missed, s.imported.lookups_hit
        yield Finding(
            "main",
            f"{plural(s.fetches.downloaded, 'object was', 'objects were')} downloaded, "
            f"{s.fetches.chunks_downloaded:,} of them chunks or files.",
            f"Of {hit + missed:,} lookups in the client's cache {hit:,} hit; before a download the "
            "client looks twice.",
        )


_OF_IMPORTED: tuple[Callable[[Statistics], Iterator[Finding]], ...] = (
    _imported, _unread_lines, _fetched, _failed_fetches, _joined,
)  # fmt: skip
