"""What stands in every figure over time: a line at each incident, the longest stalls shaded; and
the marks of the incidents.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from .. import palette
from ..escape import as_plotly
from ..material import Window
from ..numbers.stalls import Stall
from .encode import Json
from .layout import layout_over_time

_INCIDENT_ROWS = 4
_LABEL_SHARE = 0.08
#: stalls that are shaded, and how strongly
_SHADED, _SHADE = 40, 0.16
_FATAL = frozenset(("crash", "hang", "exit", "dead"))


def incidents_figure(incidents: Sequence[dict[str, Any]], window: Window) -> Json:
    """Return a mark for each incident at its time; the pointer shows its details."""
    if not incidents:
        return {}
    seconds_in = _seconds_in(incidents, window)
    label, late = _LABEL_SHARE * window.duration_ns / 1e9, 0.9 * window.duration_ns / 1e9
    rows = _rows_for_labels([at - label if at > late else at for at in seconds_in], label)
    trace = {
        "type": "scatter",
        "mode": "markers+text",
        "x": seconds_in,
        "y": [-(_INCIDENT_ROWS - 1 if row is None else row) for row in rows],
        "text": [
            "" if row is None else as_plotly(str(each["kind"]), 24)
            for each, row in zip(incidents, rows, strict=True)
        ],
        "cliponaxis": False,
        "textposition": ["middle left" if at > late else "middle right" for at in seconds_in],
        "textfont": {"size": 11},
        "hoverinfo": "text",
        "marker": {"symbol": "diamond", "size": 9, "color": [*map(_incident_colour, incidents)]},
        "hovertext": [*map(_incident_text, incidents, seconds_in)],
    }
    used = _INCIDENT_ROWS if None in rows else max(row or 0 for row in rows) + 1
    axis: Json = {"range": [-used + 0.4, 0.6], "tickmode": "array", "tickvals": [], "ticktext": []}
    layout = layout_over_time(34 + 20 * used, window, axis) | {"hoverdistance": 12}
    return {"data": [trace], "layout": layout}


def with_marks(figure: Json, marks: Sequence[Json]) -> Json:
    """Return the figure with these shapes."""
    return figure | {"layout": figure["layout"] | {"shapes": list(marks)}}


def stall_shades(stalls: Sequence[Stall], window: Window) -> list[Json]:
    """Return a shade behind every lane for each of the longest stalls, in its cause's colour."""
    return [
        {
            "type": "rect",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "x0": (stall.start_ns - window.start_ns) / 1e9,
            "x1": (stall.end_ns - window.start_ns) / 1e9,
            "line": {"width": 0},
            "opacity": _SHADE,
            "fillcolor": palette.STYLES[palette.held_by(stall.causes_ns)].colour,
        }
        for stall in stalls[:_SHADED]
        if stall.causes_ns
    ]


def incident_lines(incidents: Sequence[dict[str, Any]], window: Window) -> list[Json]:
    """Return a vertical line at each incident."""
    return [
        {
            "type": "line",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "layer": "above",
            "x0": at,
            "x1": at,
            "line": {"width": 1, "dash": "dot", "color": _incident_colour(each)},
        }
        for each, at in zip(incidents, _seconds_in(incidents, window), strict=True)
    ]


def _seconds_in(incidents: Sequence[dict[str, Any]], window: Window) -> list[float]:
    return [(each["time_ns"] - window.start_ns) / 1e9 for each in incidents]


def _incident_text(incident: dict[str, Any], seconds_in: float) -> str:
    names = {"process": "pid", "thread": "tid", "signal": "signal"}
    who = [f"{word} {incident[key]}" for word, key in names.items() if incident[key] is not None]
    kind = as_plotly(str(incident["kind"]), 24)
    head = ", ".join((f"<b>{kind}</b> at {seconds_in:.6g} s", *who))
    lines = textwrap.wrap(str(incident["detail"]), 90)
    return "<br>".join((head, *(as_plotly(line) for line in lines)))


def _incident_colour(incident: dict[str, Any]) -> str:
    return palette.FAILED_COLOUR if incident["kind"] in _FATAL else palette.INCIDENT_COLOUR


def _rows_for_labels(begins: list[float], length: float) -> list[int | None]:
    """The first row that has room for each label; None where none has."""
    free_from, rows = [float("-inf")] * _INCIDENT_ROWS, list[int | None]()
    for at in begins:
        row = next((n for n, free in enumerate(free_from) if free <= at), None)
        if row is not None:
            free_from[row] = at + length
        rows.append(row)
    return rows
