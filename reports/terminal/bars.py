"""A time divided, a bar for each part: the command's wall time, a phase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table
from rich.text import Text

from .. import palette
from ..escape import visible
from ..findings.time import Holder, holders
from ..numbers.command import CommandTime
from ..numbers.phases import Phase
from ..words import capital, cause, duration, percent, plural

_CELLS = 24
#: a part below this share of the whole is not shown
_SHOWN = 0.01
#: causes of a phase that are shown
_CAUSES = 8


def command_bars(time: CommandTime) -> Table:
    """Return the wall time by what the command did, and each of these by cause."""
    table = _table(f"The command: {duration(time.wall_ns)}")
    for holder in holders(time):
        if holder.ns >= _SHOWN * time.wall_ns:
            _add_holder(table, holder, time.wall_ns)
    return table


def _add_holder(table: Table, holder: Holder, wall_ns: int) -> None:
    """Add what the command did, and its causes where there are several."""
    rows = [(name, ns) for name, ns in _largest(holder.causes_ns) if ns >= _SHOWN * wall_ns]
    if len(rows) < 2 and not holder.of_cvmfs:
        name, _ = next(iter(_largest(holder.causes_ns)))
        colour = palette.STYLES[name].colour
        _add(table, f"  {capital(holder.did)} ({name})", holder.ns, wall_ns, colour)
        return
    _add(table, f"  {capital(holder.did)}", holder.ns, wall_ns)
    for name, ns in rows:
        _add(table, f"    {cause(name)}", ns, wall_ns, palette.STYLES[name].colour)


def phase_bars(phase: Phase) -> Table:
    """Return what a phase's thread spent its time on, wakers followed."""
    table = _table(f"{visible(phase.title, 30)}: {duration(phase.duration_ns)}")
    for name, ns in list(phase.causes_ns.items())[:_CAUSES]:
        _add(table, f"  {cause(name)}", ns, phase.duration_ns, palette.STYLES[name].colour)
        if name == "cpu" and phase.page_cache_ns:
            hits = plural(phase.page_cache_hits, "page-cache hit")
            _add(table, f"    of that {hits}", phase.page_cache_ns, phase.duration_ns)
    rest_ns = sum(ns for _, ns in list(phase.causes_ns.items())[_CAUSES:])
    if rest_ns:
        _add(table, "  other", rest_ns, phase.duration_ns)
    return table


def _largest(causes_ns: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    return sorted(causes_ns.items(), key=lambda item: -item[1])


def _table(title: str) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="crop")
    grid.add_row(Text(title, style="bold"))
    return grid


def _add(table: Table, name: str, ns: int, total_ns: int, colour: str = "") -> None:
    share = ns / max(total_ns, 1)
    bar = Text("█" * round(_CELLS * share), style=colour)
    table.add_row(Text(name), duration(ns), percent(share), bar)
