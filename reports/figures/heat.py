"""Where and when a file was touched, as a matrix small enough to draw."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...probes.events import TOUCH_BUCKET_NS, TOUCH_GRANULE_BYTES
from ..material import Frames, Window, file_names
from .encode import Json, seconds, typed
from .layout import layout_over_time

PAGE_BYTES = 4096
_MAX_PARTS, _MAX_BUCKETS = 96, 400


@dataclass(frozen=True)
class Heat:
    """Bytes touched of one file: ``mib`` is row-major, one row per part of the file.

    ``edges_ns`` are the edges of the time buckets, ``edges_mib`` those of the parts of the file.
    """

    path: str
    edges_ns: list[int]
    edges_mib: list[float]
    mib: pl.Series


def _touched_bytes() -> pl.Expr:
    """Bytes of a touch: what was read, mapped or put into the page cache, whichever is most."""
    pages = pl.max_horizontal("pages_inserted", "pages_mapped") * PAGE_BYTES
    return pl.max_horizontal("bytes_read", pages)


def hottest_file(frames: Frames, window: Window, least_ns: int = TOUCH_BUCKET_NS) -> Heat | None:
    """Return the heat of the file with the most bytes touched, or None where nothing was.

    ``least_ns``: the precision of the touches' times.
    """
    touches = frames["touches"].with_columns(bytes=_touched_bytes())
    totals = touches.group_by("file_id").agg(pl.col("bytes").sum()).sort("bytes", "file_id")
    if not totals.height or not totals["bytes"][-1]:
        return None
    file_id: int = totals["file_id"][-1]
    of_file = touches.filter(pl.col("file_id") == file_id)
    path = file_names(frames).filter(pl.col("file_id") == file_id)["path"].first()
    return _matrix(str(path), of_file, window, least_ns)


def _matrix(path: str, touches: pl.DataFrame, window: Window, least_ns: int) -> Heat:
    granules = int(touches.select(pl.col("granule").max()).item()) + 1
    per_part = -(-granules // _MAX_PARTS)
    parts = -(-granules // per_part)
    first = window.start_ns - window.start_ns % TOUCH_BUCKET_NS
    buckets = -(-(window.end_ns - first) // TOUCH_BUCKET_NS)
    step = TOUCH_BUCKET_NS * max(-(-buckets // _MAX_BUCKETS), least_ns // TOUCH_BUCKET_NS, 1)
    columns = max(-(-(window.end_ns - first) // step), 1)
    bucket = ((pl.col("start_ns") - first) // step).clip(0, columns - 1)
    cells = touches.group_by(cell=pl.col("granule") // per_part * columns + bucket).agg(
        mib=pl.col("bytes").sum() / TOUCH_GRANULE_BYTES
    )
    empty = pl.DataFrame({"cell": pl.int_range(parts * columns, eager=True)})
    dense = empty.join(cells, on="cell", how="left", maintain_order="left")["mib"].fill_null(0.0)
    return Heat(
        path,
        [first + step * n for n in range(columns + 1)],
        [float(min(n * per_part, granules)) for n in range(parts + 1)],
        dense,
    )


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
        "layout": layout_over_time(210, window, axis),
    }
