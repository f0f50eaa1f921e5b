"""Table `stalls`: idle gaps of a device."""

from __future__ import annotations

import polars as pl

from ..tables import conform

DEFAULT_THRESHOLD_NS = 1_000_000


def stalls(gpu_ops: pl.DataFrame, start_ns: int, threshold_ns: int) -> pl.DataFrame:
    """Maximal gaps of at least ``threshold_ns`` without an operation on the device.

    From the command's start to the device's last operation. The waiting thread is the one that
    submitted the operation after the gap; a gap before an operation of an unknown thread is left
    out.
    """
    busy = gpu_ops.filter(pl.col("end_ns") > start_ns).sort("device", "start_ns", "end_ns")
    idle_since = pl.col("end_ns").cum_max().shift(1).over("device").fill_null(start_ns)
    gaps = busy.select(
        "device",
        "source",
        waiting_tid="tid",
        start_ns=idle_since,
        end_ns="start_ns",
        submitted_ns="start_ns",
        copying_in_ns=0,
        copying_out_ns=0,
    )
    long = gaps.filter(pl.col("end_ns") - pl.col("start_ns") >= threshold_ns).drop_nulls()
    return conform("stalls", long.sort("start_ns", "device").with_row_index("stall_id"))
