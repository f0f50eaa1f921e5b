"""Stacked bars of the phases' causes, and bars that count what a log says over time."""

from __future__ import annotations

import polars as pl

from .. import palette
from ..escape import as_plotly
from ..material import Window
from ..numbers.log import SERIES
from .encode import Json
from .layout import GRID, layout_over_time

_PHASE_MARGIN_PX = 230


def phase_figure(phases: list[tuple[str, int, dict[str, int]]]) -> Json:
    """Return the stacked bars of causes; each phase is (name, duration_ns, ns by cause)."""
    if not phases:
        return {}
    rows = list(range(0, -len(phases), -1))
    used = [c for c in palette.ORDER if any(causes.get(c) for _, _, causes in phases)]
    traces = [_cause_trace(cause, phases, rows) for cause in used]
    labels = [
        f"{as_plotly(name, 20)}  <b>{duration / 1e9:.3g} s</b>" for name, duration, _ in phases
    ]
    window = Window(0, max(sum(causes.values()) for _, _, causes in phases) or 1)
    axis = {
        "range": [-len(phases) + 0.4, 0.6],
        "tickmode": "array",
        "tickvals": rows,
        "ticktext": labels,
        "tickfont": {"size": 13},
    }
    layout = layout_over_time(40 + 44 * len(phases), window, axis)
    layout["margin"] |= {"l": _PHASE_MARGIN_PX}
    layout |= {"barmode": "stack", "bargap": 0.25, "dragmode": False}
    layout["xaxis"]["fixedrange"] = True
    return {"data": traces, "layout": layout}


def _cause_trace(
    cause: str, phases: list[tuple[str, int, dict[str, int]]], rows: list[int]
) -> Json:
    spent = [causes.get(cause, 0) for _, _, causes in phases]
    totals = [max(sum(causes.values()), 1) for _, _, causes in phases]
    shares = [100 * ns / total for ns, total in zip(spent, totals, strict=True)]
    wide_ns = 0.09 * max(totals)
    return {
        "type": "bar",
        "orientation": "h",
        "name": cause,
        "x": [ns / 1e9 for ns in spent],
        "y": rows,
        "marker": {
            "color": palette.STYLES[cause].colour,
            "line": {"width": 0.5, "color": "#ffffff"},
        },
        "text": [
            f"{cause} {share:.0f} %" if ns >= wide_ns else ""
            for ns, share in zip(spent, shares, strict=True)
        ],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "constraintext": "none",
        "insidetextfont": {"size": 11},
        "hovertemplate": [
            f"<b>{cause}</b>: {ns / 1e6:,.4g} ms, {share:.3g} % of {as_plotly(name, 40)}"
            f"<br>{palette.STYLES[cause].meaning}<extra></extra>"
            for ns, share, (name, _, _) in zip(spent, shares, phases, strict=True)
        ],
    }


def counts_figure(counts: dict[str, pl.DataFrame], width_ns: int, window: Window) -> Json:
    """Return how often things happened over time: a bar for each ``width_ns``."""
    width_s = width_ns / 1e9
    bars = [
        {
            "type": "bar",
            "name": name,
            "marker": {"color": colour},
            "x": [(bar + 0.5) * width_s for bar in counts[name]["bar"]],
            "y": counts[name]["number"].to_list(),
            "width": width_s,
            "hovertemplate": f"%{{y:,}} {name} in {width_s:g} s<extra></extra>",
        }
        for name, colour in zip(SERIES, palette.LOG_COLOURS, strict=True)
        if name in counts
    ]
    axis = {"showgrid": True, "gridcolor": GRID, "rangemode": "tozero"}
    layout = layout_over_time(230, window, axis) | {"barmode": "overlay", "bargap": 0}
    return {"data": bars, "layout": layout} if bars else {}
