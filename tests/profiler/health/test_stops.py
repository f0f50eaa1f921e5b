"""Incidents of daemons that were stopped."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import BLOCKED_SLEEP, BLOCKED_STOPPED
from cvmprof.profiler.health.stops import LEAST_NS, stops
from cvmprof.tests.profiler.rows import rows

MOUNTS = rows("mounts", {"mount_id": 3, "device": "0:40", "daemon_pid": 7})


def found(*records: dict[str, Any]) -> list[tuple[int, int, int | None, str]]:
    """Incidents of these records: time, pid, mount, detail."""
    usual = {"pid": 7, "state": BLOCKED_STOPPED, "woken_ns": 0, "end_ns": 0}
    schema = [(name, pl.Int64) for name in ("pid", "start_ns", "woken_ns", "end_ns", "state")]
    frame = pl.DataFrame([{**usual, **record} for record in records], schema=schema)
    happened = stops(frame, MOUNTS, 10 * LEAST_NS)
    assert set(happened["kind"]) <= {"stop"}
    return happened.select("time_ns", "pid", "mount_id", "detail").rows()


def test_threads_that_are_stopped_together_are_one_stop() -> None:
    first = {"start_ns": 5, "woken_ns": 2 * LEAST_NS, "end_ns": 9 * LEAST_NS}
    second = {"start_ns": 7, "end_ns": 2 * LEAST_NS + 5}
    assert found(first, second) == [(5, 7, 3, "daemon 7 was stopped for 200 ms")]


def test_a_stop_that_lasts_until_recording_ends() -> None:
    assert found({"start_ns": 0}) == [(0, 7, 3, "daemon 7 was stopped for 1000 ms")]


def test_what_is_no_stop_of_a_client() -> None:
    whole = {"start_ns": 0, "end_ns": LEAST_NS}
    assert len(found(whole)) == 1
    for change in ({"end_ns": LEAST_NS - 1}, {"pid": 8}, {"state": BLOCKED_SLEEP}):
        assert found({**whole, **change}) == []
