"""Lanes of bricks, and their Plotly figure as plain data.

Intervals are bricks of one-row heat maps. These are painted on a canvas, need no WebGL, react to
the pointer anywhere inside, and twenty thousand of them take a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..escape import as_plotly
from ..material import Window
from ..palette import ink_on
from .encode import Json, column, seconds, typed
from .layout import layout_over_time

_MAX_CAPTIONS = 200

Palette = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Line:
    """A thin line over a lane: ``points`` are time_ns and height, from 0 to 1 in the lane."""

    colour: str
    points: pl.DataFrame


@dataclass(frozen=True)
class Lane:
    """One row: its label, its bricks, and the lines over them, for which it is twice as high.

    The label may have several lines.
    """

    label: str
    bricks: pl.DataFrame
    lines: tuple[Line, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows it takes."""
        return 2 if self.lines else 1


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


def _middles(lanes: tuple[Lane, ...]) -> list[float]:
    """Where the middle of each lane is: the first is at 0, the others below it."""
    middles, above = list[float](), -0.5
    for lane in lanes:
        middles.append(above + lane.rows / 2)
        above += lane.rows
    return middles


def _edges(middle: float, lane: Lane) -> tuple[float, float]:
    if lane.label == "fetches":
        return -middle - 0.36, -middle + 0.5
    half = lane.rows / 2 - 0.1
    return -middle - half, -middle + half


def _line_trace(line: Line, edges: tuple[float, float], origin_ns: int) -> Json:
    low, high = edges
    heights = low + line.points["height"] * (high - low)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": typed(seconds(line.points["time_ns"], origin_ns), "f8"),
        "y": typed(heights, "f4"),
        "line": {"width": 1.2, "color": line.colour},
        "hoverinfo": "skip",
    }


def details(bricks: pl.DataFrame, lanes: pl.Series, origin_ns: int) -> Json:
    """Return what the page's script needs of each brick; ``lanes`` is the row that it lies on,
    counted downwards.
    """
    common = ("start_ns", "end_ns", "code", "merged", "fetch_id", "row", "caption")
    special = bricks.drop(common, strict=False)
    return {
        "start": typed(seconds(bricks["start_ns"], origin_ns), "f8"),
        "end": typed(seconds(bricks["end_ns"], origin_ns), "f8"),
        "code": typed(bricks["code"], "u1"),
        "merged": typed(bricks["merged"], "i4"),
        "fetch": typed(bricks["fetch_id"], "i4"),
        "lane": typed(lanes, "f4"),
        "columns": [column(special[name]) for name in special.columns],
    }


def _lane_height_px(count: int) -> int:
    return 22 if count <= 8 else 17 if count <= 14 else 13 if count <= 20 else 11


def lane_figure(group: LaneGroup, window: Window) -> Json:
    """Return a group's figure: Plotly's data and layout, the rows of its bricks, their details."""
    drawn = [(index, lane) for index, lane in enumerate(group.lanes) if lane.bricks.height]
    if not drawn:
        return {}
    stacked = pl.concat([lane.bricks for _, lane in drawn], how="diagonal_relaxed")
    together = stacked.with_row_index("row").cast({"row": pl.Int32})
    colours = [colour for _, colour in group.palette]
    traces: list[Json] = []
    rows: list[Json] = []
    first, middles = 0, _middles(group.lanes)
    for index, lane in drawn:
        part, edges = together.slice(first, lane.bricks.height), _edges(middles[index], lane)
        trace, indices = _lane_trace(part, edges, colours, window.start_ns)
        traces.append(trace)
        rows.append(indices)
        first += lane.bricks.height
    lanes = pl.concat(
        [pl.repeat(middles[at], lane.bricks.height, eager=True) for at, lane in drawn]
    )
    traces += _line_traces(group.lanes, window)
    layout = layout_over_time(_height_px(group.lanes), window, _lane_axis(group.lanes))
    return {
        "data": traces,
        "layout": layout,
        "rows": rows,
        "details": details(together, lanes, window.start_ns),
        "words": [name for name, _ in group.palette],
        "captions": _captions(drawn, middles, (window, colours)),
        "sparse": group.name not in ("command", "threads"),
    }


def _line_traces(lanes: tuple[Lane, ...], window: Window) -> list[Json]:
    return [
        _line_trace(line, _edges(middle, lane), window.start_ns)
        for middle, lane in zip(_middles(lanes), lanes, strict=True)
        for line in lane.lines
    ]


def _captions(
    drawn: list[tuple[int, Lane]], middles: list[float], scale: tuple[Window, list[str]]
) -> list[Json]:
    """Return the names to write on bricks, from the column ``caption`` of lanes that have it.

    ``scale``: the window, and the colours by code. The page's script writes those that fit at the
    current zoom.
    """
    window, colours = scale
    size_px = min(_lane_height_px(_rows(tuple(lane for _, lane in drawn))) - 2, 11.5)
    captions: list[Json] = []
    for index, lane in drawn:
        if "caption" not in lane.bricks.columns:
            continue
        named = lane.bricks.drop_nulls("caption").select("start_ns", "end_ns", "caption", "code")
        inks = [ink_on(colour) for colour in colours]
        for start, end, name, code in named.head(_MAX_CAPTIONS).iter_rows():
            captions.append(
                {
                    "start": (start - window.start_ns) / 1e9,
                    "end": (end - window.start_ns) / 1e9,
                    "y": -middles[index],
                    "text": as_plotly(name, 24),
                    "ink": inks[code],
                    "size": size_px,
                }
            )
    return captions


def _height_px(lanes: tuple[Lane, ...]) -> int:
    rows = _rows(lanes)
    return 34 + max(rows * _lane_height_px(rows), 40)


def _rows(lanes: tuple[Lane, ...]) -> int:
    return sum(lane.rows for lane in lanes)


def _lane_axis(lanes: tuple[Lane, ...]) -> Json:
    labelled = [at for at in zip(_middles(lanes), lanes, strict=True) if at[1].label]
    return {
        "range": [-_rows(lanes) + 0.45, 0.55],
        "tickmode": "array",
        "tickvals": [-middle for middle, _ in labelled],
        "ticktext": [_tick(lane.label) for _, lane in labelled],
        "tickfont": {"size": 11 if _rows(lanes) <= 20 else 9},
    }


def _tick(label: str) -> str:
    """A label, of one line or several."""
    return "<br>".join(as_plotly(line, 24) for line in label.splitlines())
