"""Tables `cpu_waits`, `cgroups` and `machine_cpu`: who waited for a CPU behind whom, quotas of CPU
time, and what the machine's CPUs did.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from ..run.journal import Line
from ..run.text import c_strings
from ..tables import conform, table


def cpu_waits(records: pl.DataFrame) -> pl.DataFrame:
    """The table from CPU_WAIT records."""
    raw = records["ran_name"].unique()
    names = pl.DataFrame({"ran_name": raw, "text": c_strings(raw)})
    named = records.join(names, on="ran_name", maintain_order="left")
    rows = named.drop("ran_name").rename({"text": "ran_name"})
    return conform("cpu_waits", rows.sort("start_ns", "tid"))


def cgroups(lines: Iterable[Line]) -> pl.DataFrame:
    """The table from samples, see `session.cpu_sampler`."""
    rows = [
        {"time_ns": line["time_ns"], "pid": int(pid), **cgroup}
        for line in lines
        for pid, found in line["processes"].items()
        for cgroup in found
    ]
    return _made("cgroups", rows)


def machine_cpu(lines: Iterable[Line]) -> pl.DataFrame:
    """The table from the same samples."""
    return _made("machine_cpu", [{"time_ns": line["time_ns"], **line["machine"]} for line in lines])


def _made(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return conform(name, pl.DataFrame(rows, schema=table(name).schema(), orient="row"))
