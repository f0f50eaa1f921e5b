"""Table `blocked`: off-CPU intervals."""

from __future__ import annotations

import polars as pl

from ...probes.events import (
    BLOCKED_IO,
    BLOCKED_PREEMPTED,
    BLOCKED_SLEEP,
    BLOCKED_STOPPED,
    BLOCKED_UNINTERRUPTIBLE,
)
from ..run.times import happened
from ..tables import OFF_REASON

_REASONS = {
    BLOCKED_PREEMPTED: "preempted",
    BLOCKED_SLEEP: "sleep",
    BLOCKED_UNINTERRUPTIBLE: "uninterruptible",
    BLOCKED_STOPPED: "stopped",
}


def blocked(records: pl.DataFrame) -> pl.DataFrame:
    """The table from BLOCKED records with mount_id, plus ``on_disk``, mount_id?, unique?.

    mount_id and unique name the FUSE request whose end woke the thread.
    """
    by_request = pl.col("unique") != 0
    return records.sort("start_ns").select(
        "pid",
        "tid",
        "start_ns",
        happened("woken_ns"),
        happened("end_ns"),
        off_reason=pl.col("state").cast(pl.Int32).replace_strict(_REASONS, return_dtype=OFF_REASON),
        woken_by_pid=pl.when(pl.col("waker_tid") != 0).then("waker_pid"),
        woken_by_tid=pl.when(pl.col("waker_tid") != 0).then("waker_tid"),
        on_disk=(pl.col("flags") & BLOCKED_IO) != 0,
        mount_id=pl.when(by_request).then("mount_id"),
        unique=pl.when(by_request).then("unique"),
    )
