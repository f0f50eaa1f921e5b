"""The summary for a terminal: the page's findings and numbers in text.

Plain text unless colours are asked for; never wider than asked. Foreign strings are made visible,
so that no path or argument can send a terminal control sequences.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .. import palette
from ..escape import visible
from ..findings.finding import Finding
from ..findings.rules import findings
from ..numbers.log import Imported
from ..numbers.phases import Phase
from ..numbers.statistics import Statistics
from ..words import duration, hits, moment, percent, plural, reconciled, size, source

_TONES = {"warning": "bold red", "main": "bold", "good": "bold green", "note": ""}
_BAR_CELLS = 30
_SLOWEST = 5


def summary_json(statistics: Statistics) -> str:
    """Return the statistics and findings as JSON; times are ``_ns``, sizes ``_bytes``."""
    found = [
        {"tone": f.tone, "headline": f.headline, "meaning": f.meaning} for f in findings(statistics)
    ]
    document = {"schema_version": 1, "findings": found, **statistics.as_json()}
    return json.dumps(document, indent=2, ensure_ascii=True)


def render_summary(statistics: Statistics, width: int = 80, colour: bool = False) -> str:
    """Return the summary of a run as text of at most ``width`` columns."""
    parts: list[Any] = [_head(statistics), Text()]
    parts += [_finding(item) for item in findings(statistics)]
    for phase in statistics.phases:
        parts += [Text(), _phase(phase)]
    if statistics.imported is not None:
        parts += [Text(), _told(statistics, statistics.imported)]
        return _printed(Group(*parts), width, colour)
    parts += [Text(), _numbers([("", statistics)])]
    if statistics.slowest_chunks:
        parts += [Text(), Text("Slowest chunks", style="bold"), _slowest(statistics)]
    return _printed(Group(*parts), width, colour)


def render_side_by_side(
    runs: Sequence[tuple[str, Statistics]], width: int = 80, colour: bool = False
) -> str:
    """Return runs beside each other, each under its name: numbers, causes, main findings."""
    parts: list[Any] = [_numbers(runs), Text(), _causes(runs)]
    for name, statistics in runs:
        parts += [Text(), Text(visible(name), style="bold")]
        parts += [Padding(_finding(item), (0, 0, 0, 2)) for item in findings(statistics)[:4]]
    return _printed(Group(*parts), width, colour)


def _printed(what: Any, width: int, colour: bool) -> str:
    sink = io.StringIO()
    console = Console(
        file=sink,
        width=width,
        force_terminal=colour,
        no_color=not colour,
        color_system="256" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(what)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines()) + "\n"


def _head(s: Statistics) -> Text:
    if s.imported is not None:
        begin = "" if s.started_utc_ns is None else f"{moment(s.started_utc_ns)}, "
        spans = f"{begin}{s.duration_ns // 1_000_000_000:,} s of log"
        name = f"{s.imported.kind} {visible(s.imported.file)}"
        return Text.assemble((name, "bold"), f"\n{spans}")
    command = visible(" ".join(s.command), 200) or "(unknown command)"
    return Text.assemble((command, "bold"), f"\n{duration(s.duration_ns)}, {_ending(s)}")


def _ending(s: Statistics) -> str:
    if not s.outcome.complete:
        return "incomplete run"
    if s.outcome.signal:
        return f"killed by signal {s.outcome.signal}"
    code = s.outcome.exit_code
    return "ending not seen" if code is None else "succeeded" if code == 0 else f"exit code {code}"


def _finding(item: Finding) -> Any:
    style = _TONES[item.tone]
    grid = Table.grid(padding=(0, 1))
    body = Text(visible(item.headline), style=style)
    if item.meaning:
        body.append("\n" + visible(item.meaning, 600), style="dim" if style == "" else "not bold")
    grid.add_row(Text("!" if item.tone == "warning" else "•", style=style), body)
    return grid


def _phase(phase: Phase) -> Any:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=14)
    grid.add_column(justify="right")
    grid.add_column(justify="right")
    grid.add_column()
    grid.add_row(
        Text(visible(phase.title, 30), style="bold"),
        Text(duration(phase.duration_ns), style="bold"),
    )
    total = max(phase.duration_ns, 1)
    for cause, ns in list(phase.causes_ns.items())[:8]:
        bar = Text("█" * round(_BAR_CELLS * ns / total), style=palette.STYLES[cause].colour)
        grid.add_row(Text(f"  {cause}"), duration(ns), percent(ns / total), bar)
        if cause == "cpu" and phase.page_cache_ns:
            share = percent(phase.page_cache_ns / total)
            found = Text(plural(phase.page_cache_hits, "page-cache hit"), style="dim")
            grid.add_row(Text("    of it"), duration(phase.page_cache_ns), share, found)
    return grid


def _told(s: Statistics, imported: Imported) -> Table:
    """What a log tells, in numbers."""
    rows = {
        **{visible(name, 40): f"{count:,}" for name, count in imported.calls.items()},
        "lookups in the cache": f"{imported.lookups_hit:,} hit, {imported.lookups_missed:,} missed",
        "objects downloaded": f"{s.fetches.downloaded:,}",
        "  chunks or files": f"{s.fetches.chunks_downloaded:,}",
        "fetches that failed": f"{s.fetches.failed:,}",
        "fetches without an end": f"{s.fetches.unfinished:,}",
        **{f"requests to {visible(host, 40)}": f"{n:,}" for host, n in imported.hosts.items()},
        "files named": f"{imported.files_named:,}",
        "lines": f"{imported.lines:,}",
    }
    if imported.kind == "trace file":
        kept = (*(visible(name, 40) for name in imported.calls), "files named", "lines")
        rows = {name: rows[name] for name in kept}
    table = Table.grid(padding=(0, 3))
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table


def _rows(s: Statistics) -> dict[str, str]:
    cached = (
        f"{s.chunks_cached_at_start:,} of {s.chunks_looked_up:,}" if s.chunks_looked_up else "–"
    )
    return {
        "whole command": duration(s.duration_ns),
        **_phase_rows(s),
        "over HTTP": size(s.bytes.over_http),
        **_round_trip(s),
        "chunks downloaded": f"{s.fetches.chunks_downloaded:,}",
        "  at once, on average": f"{s.fetches.mean_at_once:.1f}" if s.fetches.busy_ns else "none",
        "chunks cached at start": cached,
        "FUSE requests": f"{s.counts['fuse_requests']:,}",
        "page-cache hits": hits(s.counts["page_cache_hits"], s.counts["page_cache_ns"]),
        **{source(name): size(count) for name, count in s.bytes.by_source.items() if count},
        "device idle": f"{duration(s.stalls.total_ns)} in {plural(s.stalls.count, 'stall')}",
        "events lost": f"{s.lost:,}",
        "against the client's counters": reconciled(s.reconciliation),
    }


def _round_trip(s: Statistics) -> dict[str, str]:
    trip_ns = s.network.round_trip_ns
    return {} if trip_ns is None else {"  round trip": duration(trip_ns)}


def _phase_rows(s: Statistics) -> dict[str, str]:
    """How long the phases of each name took, all together, and how long they waited for CVMFS."""
    rows: dict[str, str] = {}
    for name in dict.fromkeys(phase.name for phase in s.phases):
        same = [phase for phase in s.phases if phase.name == name]
        times = sum(phase.times for phase in same)
        title = f"phase {visible(name, 24)}" + (f", {times:,} times" if times > 1 else "")
        rows[title] = duration(sum(phase.duration_ns for phase in same))
        waited_ns = sum(phase.cvmfs_ns for phase in same)
        if waited_ns:
            rows[f"  waiting for CVMFS in {visible(name, 24)}"] = duration(waited_ns)
    return rows


def _grid(runs: Sequence[tuple[str, Statistics]], first: str) -> Table:
    table = Table(
        box=None,
        padding=(0, 3, 0, 0),
        show_header=len(runs) > 1,
        header_style="bold",
        show_edge=False,
    )
    table.add_column(first)
    for name, _ in runs:
        table.add_column(Text(visible(name)), justify="right" if len(runs) > 1 else "left")
    return table


def _numbers(runs: Sequence[tuple[str, Statistics]]) -> Table:
    columns = [_rows(statistics) for _, statistics in runs]
    table = _grid(runs, "")
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(Text(name), *(Text(column.get(name, "–")) for column in columns))
    return table


def _causes(runs: Sequence[tuple[str, Statistics]]) -> Table:
    """Causes of each phase, in the order of the palette, runs beside each other."""
    table = _grid(runs, "where the time went")
    names = dict.fromkeys(phase.name for _, s in runs for phase in s.phases)
    for name in names:
        spent = [_spent(s, name) for _, s in runs]
        used = [cause for cause in palette.ORDER if any(column.get(cause) for column in spent)]
        table.add_row(Text(visible(name, 24), style="bold"))
        for cause in used:
            cells = (duration(column[cause]) if column.get(cause) else "–" for column in spent)
            table.add_row(Text(f"  {cause}"), *(Text(cell) for cell in cells))
    return table


def _spent(s: Statistics, name: str) -> dict[str, int]:
    summed: dict[str, int] = {}
    for phase in s.phases:
        if phase.name == name:
            for cause, ns in phase.causes_ns.items():
                summed[cause] = summed.get(cause, 0) + ns
    return summed


def _slowest(s: Statistics) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for name in ("took", "first byte", "transfer", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("object", no_wrap=True)
    table.add_column("file and offset", overflow="fold")
    for chunk in s.slowest_chunks[:_SLOWEST]:
        parts = [
            duration(chunk.parts_ns[p]) if p in chunk.parts_ns else ""
            for p in ("first_byte", "transfer")
        ]
        at = "" if chunk.offset_bytes is None else f" @{chunk.offset_bytes / (1 << 20):,.1f} MiB"
        table.add_row(
            duration(chunk.duration_ns),
            *parts,
            "" if chunk.size_bytes is None else size(chunk.size_bytes),
            Text(visible(chunk.object_hash)[:8]),
            Text(visible(chunk.path or "no file known", 60) + at),
        )
    return table
