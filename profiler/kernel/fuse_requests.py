"""Table `fuse_requests`: what the kernel asked the daemons."""

from __future__ import annotations

import polars as pl

from ...probes import fuse
from ..intervals import latest_begun
from ..run.times import happened
from ..tables import table


def fuse_requests(
    records: pl.DataFrame, served: pl.DataFrame, operations: pl.DataFrame
) -> pl.DataFrame:
    """Join requests with the moment the daemon took them and the operation that queued them.

    ``records``: REQUEST records with mount_id; ``served``: SERVED records with mount_id. Returns
    the table's columns, ``served_tid``?, ``end_tid`` and ``end_pid``, by time.
    """
    first = served.sort("time_ns").unique(["mount_id", "unique"], keep="first", maintain_order=True)
    taken = first.select("mount_id", "unique", served_ns="time_ns", served_tid="tid")
    queued_by = operations.select("tid", "op_id", op_start_ns="start_ns").unique(
        ["tid", "op_start_ns"]
    )
    joined = records.join(taken, on=["mount_id", "unique"], how="left").join(
        queued_by, on=["tid", "op_start_ns"], how="left"
    )
    is_read = pl.col("opcode") == fuse.READ
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
    """Return, per event, ``unique`` of the request that its daemon thread was serving.

    ``events``: mount_id, tid, start_ns. Null where the thread was serving none.
    """
    taken = requests.drop_nulls(["served_ns", "served_tid"]).select(
        "mount_id", "unique", "end_ns", "served_ns", tid="served_tid"
    )
    rows = events.select("mount_id", "tid", "start_ns").with_row_index("row")
    latest = latest_begun(rows, taken, at="start_ns", begin="served_ns", by=["mount_id", "tid"])
    unended = pl.col("end_ns").is_null() | (pl.col("end_ns") >= pl.col("start_ns"))
    return latest.sort("row").select(unique=pl.when(unended).then("unique"))["unique"]
