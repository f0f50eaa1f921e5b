"""Tables of waits for a CPU, of quotas, and of the machine's CPUs."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import (
    CPU_NO_USER,
    CPU_WAIT,
    CPU_WAIT_THROTTLED,
    CPU_WAIT_UNKNOWN,
)
from cvmprof.profiler.kernel.cpu_time import cgroups, cpu_waits, machine_cpu
from cvmprof.profiler.tables import table


def wait(start_ns: int, end_ns: int, tid: int = 2, **more: Any) -> dict[str, Any]:
    """A part of a wait behind a process of root."""
    plain = {"pid": 1, "ran_pid": 8, "ran_tid": 9, "ran_name": b"burn", "ran_uid": 0}
    return {**plain, "tid": tid, "start_ns": start_ns, "end_ns": end_ns, **more}


def test_waits_for_a_cpu_are_in_order_and_name_who_had_it(make_raw: Any) -> None:
    raw = make_raw(
        CPU_WAIT,
        wait(20, 40, 3, ran_name=b"burn\xff", ran_uid=4_123_456_789),
        wait(10, 30, ran_pid=0, ran_tid=0, ran_name=b"swapper/1"),
        wait(30, 35, ran_name=b"", ran_uid=CPU_NO_USER),
    )
    assert cpu_waits(raw).rows() == [
        (1, 2, 10, 30, 0, 0, "swapper/1", "root", False),
        (1, 3, 20, 40, 8, 9, "burn\\xff", "4123456789", False),
        (1, 2, 30, 35, 8, 9, None, None, False),
    ]
    assert cpu_waits(make_raw(CPU_WAIT)).schema == table("cpu_waits").schema()


def test_what_a_quota_takes_is_the_quotas_whoever_ran(make_raw: Any) -> None:
    raw = make_raw(
        CPU_WAIT,
        wait(20, 40, flags=CPU_WAIT_THROTTLED),
        wait(30, 60),
        wait(10, 30, ran_pid=7),
        wait(0, 10, flags=CPU_WAIT_UNKNOWN),
        wait(0, 60, 3),
    )
    found = cpu_waits(raw).select("tid", "start_ns", "end_ns", "ran_pid", "ran_user", "throttled")
    assert sorted(found.rows()) == [
        (2, 0, 10, None, None, False),
        (2, 10, 20, 7, "root", False),
        (2, 20, 40, None, None, True),
        (2, 40, 60, 8, "root", False),
        (3, 0, 60, 8, "root", False),
    ]


def test_a_sample_has_a_row_for_each_cgroup_of_each_process() -> None:
    outer = {"path": "/a", "quota_us": 5, "period_us": 100}
    inner = {**outer, "path": "/a/b", "periods": 7, "throttled_periods": 2, "throttled_ns": 99}
    lines = [
        {"time_ns": 1, "machine": {}, "processes": {"11": [inner, outer], "12": []}},
        {"time_ns": 2, "machine": {"used_ns": 4}, "processes": {}},
    ]
    assert cgroups(lines).rows() == [
        (1, 11, "/a/b", 5, 100, 7, 2, 99),
        (1, 11, "/a", 5, 100, None, None, None),
    ]
    assert machine_cpu(lines).rows() == [(1, None, None, None, None), (2, 4, None, None, None)]


def test_without_samples_the_tables_are_empty() -> None:
    for name, made in (("cgroups", cgroups([])), ("machine_cpu", machine_cpu([]))):
        assert made.schema == table(name).schema()
        assert isinstance(made, pl.DataFrame)
        assert made.is_empty()
