"""Tables `cpu_waits`, `cgroups` and `machine_cpu`: who waited for a CPU behind whom, quotas of CPU
time, and what the machine's CPUs did.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

from ...probes.events import CPU_NO_USER, CPU_WAIT_THROTTLED, CPU_WAIT_UNKNOWN
from ..intervals import overlaps, uncovered
from ..run.journal import Line
from ..run.text import c_strings
from ..tables import conform, table


def cpu_waits(records: pl.DataFrame) -> pl.DataFrame:
    """The table from CPU_WAIT records. What a quota's part covers is the quota's alone."""
    has = {
        name: pl.col("flags") & flag != 0
        for name, flag in (("throttled", CPU_WAIT_THROTTLED), ("unknown", CPU_WAIT_UNKNOWN))
    }
    parts = records.with_columns(**has).drop("flags")
    throttled = parts.filter("throttled")
    others = parts.filter(~pl.col("throttled")).with_row_index("interval")
    left = uncovered(others, overlaps(others, throttled.select("tid", "start_ns", "end_ns")))
    both = pl.concat([throttled, left.select(throttled.columns)])
    named = _named(both, "ran_name", c_strings).with_columns(pl.col("ran_name").replace("", None))
    known = ~(pl.col("throttled") | pl.col("unknown"))
    rows = _named(named, "ran_uid", _users).rename({"ran_uid": "ran_user"})
    ran = pl.when(known).then(pl.col("ran_pid", "ran_tid", "ran_name", "ran_user"))
    return conform("cpu_waits", rows.with_columns(ran).sort("start_ns", "tid"))


def _named(
    rows: pl.DataFrame, column: str, words: Callable[[pl.Series], pl.Series]
) -> pl.DataFrame:
    """A column with each of its values replaced by its text."""
    values = rows[column].unique()
    texts = pl.DataFrame({column: values, "text": words(values)})
    joined = rows.join(texts, on=column, how="left", maintain_order="left")
    return joined.drop(column).rename({"text": column})


def _users(numbers: pl.Series) -> pl.Series:
    """The name of each user, else its number; null for `CPU_NO_USER`."""
    unsigned = (number & CPU_NO_USER for number in numbers)
    return pl.Series([_user(number) for number in unsigned], dtype=pl.String)


def _user(number: int) -> str | None:
    if number == CPU_NO_USER:
        return None
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


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
