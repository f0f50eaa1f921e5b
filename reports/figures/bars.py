"""Stacked bars of what time went to, and bars that count what a log says over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from .. import palette
from ..escape import as_plotly
from ..material import WHOLE_COMMAND, Window
from ..numbers.command import CommandTime, ProcessTime
from ..numbers.log import SERIES
from ..numbers.phases import Phase
from ..numbers.statistics import Statistics
from ..words import duration, percent, plural
from .encode import Json
from .layout import GRID, layout_over_time

_MARGIN_PX, _BAR_PX = 230, 34
#: processes that have a bar, and phases
MAX_PROCESSES, MAX_PHASES = 8, 10
#: width of a character in a bar, as a share of the longest bar in a narrow window
_CHARACTER = 0.0125
#: share of the time by which all threads' time must differ from the command's to have a bar
_DIFFERS = 0.05
#: row of a log's counts: its height, and the part of it that is drawn in
_COUNTS_PX, _COUNTS_SHARE = 62, 0.8


@dataclass(frozen=True)
class TimeBar:
    """A bar: its name, the time, and what it went to.

    ``shown_ns``: how long it is drawn, where that is not the time itself.
    """

    name: str
    duration_ns: int
    causes_ns: dict[str, int]
    shown_ns: int = 0

    @property
    def scale(self) -> float:
        """How long a nanosecond is drawn."""
        return self.shown_ns / max(self.duration_ns, 1) if self.shown_ns else 1.0


def time_bars(s: Statistics) -> list[TimeBar]:
    """Return the command's wall time, all threads' time where it differs, the phases, and the
    processes where the first of them only waits.
    """
    command = s.command_time
    if not command.wall_ns:
        return []
    whole = TimeBar("the command", command.wall_ns, command.causes_ns)
    phases = [
        TimeBar(f"“{each.title}”", each.duration_ns, each.causes_ns) for each in _phases(s.phases)
    ]
    return [whole, *_all_threads(command), *phases, *_processes(command)]


def _phases(phases: Sequence[Phase]) -> list[Phase]:
    """The phases that the command marked, of many the longest."""
    marked = [phase for phase in phases if phase.name != WHOLE_COMMAND]
    longest = sorted(marked, key=lambda phase: -phase.duration_ns)[:MAX_PHASES]
    return [phase for phase in marked if phase in longest]


def _all_threads(command: CommandTime) -> list[TimeBar]:
    """All threads' lives, drawn as long as the command's time."""
    wall, threads = command.causes_ns, command.thread_causes_ns
    shares = (
        abs(wall.get(cause, 0) / command.wall_ns - threads.get(cause, 0) / command.threads_ns)
        for cause in {*wall, *threads}
    )
    if not command.threads_ns or sum(shares) / 2 < _DIFFERS:
        return []
    return [TimeBar("all its threads", command.threads_ns, threads, command.wall_ns)]


def _processes(command: CommandTime) -> list[TimeBar]:
    """The processes, the longest first, the others as one of average length."""
    if command.process_count < 2 or not _only_waits(command.processes):
        return []
    most = len(command.processes) if len(command.processes) <= MAX_PROCESSES + 1 else MAX_PROCESSES
    shown, rest = command.processes[:most], command.processes[most:]
    bars = [TimeBar(f"{each.name} {each.pid}", each.wall_ns, each.causes_ns) for each in shown]
    return [*bars, _average(rest)] if rest else bars


def _only_waits(processes: tuple[ProcessTime, ...]) -> bool:
    """Whether the process that began first slept more than half of its time."""
    first = min(processes, key=lambda each: each.start_ns)
    return 2 * first.causes_ns.get("blocked", 0) > first.wall_ns


def _average(processes: tuple[ProcessTime, ...]) -> TimeBar:
    sums: dict[str, int] = {}
    for each in processes:
        for cause, ns in each.causes_ns.items():
            sums[cause] = sums.get(cause, 0) + ns
    count = len(processes)
    mean = {cause: ns // count for cause, ns in sums.items()}
    return TimeBar(f"{plural(count, 'other')}, mean", sum(mean.values()), mean)


def time_figure(bars: list[TimeBar]) -> Json:
    """Return the bars, each divided by cause."""
    if not bars:
        return {}
    used = [c for c in palette.ORDER if any(bar.causes_ns.get(c) for bar in bars)]
    rows = list(range(0, -len(bars), -1))
    longest = max(sum(bar.causes_ns.values()) * bar.scale for bar in bars) or 1
    axis = {
        "range": [-len(bars) + 0.4, 0.6],
        "tickmode": "array",
        "tickvals": rows,
        "ticktext": [
            f"{as_plotly(bar.name, 20)}  <b>{duration(bar.duration_ns)}</b>" for bar in bars
        ],
        "tickfont": {"size": 13},
    }
    layout = layout_over_time(40 + _BAR_PX * len(bars), Window(0, round(longest)), axis)
    layout["margin"] |= {"l": _MARGIN_PX}
    layout |= {"barmode": "stack", "bargap": 0.25, "dragmode": False}
    layout["xaxis"]["fixedrange"] = True
    return {"data": [_cause_trace(cause, bars, longest) for cause in used], "layout": layout}


def _cause_trace(cause: str, bars: list[TimeBar], longest: float) -> Json:
    spent = [bar.causes_ns.get(cause, 0) for bar in bars]
    shares = [
        percent(ns / max(sum(bar.causes_ns.values()), 1))
        for ns, bar in zip(spent, bars, strict=True)
    ]
    style = palette.STYLES[cause]
    drawn = [ns * bar.scale for ns, bar in zip(spent, bars, strict=True)]
    return {
        "type": "bar",
        "orientation": "h",
        "name": cause,
        "x": [ns / 1e9 for ns in drawn],
        "y": list(range(0, -len(bars), -1)),
        "marker": {"color": style.colour, "line": {"width": 0.5, "color": "#ffffff"}},
        "text": [
            _caption(f"{cause} {share}", ns / longest)
            for ns, share in zip(drawn, shares, strict=True)
        ],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "constraintext": "none",
        "insidetextfont": {"size": 11, "color": palette.ink_on(style.colour)},
        "hovertemplate": [
            f"<b>{cause}</b>: {duration(ns)}, {share} of {as_plotly(bar.name, 40)}"
            f"<br>{style.meaning}<extra></extra>"
            for ns, share, bar in zip(spent, shares, bars, strict=True)
        ],
    }


def _caption(text: str, width: float) -> str:
    """The text where a part this wide, as a share of the figure, has room for it."""
    return text if width >= _CHARACTER * len(text) else ""


def counts_figure(counts: dict[str, pl.DataFrame], width_ns: int, window: Window) -> Json:
    """Return how often things happened over time: a row for each, a bar for each ``width_ns``."""
    named = [name for name in SERIES if name in counts]
    if not named:
        return {}
    colours: dict[str, str] = dict(zip(SERIES, palette.LOG_COLOURS, strict=True))
    bars = [
        _counts_trace(name, counts[name], width_ns / 1e9)
        | {"marker": {"color": colours[name]}, "yaxis": _axis_name("y", row)}
        for row, name in enumerate(named)
    ]
    layout = layout_over_time(34 + _COUNTS_PX * len(named), window, {})
    layout["bargap"] = 0
    axes: Json = {
        _axis_name("yaxis", row): layout["yaxis"] | _counts_axis(row, len(named))
        for row in range(len(named))
    }
    layout["annotations"] = [_counts_name(row, len(named), name) for row, name in enumerate(named)]
    layout["xaxis"]["anchor"] = _axis_name("y", len(named) - 1)
    return {"data": bars, "layout": layout | axes}


def _axis_name(letter: str, row: int) -> str:
    return f"{letter}{row + 1}" if row else letter


def _counts_name(row: int, rows: int, name: str) -> Json:
    """The name of a row, left of its axis."""
    return {
        "text": name,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": (rows - 1 - row + _COUNTS_SHARE / 2) / rows,
        "xanchor": "right",
        "xshift": -48,
        "showarrow": False,
    }


def _counts_axis(row: int, rows: int) -> Json:
    """The row's own axis, the first row on top."""
    low = (rows - 1 - row) / rows
    return {
        "domain": [low, low + _COUNTS_SHARE / rows],
        "showgrid": True,
        "gridcolor": GRID,
        "rangemode": "tozero",
        "nticks": 3,
        "tickformat": ",d",
    }


def _counts_trace(name: str, counted: pl.DataFrame, width_s: float) -> Json:
    return {
        "type": "bar",
        "name": name,
        "x": [(bar + 0.5) * width_s for bar in counted["bar"]],
        "y": counted["number"].to_list(),
        "width": width_s,
        "hovertemplate": f"%{{y:,}} {name} in {width_s:g} s<extra></extra>",
    }
