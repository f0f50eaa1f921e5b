"""The downloads as a waterfall: one row each, its parts stacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from .. import palette
from ..escape import as_plotly
from ..material import Frames, Window, file_names
from .bricks import clip, left_out, longest
from .encode import Json, seconds, typed
from .lanes import details
from .layout import layout_over_time

MAX_DOWNLOADS = 500
DOWNLOAD_PARTS = ("fetch_queue", "first_byte", "transfer", "cache_write")


@dataclass(frozen=True)
class Waterfall:
    """Downloads in the order sent: one row each, with its parts.

    ``rows``: start_ns, end_ns, fetch_id, the boundaries sent_ns, first_byte_ns, last_byte_ns
    (null where unknown) and the details.
    """

    rows: pl.DataFrame
    note: str


def waterfall(frames: Frames, window: Window) -> Waterfall:
    """Return the downloads of the window, the ``MAX_DOWNLOADS`` longest."""
    owners = (
        frames["fetches"]
        .drop_nulls("download_id")
        .sort("fetch_id")
        .select("download_id", "fetch_id", "file_id", "offset_bytes")
        .unique("download_id", keep="first")
        .join(file_names(frames), on="file_id", how="left")
    )
    ended = pl.coalesce("committed_ns", "last_byte_ns", "closed_ns")
    downloads = (
        frames["downloads"]
        .drop("fetch_id")
        .join(owners, on="download_id", how="left")
        .select(
            pl.coalesce("queued_ns", "sent_ns", "connect_ns").alias("start_ns"),
            ended.alias("end_ns"),
            "sent_ns",
            "first_byte_ns",
            "last_byte_ns",
            "fetch_id",
            pl.col("path").alias("file"),
            "offset_bytes",
            pl.col("object_hash").alias("object"),
            pl.col("url_path").alias("url"),
            "host",
            "proxy",
            "remote",
            "status",
            "attempt",
            "connection_id",
            "reused",
            "wire_bytes",
            (pl.col("first_byte_ns") - pl.col("sent_ns")).alias("first byte_ns"),
            (pl.col("last_byte_ns") - pl.col("first_byte_ns")).alias("transfer_ns"),
        )
    )
    inside = clip(downloads, window.start_ns, window.end_ns)
    rows = longest(inside, MAX_DOWNLOADS)
    return Waterfall(rows, left_out("downloads", rows.height, inside.height).strip())


def waterfall_figure(downloads: Waterfall, window: Window) -> Json:
    """Return the downloads as a waterfall: one row each in the order sent, its parts stacked.

    A part whose end is not known lasts until the next known time: a download that hangs before its
    first byte is all ``first_byte``.
    """
    rows = downloads.rows
    if not rows.height:
        return {}
    bounds = [pl.col("start_ns"), pl.col("sent_ns"), pl.col("first_byte_ns"),
              pl.col("last_byte_ns"), pl.col("end_ns")]  # fmt: skip
    times = rows.select(
        pl.coalesce(bound, *bounds[index + 1 :]).alias(f"b{index}")
        for index, bound in enumerate(bounds)
    )
    traces = [_part_trace(times, index, window) for index in range(len(DOWNLOAD_PARTS))]
    per_row = max(3, min(16, 420 // rows.height))
    detail = rows.with_columns(
        code=pl.lit(0, dtype=pl.UInt8),
        merged=pl.lit(1, dtype=pl.Int32),
        row=pl.lit(0, dtype=pl.Int32),
    ).drop("sent_ns", "first_byte_ns", "last_byte_ns")
    indices = pl.Series(range(rows.height), dtype=pl.Int32)
    height_px = 34 + max(per_row * rows.height, 48)
    layout = layout_over_time(height_px, window, _waterfall_axis(rows))
    return {
        "data": traces,
        "layout": layout | {"bargap": 0.12, "barmode": "overlay"},
        "rows": [typed(indices, "i4")] * len(traces),
        "details": details(detail, indices, window.start_ns),
        "words": ["download"],
    }


def _part_trace(times: pl.DataFrame, index: int, window: Window) -> Json:
    start, end = times[f"b{index}"], times[f"b{index + 1}"]
    colour = palette.STYLES[DOWNLOAD_PARTS[index]].colour
    return {
        "type": "bar",
        "orientation": "h",
        "hoverinfo": "none",
        "base": typed(seconds(start, window.start_ns), "f8"),
        "x": typed((end - start).cast(pl.Float64) / 1e9, "f8"),
        "y": typed(pl.Series(range(0, -times.height, -1)), "i4"),
        "marker": {"color": colour, "line": {"width": 0.6, "color": colour}},
    }


def _waterfall_axis(rows: pl.DataFrame) -> Json:
    count = rows.height
    axis: Json = {"range": [-count + 0.4, 0.6], "tickmode": "array", "tickvals": [], "ticktext": []}
    if count <= 40:
        axis |= {
            "tickvals": [-n for n in range(count)],
            "ticktext": [*map(_download_name, rows.iter_rows(named=True))],
            "tickfont": {"size": 10 if count <= 30 else 9},
        }
    return axis


def _download_name(row: dict[str, Any]) -> str:
    """The file and offset, else the path asked for, else (encrypted, never asked) the host."""
    name = (row["file"] or row["url"] or row["host"]).rpartition("/")[2]
    if row["file"] is None or row["offset_bytes"] is None:
        return as_plotly(name, 25)
    return f"{as_plotly(name, 17)} @{row['offset_bytes'] / (1 << 20):.0f} MiB"
