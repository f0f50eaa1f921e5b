"""Tables of waits for a CPU, of quotas, and of the machine's CPUs."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import CPU_WAIT
from cvmprof.profiler.kernel.cpu_time import cgroups, cpu_waits, machine_cpu
from cvmprof.profiler.tables import table


def test_waits_for_a_cpu_are_in_order_and_name_who_had_it(make_raw: Any) -> None:
    plain = {"pid": 1, "ran_pid": 8, "ran_tid": 9}
    raw = make_raw(
        CPU_WAIT,
        {**plain, "tid": 3, "start_ns": 20, "end_ns": 40, "ran_name": b"burn\xff", "throttled": 1},
        {**plain, "tid": 2, "start_ns": 10, "end_ns": 30, "ran_name": b"", "ran_pid": 0},
    )
    assert cpu_waits(raw).rows() == [
        (1, 2, 10, 30, 0, 9, "", False),
        (1, 3, 20, 40, 8, 9, "burn\\xff", True),
    ]
    assert cpu_waits(make_raw(CPU_WAIT)).schema == table("cpu_waits").schema()


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
