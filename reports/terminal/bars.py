"""A time divided, a bar for each part: the command's wall time, a phase."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from .. import palette
from ..escape import visible
from ..findings.time import Holder, cvmfs_cause, holders
from ..numbers.command import CommandTime
from ..numbers.phases import Phase
from ..words import capital, cause, duration, percent, plural

#: a part below this share of the whole is not shown by itself, nor a cause of such a part
_SHOWN, _CAUSE_SHOWN = 0.02, 0.05
#: all parts without a row have one together from this share on
_SUMMED = 0.001
#: the longest bar, where there is room and where there is not
_CELLS, _FEW_CELLS = 24, 10
_WIDE = 96


def command_bars(time: CommandTime, width: int) -> Table:
    """Return the wall time by what the command did, and each of these by cause."""
    bars = _Bars(time.wall_ns, width)
    did = {each.did: each for each in holders(time)}
    shown, rest_ns = bars.largest({name: each.ns for name, each in did.items()})
    for name in shown:
        _add_holder(bars, did[name])
    bars.add_rest("  Other", rest_ns)
    return bars.table(f"The command: {duration(time.wall_ns)}")


def _add_holder(bars: _Bars, holder: Holder) -> None:
    """Add what the command did, and its causes where there are several."""
    did = f"  {capital(holder.did)}"
    causes, rest_ns = bars.largest(holder.causes_ns, _CAUSE_SHOWN)
    if len(causes) == 1 and not bars.shows(rest_ns) and not holder.of_cvmfs:
        (name,) = causes
        bars.add(f"{did} ({name})", holder.ns, palette.STYLES[name].colour)
        return
    bars.add(did, holder.ns)
    for name, ns in causes.items():
        what = cvmfs_cause(name) if holder.of_cvmfs else cause(name)
        bars.add(f"    {what}", ns, palette.STYLES[name].colour)
    if causes:
        bars.add_rest("    other", rest_ns)


def phase_bars(phase: Phase, width: int) -> Table:
    """Return what a phase's thread spent its time on, wakers followed."""
    bars = _Bars(phase.duration_ns, width)
    causes, rest_ns = bars.largest(phase.causes_ns)
    for name, ns in causes.items():
        bars.add(f"  {cause(name)}", ns, palette.STYLES[name].colour)
        if name == "cpu" and phase.page_cache_ns >= _SHOWN * bars.total_ns:
            hits = plural(phase.page_cache_hits, "page-cache hit")
            bars.add(f"    of that {hits}", phase.page_cache_ns)
    bars.add_rest("  other", rest_ns)
    return bars.table(f"{visible(phase.title, 30)}: {duration(phase.duration_ns)}")


class _Bars:
    """A table of parts of ``total_ns``, each with its name, time, share and bar."""

    def __init__(self, total_ns: int, width: int) -> None:
        self.total_ns = max(total_ns, 1)
        self._cells = _CELLS if width >= _WIDE else _FEW_CELLS
        self._rows: list[tuple[Text, str, str, Text]] = []

    def largest(
        self, parts: Mapping[str, int], least: float = _SHOWN
    ) -> tuple[dict[str, int], int]:
        """Return the parts that have rows of their own, the largest first, and the sum of others.

        A part that would be alone in the row of the others has one of its own.
        """
        ordered = dict(sorted(parts.items(), key=lambda item: -item[1]))
        shown = {part: ns for part, ns in ordered.items() if ns >= least * self.total_ns}
        rest_ns = sum(parts.values()) - sum(shown.values())
        is_alone = len(shown) == len(parts) - 1 and self.shows(rest_ns)
        return (ordered, 0) if is_alone else (shown, rest_ns)

    def shows(self, rest_ns: int) -> bool:
        """Whether parts too small to be shown have a row together."""
        return rest_ns > _SUMMED * self.total_ns

    def add_rest(self, name: str, rest_ns: int) -> None:
        """Add the parts too small to be shown by themselves, so that all sum to their whole."""
        if self.shows(rest_ns):
            self.add(name, rest_ns)

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
