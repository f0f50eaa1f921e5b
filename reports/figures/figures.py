"""Plotly figures as plain data, from lanes and statistics. Nothing is computed from the run here.

Intervals are bricks of one-row heat maps: they are painted on a canvas, need no WebGL, answer the
pointer anywhere inside, and twenty thousand of them cost a few milliseconds.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import polars as pl

from .. import palette
from ..escape import as_plotly
from ..material import Window
from ..numbers.log import SERIES
from .encode import Json, column, seconds, typed
from .heat import Heat
from .timeline import DOWNLOAD_PARTS, Lane, LaneGroup, Waterfall

LEFT_MARGIN_PX, RIGHT_MARGIN_PX = 178, 24
_PHASE_MARGIN_PX = 230
_FONT = {
    "family": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
    "size": 12,
    "color": "#26323d",
}
_GRID = "#e6e9ed"
_MAX_CAPTIONS = 200
_INCIDENT_ROWS = 4
_LABEL_SHARE = 0.08
_FATAL = frozenset(("crash", "hang", "exit"))


def _layout(height_px: int, window: Window, y_axis: Json) -> Json:
    span = window.duration_ns / 1e9
    return {
        "height": height_px,
        "margin": {"l": LEFT_MARGIN_PX, "r": RIGHT_MARGIN_PX, "t": 6, "b": 26, "pad": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#ffffff",
        "font": _FONT,
        "showlegend": False,
        "hovermode": "closest",
        "hoverdistance": 2,
        "dragmode": "zoom",
        "xaxis": {
            "range": [0, span],
            "minallowed": 0,
            "maxallowed": span,
            "ticksuffix": " s",
            "gridcolor": _GRID,
            "zeroline": False,
            "tickfont": {"size": 11},
            "linecolor": "#c9d0d8",
            "showline": True,
            "nticks": 12,
        },
        "yaxis": {
            "fixedrange": True,
            "zeroline": False,
            "showgrid": False,
            "tickfont": {"size": 11},
        }
        | y_axis,
    }


def _colourscale(colours: list[str]) -> list[list[object]]:
    """One flat step per code, and a transparent one for gaps."""
    steps = [*colours, "rgba(255,255,255,0)"]
    return [
        [edge / len(steps), colour]
        for place, colour in enumerate(steps)
        for edge in (place, place + 1)
    ]


def _with_gaps(bricks: pl.DataFrame, gap_code: int) -> pl.DataFrame:
    """Return start_ns, end_ns, code, row with a brick for every gap between two bricks."""
    solid = bricks.select("start_ns", "end_ns", pl.col("code").cast(pl.Int32), "row")
    gaps = solid.select(
        pl.col("end_ns").shift(1).alias("start_ns"),
        pl.col("start_ns").alias("end_ns"),
        pl.lit(gap_code, dtype=pl.Int32).alias("code"),
        pl.lit(-1, dtype=pl.Int32).alias("row"),
    ).filter(pl.col("start_ns") < pl.col("end_ns"))
    return pl.concat([solid, gaps]).sort("start_ns")


def _lane_trace(
    bricks: pl.DataFrame, y: tuple[float, float], colours: list[str], origin_ns: int
) -> tuple[Json, Json]:
    """Return the heat map of a lane, and the place of each of its bricks in the details."""
    filled = _with_gaps(bricks, len(colours))
    edges = pl.concat([filled["start_ns"], filled["end_ns"].tail(1)])
    trace = {
        "type": "heatmap",
        "x": typed(seconds(edges, origin_ns), "f8"),
        "y": list(y),
        "z": typed(filled["code"], "u1", rows=1),
        "zmin": -0.5,
        "zmax": len(colours) + 0.5,
        "colorscale": _colourscale(colours),
        "showscale": False,
        "hoverinfo": "none",
    }
    return trace, typed(filled["row"], "i4")


def _edges(place: int, label: str) -> tuple[float, float]:
    thin = label == "fetches"
    return (-place - 0.36, -place + 0.5) if thin else (-place - 0.4, -place + 0.4)


def _details(bricks: pl.DataFrame, lanes: pl.Series, origin_ns: int) -> Json:
    known = ("start_ns", "end_ns", "code", "merged", "fetch_id", "row", "caption")
    extra = bricks.drop(known, strict=False)
    return {
        "start": typed(seconds(bricks["start_ns"], origin_ns), "f8"),
        "end": typed(seconds(bricks["end_ns"], origin_ns), "f8"),
        "code": typed(bricks["code"], "u1"),
        "merged": typed(bricks["merged"], "i4"),
        "fetch": typed(bricks["fetch_id"], "i4"),
        "lane": typed(lanes, "i4"),
        "columns": [column(extra[name]) for name in extra.columns],
    }


def _lane_height_px(count: int) -> int:
    return 22 if count <= 8 else 17 if count <= 14 else 13 if count <= 20 else 7


def lane_figure(group: LaneGroup, window: Window) -> Json:
    """Return a group's figure: Plotly's data and layout, the rows of its bricks, their details."""
    drawn = [(place, lane) for place, lane in enumerate(group.lanes) if lane.bricks.height]
    if not drawn:
        return {}
    columns = drawn[0][1].bricks.columns
    stacked = pl.concat([lane.bricks.select(columns) for _, lane in drawn], how="vertical_relaxed")
    together = stacked.with_row_index("row").cast({"row": pl.Int32})
    colours = [colour for _, colour in group.palette]
    traces: list[Json] = []
    rows: list[Json] = []
    first = 0
    for place, lane in drawn:
        part = together.slice(first, lane.bricks.height)
        trace, places = _lane_trace(part, _edges(place, lane.label), colours, window.start_ns)
        traces.append(trace)
        rows.append(places)
        first += lane.bricks.height
    lanes = pl.concat(
        [pl.repeat(p, lane.bricks.height, dtype=pl.Int32, eager=True) for p, lane in drawn]
    )
    layout = _layout(_height_px(group.lanes), window, _lane_axis(group.lanes))
    return {
        "data": traces,
        "layout": layout,
        "rows": rows,
        "details": _details(together, lanes, window.start_ns),
        "words": [name for name, _ in group.palette],
        "captions": _captions(drawn, window),
        "sparse": group.name != "threads",
    }


def _captions(drawn: list[tuple[int, Lane]], window: Window) -> list[Json]:
    """Return the names to write on bricks, from the column ``caption`` of lanes that have it.

    The page's script writes those for which the present zoom has room.
    """
    captions: list[Json] = []
    for place, lane in drawn:
        if "caption" not in lane.bricks.columns:
            continue
        named = lane.bricks.drop_nulls("caption").select("start_ns", "end_ns", "caption")
        for start, end, name in named.head(_MAX_CAPTIONS).iter_rows():
            captions.append(
                {
                    "start": (start - window.start_ns) / 1e9,
                    "end": (end - window.start_ns) / 1e9,
                    "y": -place,
                    "text": as_plotly(name, 24),
                }
            )
    return captions


def _height_px(lanes: tuple[Lane, ...]) -> int:
    return 34 + max(len(lanes) * _lane_height_px(len(lanes)), 40)


def _lane_axis(lanes: tuple[Lane, ...]) -> Json:
    labelled = [(place, lane) for place, lane in enumerate(lanes) if lane.label]
    return {
        "range": [-len(lanes) + 0.45, 0.55],
        "tickmode": "array",
        "tickvals": [-place for place, _ in labelled],
        "ticktext": [as_plotly(lane.label, 24) for _, lane in labelled],
    }


def waterfall_figure(downloads: Waterfall, window: Window) -> Json:
    """Return the downloads as a waterfall: one row each in the order sent, its parts stacked.

    A part whose end is unknown lasts to the next time that is known: a download that hangs before
    its first byte is all ``first_byte``.
    """
    rows = downloads.rows
    if not rows.height:
        return {}
    bounds = [pl.col("start_ns"), pl.col("sent_ns"), pl.col("first_byte_ns"),
              pl.col("last_byte_ns"), pl.col("end_ns")]  # fmt: skip
    known = rows.select(
        pl.coalesce(bound, *bounds[place + 1 :]).alias(f"b{place}")
        for place, bound in enumerate(bounds)
    )
    traces = [_part_trace(known, place, window) for place in range(len(DOWNLOAD_PARTS))]
    per_row = max(3, min(16, 420 // rows.height))
    detail = rows.with_columns(
        code=pl.lit(0, dtype=pl.UInt8),
        merged=pl.lit(1, dtype=pl.Int32),
        row=pl.lit(0, dtype=pl.Int32),
    ).drop("sent_ns", "first_byte_ns", "last_byte_ns")
    places = pl.Series(range(rows.height), dtype=pl.Int32)
    return {
        "data": traces,
        "layout": _layout(34 + max(per_row * rows.height, 48), window, _waterfall_axis(rows))
        | {"bargap": 0.12, "barmode": "overlay"},
        "rows": [typed(places, "i4")] * len(traces),
        "details": _details(detail, places, window.start_ns),
        "words": ["download"],
    }


def _part_trace(known: pl.DataFrame, place: int, window: Window) -> Json:
    start, end = known[f"b{place}"], known[f"b{place + 1}"]
    colour = palette.STYLES[DOWNLOAD_PARTS[place]].colour
    return {
        "type": "bar",
        "orientation": "h",
        "hoverinfo": "none",
        "base": typed(seconds(start, window.start_ns), "f8"),
        "x": typed((end - start).cast(pl.Float64) / 1e9, "f8"),
        "y": typed(pl.Series(range(0, -known.height, -1)), "i4"),
        "marker": {"color": colour, "line": {"width": 0.6, "color": colour}},
    }


def _waterfall_axis(rows: pl.DataFrame) -> Json:
    count = rows.height
    axis: Json = {"range": [-count + 0.4, 0.6], "tickmode": "array", "tickvals": [], "ticktext": []}
    if count <= 40:
        names = [
            _download_name(*row) for row in rows.select("file", "offset_bytes", "url").iter_rows()
        ]
        axis |= {
            "tickvals": [-n for n in range(count)],
            "ticktext": names,
            "tickfont": {"size": 10 if count <= 30 else 9},
        }
    return axis


def _download_name(path: str | None, offset_bytes: int | None, url: str) -> str:
    name = (path or url).rpartition("/")[2]
    if offset_bytes is None or path is None:
        return as_plotly(name, 25)
    return f"{as_plotly(name, 17)} @{offset_bytes / (1 << 20):.0f} MiB"


def phase_figure(phases: list[tuple[str, int, dict[str, int]]]) -> Json:
    """Return the stacked bars of causes; each phase is (name, duration_ns, ns by cause)."""
    if not phases:
        return {}
    places = list(range(0, -len(phases), -1))
    used = [c for c in palette.ORDER if any(causes.get(c) for _, _, causes in phases)]
    traces = [_cause_trace(cause, phases, places) for cause in used]
    labels = [
        f"{as_plotly(name, 20)}  <b>{duration / 1e9:.3g} s</b>" for name, duration, _ in phases
    ]
    window = Window(0, max(sum(causes.values()) for _, _, causes in phases) or 1)
    axis = {
        "range": [-len(phases) + 0.4, 0.6],
        "tickmode": "array",
        "tickvals": places,
        "ticktext": labels,
        "tickfont": {"size": 13},
    }
    layout = _layout(40 + 44 * len(phases), window, axis)
    layout["margin"] |= {"l": _PHASE_MARGIN_PX}
    layout |= {"barmode": "stack", "bargap": 0.25, "dragmode": False}
    layout["xaxis"]["fixedrange"] = True
    return {"data": traces, "layout": layout}


def _cause_trace(
    cause: str, phases: list[tuple[str, int, dict[str, int]]], places: list[int]
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
        "y": places,
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


def touches_figure(heat: Heat, window: Window) -> Json:
    """Return where a file was touched when."""
    axis = {"range": [heat.edges_mib[-1], 0], "ticksuffix": " MiB", "nticks": 6}
    edges = seconds(pl.Series(heat.edges_ns), window.start_ns)
    return {
        "data": [
            {
                "type": "heatmap",
                "x": typed(edges, "f8"),
                "y": heat.edges_mib,
                "z": typed(heat.mib, "f4", rows=len(heat.edges_mib) - 1),
                "colorscale": [
                    [0, "#f6f8fa"],
                    [0.001, "#cfe0ef"],
                    [0.5, "#5b8fc4"],
                    [1, "#16385c"],
                ],
                "showscale": False,
                "zmin": 0,
                "hovertemplate": "%{y:.0f} MiB into the file, at %{x:.2f} s: "
                "%{z:.2f} MiB touched<extra></extra>",
            }
        ],
        "layout": _layout(210, window, axis),
    }


def incidents_figure(incidents: Sequence[dict[str, Any]], window: Window) -> Json:
    """Return a mark for each incident, where it happened, that says all of it to the pointer."""
    if not incidents:
        return {}
    seconds_in = _seconds_in(incidents, window)
    label, late = _LABEL_SHARE * window.duration_ns / 1e9, 0.9 * window.duration_ns / 1e9
    rows = _rows_for_labels([at - label if at > late else at for at in seconds_in], label)
    trace = {
        "type": "scatter",
        "mode": "markers+text",
        "x": seconds_in,
        "y": [-row for row in rows],
        "text": [as_plotly(str(each["kind"]), 24) for each in incidents],
        "cliponaxis": False,
        "textposition": ["middle left" if at > late else "middle right" for at in seconds_in],
        "textfont": {"size": 11},
        "hoverinfo": "text",
        "marker": {"symbol": "diamond", "size": 9, "color": [*map(_incident_colour, incidents)]},
        "hovertext": [*map(_incident_text, incidents, seconds_in)],
    }
    used = max(rows) + 1
    axis: Json = {"range": [-used + 0.4, 0.6], "tickmode": "array", "tickvals": [], "ticktext": []}
    layout = _layout(34 + 20 * used, window, axis) | {"hoverdistance": 12}
    return {"data": [trace], "layout": layout}


def with_incidents(figure: Json, incidents: Sequence[dict[str, Any]], window: Window) -> Json:
    """Return a figure over time with a line through it at each incident."""
    lines = [
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
    return figure | {"layout": figure["layout"] | {"shapes": lines}}


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
    return palette.FATAL_COLOUR if incident["kind"] in _FATAL else palette.INCIDENT_COLOUR


def _rows_for_labels(begins: list[float], length: float) -> list[int]:
    """The first row on which each label has room; the last where none has."""
    free_from, rows = [float("-inf")] * _INCIDENT_ROWS, list[int]()
    for at in begins:
        row = next((n for n, free in enumerate(free_from) if free <= at), _INCIDENT_ROWS - 1)
        free_from[row] = at + length
        rows.append(row)
    return rows


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
        for name, colour in SERIES
        if name in counts
    ]
    axis = {"showgrid": True, "gridcolor": _GRID, "rangemode": "tozero"}
    layout = _layout(230, window, axis) | {"barmode": "overlay", "bargap": 0}
    return {"data": bars, "layout": layout} if bars else {}
