"""Lanes of bricks, and their Plotly figure as plain data.

Intervals are bricks of one-row heat maps. These are painted on a canvas, need no WebGL, react to
the pointer anywhere inside, and twenty thousand of them take a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..escape import as_plotly
from ..material import Window
from .encode import Json, column, seconds, typed
from .layout import layout_over_time

_MAX_CAPTIONS = 200

Palette = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Lane:
    """One row: its label and its bricks."""

    label: str
    bricks: pl.DataFrame


@dataclass(frozen=True)
class LaneGroup:
    """Lanes with a common palette and details; ``note`` says what was merged or left out."""

    name: str
    title: str
    explanation: str
    palette: Palette
    lanes: tuple[Lane, ...]
    note: str = ""


def _colourscale(colours: list[str]) -> list[list[object]]:
    """One step of plain colour per code, and a transparent one for gaps."""
    steps = [*colours, "rgba(255,255,255,0)"]
    return [
        [edge / len(steps), colour]
        for index, colour in enumerate(steps)
        for edge in (index, index + 1)
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
    """Return the heat map of a lane, and the index of each of its bricks in the details."""
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


def _edges(index: int, label: str) -> tuple[float, float]:
    thin = label == "fetches"
    return (-index - 0.36, -index + 0.5) if thin else (-index - 0.4, -index + 0.4)


def details(bricks: pl.DataFrame, lanes: pl.Series, origin_ns: int) -> Json:
    """Return what the page's script needs of each brick; ``lanes`` is the row that it lies on."""
    common = ("start_ns", "end_ns", "code", "merged", "fetch_id", "row", "caption")
    special = bricks.drop(common, strict=False)
    return {
        "start": typed(seconds(bricks["start_ns"], origin_ns), "f8"),
        "end": typed(seconds(bricks["end_ns"], origin_ns), "f8"),
        "code": typed(bricks["code"], "u1"),
        "merged": typed(bricks["merged"], "i4"),
        "fetch": typed(bricks["fetch_id"], "i4"),
        "lane": typed(lanes, "i4"),
        "columns": [column(special[name]) for name in special.columns],
    }


def _lane_height_px(count: int) -> int:
    return 22 if count <= 8 else 17 if count <= 14 else 13 if count <= 20 else 7


def lane_figure(group: LaneGroup, window: Window) -> Json:
    """Return a group's figure: Plotly's data and layout, the rows of its bricks, their details."""
    drawn = [(index, lane) for index, lane in enumerate(group.lanes) if lane.bricks.height]
    if not drawn:
        return {}
    columns = drawn[0][1].bricks.columns
    stacked = pl.concat([lane.bricks.select(columns) for _, lane in drawn], how="vertical_relaxed")
    together = stacked.with_row_index("row").cast({"row": pl.Int32})
    colours = [colour for _, colour in group.palette]
    traces: list[Json] = []
    rows: list[Json] = []
    first = 0
    for index, lane in drawn:
        part = together.slice(first, lane.bricks.height)
        trace, indices = _lane_trace(part, _edges(index, lane.label), colours, window.start_ns)
        traces.append(trace)
        rows.append(indices)
        first += lane.bricks.height
    lanes = pl.concat(
        [pl.repeat(p, lane.bricks.height, dtype=pl.Int32, eager=True) for p, lane in drawn]
    )
    layout = layout_over_time(_height_px(group.lanes), window, _lane_axis(group.lanes))
    return {
        "data": traces,
        "layout": layout,
        "rows": rows,
        "details": details(together, lanes, window.start_ns),
        "words": [name for name, _ in group.palette],
        "captions": _captions(drawn, window),
        "sparse": group.name != "threads",
    }


def _captions(drawn: list[tuple[int, Lane]], window: Window) -> list[Json]:
    """Return the names to write on bricks, from the column ``caption`` of lanes that have it.

    The page's script writes those that fit at the current zoom.
    """
    captions: list[Json] = []
    for index, lane in drawn:
        if "caption" not in lane.bricks.columns:
            continue
        named = lane.bricks.drop_nulls("caption").select("start_ns", "end_ns", "caption")
        for start, end, name in named.head(_MAX_CAPTIONS).iter_rows():
            captions.append(
                {
                    "start": (start - window.start_ns) / 1e9,
                    "end": (end - window.start_ns) / 1e9,
                    "y": -index,
                    "text": as_plotly(name, 24),
                }
            )
    return captions


def _height_px(lanes: tuple[Lane, ...]) -> int:
    return 34 + max(len(lanes) * _lane_height_px(len(lanes)), 40)


def _lane_axis(lanes: tuple[Lane, ...]) -> Json:
    labelled = [(index, lane) for index, lane in enumerate(lanes) if lane.label]
    return {
        "range": [-len(lanes) + 0.45, 0.55],
        "tickmode": "array",
        "tickvals": [-index for index, _ in labelled],
        "ticktext": [as_plotly(lane.label, 24) for _, lane in labelled],
    }
