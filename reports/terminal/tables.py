"""The tables of the summary: a run's numbers and causes, its slowest chunks, a log's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from rich.table import Table
from rich.text import Text

from .. import palette
from ..escape import visible
from ..findings import chain
from ..findings.glance import at_a_glance
from ..material import WHOLE_COMMAND
from ..numbers.devices import Device
from ..numbers.log import Imported
from ..numbers.stalls import Stall
from ..numbers.statistics import Statistics
from ..palette import by_family
from ..words import duration, of_total, percent, plural, reconciled, shared, size

_SLOWEST = 5
#: stalls that are listed
_LONGEST = 3


def log_table(s: Statistics, imported: Imported) -> Table:
    """Return the numbers of a log; a trace file has calls and files only."""
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
    return {
        "whole command": duration(s.command_time.wall_ns),
        "  waiting for CVMFS": duration(s.command_time.cvmfs_ns),
        **_phase_rows(s),
        **{f"{'  ' if each.of else ''}{each.name}": each.text for each in at_a_glance(s)},
        "stalls of devices": f"{duration(s.stalls.total_ns)} in {plural(s.stalls.count, 'stall')}",
        "events lost": f"{s.lost:,}",
        "compared with the client's counters": reconciled(s.reconciliation),
    }


def _phase_rows(s: Statistics) -> dict[str, str]:
    """How long the phases of each name took together, and how long they waited for CVMFS."""
    rows: dict[str, str] = {}
    for name in dict.fromkeys(phase.name for phase in s.phases if phase.name != WHOLE_COMMAND):
        same = [phase for phase in s.phases if phase.name == name]
        times = sum(phase.times for phase in same)
        title = f"phase {visible(name, 24)}" + (f", {times:,} times" if times > 1 else "")
        rows[title] = duration(sum(phase.duration_ns for phase in same))
        waited_ns = sum(phase.cvmfs_ns for phase in same)
        if waited_ns:
            rows[f"  waiting for CVMFS in {visible(name, 24)}"] = duration(waited_ns)
    return rows


def devices_table(s: Statistics) -> Table:
    """Return what each device did, and what its stalls were spent on."""
    table = Table.grid(padding=(0, 2))
    for device in s.devices:
        table.add_row(Text(visible(device.label, 40), style="bold"), _did(device))
        if device.stalls:
            stalls = plural(device.stalls, "gap" if device.source == "cuda_api" else "stall")
            spent = shared(by_family(device.causes_ns))
            table.add_row("", f"{duration(device.stalled_ns)} in {stalls}: {spent}")
    return table


def lost_table(s: Statistics) -> Table:
    """Return what of the devices' time each phase lost to stalls, by cause."""
    table = Table.grid(padding=(0, 2))
    for phase in s.phases:
        if phase.stalled_ns:
            share = percent(sum(phase.stalled_ns.values()) / phase.device_ns)
            spent = of_total(phase.stalled_ns, phase.device_ns)
            table.add_row(Text(f"  in {visible(phase.title, 24)}"), f"{share}: {spent}")
    return table


def stall_lines(s: Statistics) -> list[Text]:
    """Return the longest stalls that waited for chunks, each with its steps to the worst one."""
    waited = (stall for stall in s.stalls.longest if stall.worst_chunk)
    return [_stall(s, stall) for stall in islice(waited, _LONGEST)]


def _did(device: Device) -> str:
    """What is known of a device's work; of calls alone nothing is."""
    match device.source:
        case "cuda_api":
            return "calls only: how long it was busy is not known"
        case "runner":
            return f"{plural(device.runs, 'inference')}, {duration(device.busy_ns)}"
        case _:
            copied = f"{size(device.copied_in_bytes)} copied in"
            return f"{plural(device.runs, 'kernel')}, busy {duration(device.busy_ns)}, {copied}"


def _stall(s: Statistics, stall: Stall) -> Text:
    worst, at = stall.worst_chunk, duration(stall.start_ns - s.start_ns)
    line = f"{duration(stall.duration_ns)} at {at}"
    return Text(line if worst is None else f"{line}: {duration(worst.ns)} {chain.steps(worst)}")


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


def numbers_table(runs: Sequence[tuple[str, Statistics]]) -> Table:
    """Return the numbers of each run in a column of its own."""
    columns = [_rows(statistics) for _, statistics in runs]
    table = _grid(runs, "")
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(Text(name), *(Text(column.get(name, "–")) for column in columns))
    return table


def causes_table(runs: Sequence[tuple[str, Statistics]]) -> Table:
    """Return the causes of each phase in the order of the palette, runs side by side."""
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


def chunks_table(s: Statistics) -> Table:
    """Return the slowest chunks."""
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
