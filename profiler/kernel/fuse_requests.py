"""Table `fuse_requests`: what the kernel asked the daemons."""

from __future__ import annotations

import polars as pl

from ..run.times import happened
from ..tables import table

OPCODE_READ = 15


def fuse_requests(
    records: pl.DataFrame, served: pl.DataFrame, operations: pl.DataFrame
) -> pl.DataFrame:
    """Join requests with their taking by the daemon and the operation that queued them.

    ``records``: REQUEST records with mount_id; ``served``: SERVED records with mount_id. Returns
    the table's columns and ``served_tid``?, ``end_tid``, ``end_pid``, by time.
    """
    taken = served.sort("time_ns").unique(["mount_id", "unique"], keep="first", maintain_order=True)
    joined = records.join(
        taken.select("mount_id", "unique", served_ns="time_ns", served_tid="tid"),
        on=["mount_id", "unique"],
        how="left",
    ).join(
        operations.select("tid", "op_id", op_start_ns="start_ns").unique(["tid", "op_start_ns"]),
        on=["tid", "op_start_ns"],
        how="left",
    )
    is_read = pl.col("opcode") == OPCODE_READ
    rows = joined.drop_nulls("mount_id").with_columns(
        happened("queued_ns"),
        happened("end_ns"),
        offset_bytes=pl.when(is_read).then("offset"),
        size_bytes=pl.when(is_read).then("size").cast(pl.Int64),
        handle=pl.when(is_read).then("handle"),
    )
    order = pl.coalesce("queued_ns", "served_ns", "end_ns")
    names = [*table("fuse_requests").names, "served_tid", "end_pid", "end_tid"]
    return rows.sort(order, "unique").select(names)


def serving_requests(requests: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    """Return ``unique`` of the request that a daemon thread had taken and not ended at each event.

    ``events``: mount_id, tid, start_ns. Null where the thread served none.
    """
    took = (
        requests.drop_nulls(["served_ns", "served_tid"])
        .select("mount_id", "unique", "end_ns", "served_ns", tid="served_tid")
        .sort("served_ns")
    )
    found = (
        events.select("mount_id", "tid", "start_ns")
        .with_row_index("row")
        .sort("start_ns")
        .join_asof(
            took,
            left_on="start_ns",
            right_on="served_ns",
            by=["mount_id", "tid"],
            check_sortedness=False,
        )
    )
    inside = pl.col("end_ns").is_null() | (pl.col("end_ns") >= pl.col("start_ns"))
    return found.sort("row").select(unique=pl.when(inside).then("unique"))["unique"]
