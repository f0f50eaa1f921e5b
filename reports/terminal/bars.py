"""A time divided, a bar for each part: the command's wall time, a phase."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from .. import palette
from ..escape import visible
from ..findings.time import Holder, holders
from ..numbers.command import CommandTime
from ..numbers.phases import Phase
from ..words import capital, cause, duration, percent, plural

#: a part below this share of the whole is not shown
_SHOWN = 0.02
#: the longest bar, where there is room and where there is not
_CELLS, _FEW_CELLS = 24, 10
_WIDE = 96


def command_bars(time: CommandTime, width: int) -> Table:
    """Return the wall time by what the command did, and each of these by cause."""
    bars = _Bars(time.wall_ns, width)
    for holder in holders(time):
        if holder.ns >= _SHOWN * time.wall_ns:
            _add_holder(bars, holder)
    return bars.table(f"The command: {duration(time.wall_ns)}")


def _add_holder(bars: _Bars, holder: Holder) -> None:
    """Add what the command did, and its causes where there are several."""
    did = f"  {capital(holder.did)}"
    largest = sorted(holder.causes_ns.items(), key=lambda item: -item[1])
    rows = [(name, ns) for name, ns in largest if ns >= _SHOWN * bars.total_ns]
    if len(rows) < 2 and not holder.of_cvmfs:
        name, _ = largest[0]
        bars.add(f"{did} ({name})", holder.ns, palette.STYLES[name].colour)
        return
    bars.add(did, holder.ns)
    for name, ns in rows:
        bars.add(f"    {cause(name)}", ns, palette.STYLES[name].colour)


def phase_bars(phase: Phase, width: int) -> Table:
    """Return what a phase's thread spent its time on, wakers followed."""
    bars = _Bars(phase.duration_ns, width)
    rows = [(name, ns) for name, ns in phase.causes_ns.items() if ns >= _SHOWN * bars.total_ns]
    for name, ns in rows:
        bars.add(f"  {cause(name)}", ns, palette.STYLES[name].colour)
        if name == "cpu" and phase.page_cache_ns >= _SHOWN * bars.total_ns:
            hits = plural(phase.page_cache_hits, "page-cache hit")
            bars.add(f"    of that {hits}", phase.page_cache_ns)
    rest_ns = sum(phase.causes_ns.values()) - sum(ns for _, ns in rows)
    if rest_ns >= _SHOWN * bars.total_ns:
        bars.add("  other", rest_ns)
    return bars.table(f"{visible(phase.title, 30)}: {duration(phase.duration_ns)}")


class _Bars:
    """A table of parts of ``total_ns``, each with its name, time, share and bar."""

    def __init__(self, total_ns: int, width: int) -> None:
        self.total_ns = max(total_ns, 1)
        self._cells = _CELLS if width >= _WIDE else _FEW_CELLS
        self._rows: list[tuple[Text, str, str, Text]] = []

    def add(self, name: str, ns: int, colour: str = "") -> None:
        """Add a part."""
        share = ns / self.total_ns
        bar = Text("█" * round(self._cells * share), style=colour)
        self._rows.append((Text(name), duration(ns), percent(share), bar))

    def table(self, title: str) -> Table:
        """Return the table, below its title."""
        grid = Table.grid(padding=(0, 2))
        for justify in ("left", "right", "right", "left"):
            grid.add_column(justify=justify, no_wrap=justify == "right")
        grid.add_row(Text(title, style="bold"))
        for row in self._rows:
            grid.add_row(*row)
        return grid
