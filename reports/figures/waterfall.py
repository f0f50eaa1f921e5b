"""The downloads as a waterfall, one row each, its parts stacked; many are packed into lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from .. import palette
from ..escape import as_plotly
from ..material import Frames, Window, file_names
from .bricks import clip
from .encode import Json, seconds, typed
from .lanes import LaneGroup, details, lane_figure
from .layout import layout_over_time
from .packed import Rows, packed
from .parts import download_parts
from .timeline import CAUSE_PALETTE, cause_code

#: more downloads than this have no row of their own
MAX_DOWNLOADS = 120
_ROWS = Rows(alone=16, rest=6)


@dataclass(frozen=True)
class Waterfall:
    """Downloads in the order in which they began.

    ``rows``: key, start_ns, end_ns, fetch_id and the details; ``parts``: key, start_ns, end_ns,
    cause, which tile each row. ``lanes``: where there are more than `MAX_DOWNLOADS`.
    """

    rows: pl.DataFrame
    parts: pl.DataFrame
    lanes: LaneGroup | None = None

    @property
    def note(self) -> str:
        """What is said of those that were summed."""
        return self.lanes.note if self.lanes else ""

    @property
    def causes(self) -> set[str]:
        """The causes that occur."""
        return set(self.parts["cause"].cast(pl.String))


def waterfall(frames: Frames, window: Window) -> Waterfall:
    """Return the downloads of the window."""
    inside = clip(_downloads(frames), window.start_ns, window.end_ns)
    parts = download_parts(inside, frames).rename({"download_id": "key"})
    rows = inside.select(
        "start_ns",
        "end_ns",
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
        (pl.col("last_byte_ns") - pl.col("first_byte_ns")).alias("first to last byte_ns"),
        key="download_id",
    )
    few = rows.height <= MAX_DOWNLOADS
    return Waterfall(rows, parts, None if few else _lanes(rows, parts))


def _downloads(frames: Frames) -> pl.DataFrame:
    """The downloads with start_ns, end_ns, and the fetch and the file that each was for."""
    owners = (
        frames["fetches"]
        .drop_nulls("download_id")
        .sort("fetch_id")
        .select("download_id", "fetch_id", "file_id", "offset_bytes")
        .unique("download_id", keep="first")
        .join(file_names(frames), on="file_id", how="left")
    )
    return (
        frames["downloads"]
        .drop("fetch_id")
        .join(owners, on="download_id", how="left")
        .with_columns(
            start_ns=pl.coalesce("queued_ns", "sent_ns", "connect_ns"),
            end_ns=pl.coalesce("committed_ns", "last_byte_ns", "closed_ns"),
        )
        .drop_nulls("start_ns")
    )


def _lanes(rows: pl.DataFrame, parts: pl.DataFrame) -> LaneGroup:
    said = parts.with_columns(cause_code()).drop("cause").join(
        rows.drop("start_ns", "end_ns"), on="key", how="left"
    )  # fmt: skip
    drawn = packed("download", rows.select("key", "start_ns", "end_ns"), said, _ROWS)
    return LaneGroup("downloads", "Downloads", "", CAUSE_PALETTE, drawn.lanes, drawn.note)


def waterfall_figure(downloads: Waterfall, window: Window) -> Json:
    """Return the downloads as a waterfall: one row each in the order begun, its parts stacked.

    A part whose end is not known lasts until the next known time: a download that hangs before its
    first byte is all ``first_byte``.
    """
    rows = downloads.rows
    if not rows.height:
        return {}
    if downloads.lanes:
        return lane_figure(downloads.lanes, window)
    numbered = rows.select("key", row=pl.int_range(pl.len(), dtype=pl.Int32))
    parts = downloads.parts.join(numbered, on="key")
    by_cause = [parts.filter(pl.col("cause") == cause) for cause in _causes(downloads)]
    traces = [_part_trace(part, window) for part in by_cause]
    per_row = max(4, min(16, 420 // rows.height))
    detail = rows.drop("key").with_columns(
        code=pl.lit(0, dtype=pl.UInt8),
        merged=pl.lit(1, dtype=pl.Int32),
        row=pl.lit(0, dtype=pl.Int32),
    )
    layout = layout_over_time(34 + max(per_row * rows.height, 48), window, _waterfall_axis(rows))
    return {
        "data": traces,
        "layout": layout | {"bargap": 0.12, "barmode": "overlay"},
        "rows": [typed(part["row"], "i4") for part in by_cause],
        "details": details(detail, numbered["row"], window.start_ns),
        "words": ["download"],
    }


def _causes(downloads: Waterfall) -> list[str]:
    return [cause for cause in palette.ORDER if cause in downloads.causes]


def _part_trace(parts: pl.DataFrame, window: Window) -> Json:
    lasted = (parts["end_ns"] - parts["start_ns"]).cast(pl.Float64) / 1e9
    colour = palette.STYLES[str(parts["cause"][0])].colour
    return {
        "type": "bar",
        "orientation": "h",
        "hoverinfo": "none",
        "base": typed(seconds(parts["start_ns"], window.start_ns), "f8"),
        "x": typed(lasted, "f8"),
        "y": typed(-parts["row"], "i4"),
        "marker": {"color": colour, "line": {"width": 0}},
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
