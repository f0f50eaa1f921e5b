"""Off-CPU intervals: why, and who ended them."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import (
    BLOCKED,
    BLOCKED_IO,
    BLOCKED_PREEMPTED,
    BLOCKED_SLEEP,
    BLOCKED_STOPPED,
    BLOCKED_UNINTERRUPTIBLE,
    BLOCKED_WAKER_IRQ,
)
from cvmprof.profiler.kernel.blocked import blocked


def test_why_a_thread_was_off_the_cpu_and_who_woke_it(make_raw: Any) -> None:
    """An interrupt is no waker; only a wake by a request's end names the mount and the request."""
    thread = {"pid": 1, "tid": 2}
    records = make_raw(
        BLOCKED,
        {**thread, "start_ns": 30, "state": BLOCKED_PREEMPTED, "end_ns": 35},
        {**thread, "start_ns": 10, "woken_ns": 14, "end_ns": 15, "state": BLOCKED_SLEEP,
         "waker_pid": 8, "waker_tid": 9, "unique": 6},
        {**thread, "start_ns": 20, "woken_ns": 24, "state": BLOCKED_UNINTERRUPTIBLE,
         "waker_pid": 8, "flags": BLOCKED_IO | BLOCKED_WAKER_IRQ},
        {**thread, "start_ns": 25, "state": BLOCKED_SLEEP, "flags": BLOCKED_WAKER_IRQ},
        {**thread, "start_ns": 40, "woken_ns": 45, "end_ns": 46, "state": BLOCKED_STOPPED},
    ).with_columns(mount_id=pl.lit(3, pl.Int32))  # fmt: skip
    found = blocked(records)
    names = ("start_ns", "woken_ns", "end_ns", "off_reason", "woken_by_pid", "woken_by_tid")
    assert found.select(names).rows() == [
        (10, 14, 15, "sleep", 8, 9),
        (20, 24, None, "uninterruptible", None, None),
        (25, None, None, "sleep", None, None),
        (30, None, 35, "preempted", None, None),
        (40, 45, 46, "stopped", None, None),
    ]
    assert found.select("on_disk", "mount_id", "unique").rows() == [
        (False, 3, 6),
        (True, None, None),
        (False, None, None),
        (False, None, None),
        (False, None, None),
    ]
