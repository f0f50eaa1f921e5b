"""How long downloads took while their client ran: its stops say nothing of a server."""

from __future__ import annotations

import polars as pl

from ...profiler.attribution.delays import stopped_clients
from ...profiler.intervals import overlaps
from ..material import Frames
from .sums import total

#: the parts of a download, and the times between which they lie
_PARTS = {
    "to_first_byte_ns": ("sent_ns", "first_byte_ns"),
    "in_transfer_ns": ("first_byte_ns", "last_byte_ns"),
}


def download_times(frames: Frames) -> pl.DataFrame:
    """Return `downloads` with to_first_byte_ns? and in_transfer_ns?, without their client's stops.

    What arrived in a stop is taken when it ends: how long a server took of it is not known.
    """
    rows = frames["downloads"]
    for name, (begin, end) in _PARTS.items():
        asked = rows.select("download_id", "mount_id", start_ns=begin, end_ns=end)
        stopped = _stops_within(asked, frames)
        lost = stopped.group_by("download_id").agg(
            lost_ns=(pl.col("end_ns") - pl.col("start_ns")).sum()
        )
        took = pl.col(end) - pl.col(begin) - pl.col("lost_ns").fill_null(0)
        joined = rows.join(lost, on="download_id", how="left", maintain_order="left")
        rows = joined.with_columns(took.alias(name)).drop("lost_ns")
    return rows


def stopped_ns(spans: pl.DataFrame, frames: Frames) -> int:
    """Return how long clients were stopped in spans: download_id, mount_id?, start_ns, end_ns."""
    return total(
        _stops_within(spans, frames).select(ns=pl.col("end_ns") - pl.col("start_ns")), "ns"
    )


def _stops_within(spans: pl.DataFrame, frames: Frames) -> pl.DataFrame:
    asked = spans.drop_nulls().rename({"download_id": "interval", "mount_id": "tid"})
    stops = stopped_clients(frames).rename({"mount_id": "tid"})
    return overlaps(asked, stops).rename({"interval": "download_id"})
