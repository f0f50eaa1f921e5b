"""Where and when a file was touched, as a matrix small enough to draw."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from ...probes import fuse
from ...probes.events import TOUCH_BUCKET_NS, TOUCH_GRANULE_BYTES
from .. import palette
from ..material import Frames, Window, file_names
from .encode import Json, seconds, typed
from .layout import layout_over_time

PAGE_BYTES = 4096
_MAX_PARTS, _MAX_BUCKETS = 96, 400
#: shares of the most touched at which `palette.HEAT_COLOURS` stand
_STEPS = (0, 0.001, 0.5, 1)
#: requests that only directories and links answer; their pages are those of the node too
_NO_FILE = [
    number
    for number, name in fuse.OPCODES.items()
    if name in ("READDIR", "READDIRPLUS", "OPENDIR", "READLINK")
]


@dataclass(frozen=True)
class Heat:
    """Bytes touched of one file: ``mib`` is row-major, one row per part of the file.

    ``edges_ns`` are the edges of the time buckets, ``edges_mib`` those of the parts of the file.
    ``files``: how many were touched in more than one granule; this one is the most touched.
    """

    path: str
    edges_ns: list[int]
    edges_mib: list[float]
    mib: pl.Series
    files: int = 1


def _touched_bytes() -> pl.Expr:
    """Bytes of a touch: what was read, mapped or put into the page cache, whichever is most."""
    pages = pl.max_horizontal("pages_inserted", "pages_mapped") * PAGE_BYTES
    return pl.max_horizontal("bytes_read", pages)


def hottest_file(frames: Frames, window: Window, least_ns: int = TOUCH_BUCKET_NS) -> Heat | None:
    """Return the heat of the file with the most bytes touched, or None where nothing was.

    Only of files that have a name, and of which more than one granule was touched.
    ``least_ns``: the precision of the touches' times.
    """
    touches = frames["touches"].with_columns(bytes=_touched_bytes())
    totals = (
        touches.group_by("file_id")
        .agg(pl.col("bytes").sum(), granules=pl.col("granule").n_unique())
        .filter((pl.col("granules") > 1) & (pl.col("bytes") > 0))
        .join(_files(frames), on="file_id", how="semi")
        .sort("bytes", "file_id")
    )
    if not totals.height:
        return None
    file_id: int = totals["file_id"][-1]
    of_file = touches.filter(pl.col("file_id") == file_id)
    path = file_names(frames).filter(pl.col("file_id") == file_id)["path"].first()
    return replace(_matrix(str(path), of_file, window, least_ns), files=totals.height)


def _files(frames: Frames) -> pl.DataFrame:
    """The nodes that have a name and are no directory and no link.

    The kernel keeps in the page cache what readdir and readlink return, so these are touched too.
    """
    asked = frames["fuse_requests"].filter(pl.col("opcode").is_in(_NO_FILE))
    others = asked.select("mount_id", inode="node_id")
    return frames["files"].drop_nulls("path").join(others, on=["mount_id", "inode"], how="anti")


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
                "colorscale": list(zip(_STEPS, palette.HEAT_COLOURS, strict=True)),
                "showscale": False,
                "zmin": 0,
                "hovertemplate": "%{y:.0f} MiB into the file, at %{x:.2f} s: "
                "%{z:.2f} MiB touched<extra></extra>",
            }
        ],
        "layout": layout_over_time(210, window, axis),
    }
