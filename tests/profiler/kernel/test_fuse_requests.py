"""FUSE requests: who queued them, who took them, and what a thread was serving."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes import fuse
from cvmprof.probes.events import REQUEST
from cvmprof.profiler.kernel.fuse_requests import fuse_requests, serving_requests
from cvmprof.tests.profiler.rows import frame, rows

SERVED = {"mount_id": pl.Int32, "unique": pl.UInt64, "time_ns": pl.Int64, "tid": pl.Int32}
TAKEN = {"served_ns": pl.Int64, "served_tid": pl.Int32}
EVENTS = {"mount_id": pl.Int32, "tid": pl.Int32, "start_ns": pl.Int64}


def test_requests_find_who_took_them_and_the_operation_that_queued_them(make_raw: Any) -> None:
    read = {"opcode": fuse.READ, "offset": 7, "size": 8, "handle": 9}
    records = make_raw(
        REQUEST,
        {**read, "unique": 4, "queued_ns": 100, "end_ns": 200, "tid": 1, "op_start_ns": 90},
        {"opcode": 3, "unique": 2, "end_ns": 150, "offset": 7, "size": 8, "handle": 9},
        {**read, "unique": 6, "tid": 1, "op_start_ns": 91},
        {**read, "unique": 8, "queued_ns": 10},
        {**read, "unique": 4, "queued_ns": 120, "tid": 2, "op_start_ns": 90},
        {"opcode": 3, "unique": 3, "queued_ns": 100},
    ).with_columns(mount_id=pl.Series([0, 0, 0, None, 1, 0], dtype=pl.Int32))
    served = frame(SERVED, (0, 4, 130, 6), (0, 4, 110, 5), (0, 6, 50, 7))
    operations = rows(
        "operations",
        {"op_id": 0, "tid": 1, "start_ns": 90},
        {"op_id": 1, "tid": 1, "start_ns": 91},
        {"op_id": 1, "tid": 1, "start_ns": 91},
        {"op_id": 2, "tid": 3, "start_ns": 90},
    )
    found = fuse_requests(records, served, operations)
    names = ("mount_id", "unique", "queued_ns", "served_ns", "end_ns", "served_tid", "op_id")
    assert found.select(names).rows() == [
        (0, 6, None, 50, None, 7, 1),
        (0, 3, 100, None, None, None, None),
        (0, 4, 100, 110, 200, 5, 0),
        (1, 4, 120, None, None, None, None),
        (0, 2, None, None, 150, None, None),
    ]
    places = found.select("offset_bytes", "size_bytes", "handle").rows()
    assert places == [(7, 8, 9), (None,) * 3, (7, 8, 9), (7, 8, 9), (None,) * 3]


def test_what_a_daemons_thread_was_serving() -> None:
    """From taking a request to its end, both inclusive; the latest one taken."""
    asked = rows(
        "fuse_requests",
        {"unique": 6, "served_ns": 30, "served_tid": 5},
        {"unique": 2, "served_ns": 10, "served_tid": 5, "end_ns": 20},
        {"unique": 3, "served_tid": 5},
        {"unique": 8, "served_ns": 40},
        served_tid=pl.Int32,
    )
    events = frame(
        EVENTS, (0, 5, 99), (0, 5, 10), (0, 5, 20), (0, 5, 21), (0, 5, 9), (1, 5, 15), (0, 6, 15)
    )
    assert serving_requests(asked, events).to_list() == [6, 2, 2, None, None, None, None]
