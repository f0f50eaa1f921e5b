"""Incidents of daemons that were stopped, by a signal, a tracer or the freezer of their cgroup."""

from __future__ import annotations

import polars as pl

from ...probes.events import BLOCKED_STOPPED
from ..intervals import united
from ..run.times import happened
from ..tables import conform

#: a tracer stops a process often and shortly: shorter stops are no incidents
LEAST_NS = 100_000_000


def stops(records: pl.DataFrame, mounts: pl.DataFrame, stop_ns: int) -> pl.DataFrame:
    """Rows of `incidents` for daemons of which a thread was stopped.

    ``records``: BLOCKED records; ``mounts``: the table; ``stop_ns``: the end of recording, which
    ends what has no end.
    """
    until = pl.coalesce(happened("woken_ns"), happened("end_ns"), pl.lit(stop_ns, pl.Int64))
    serving = mounts.drop_nulls("daemon_pid").unique("daemon_pid", keep="last", maintain_order=True)
    stopped = records.filter(pl.col("state") == BLOCKED_STOPPED).select(
        pl.col("pid").cast(pl.Int32), pl.col("start_ns").cast(pl.Int64), end_ns=until
    )
    lasted = pl.col("end_ns") - pl.col("start_ns")
    found = (
        united(stopped, "pid")
        .filter(lasted >= LEAST_NS)
        .join(serving.select("mount_id", pid="daemon_pid"), on="pid")
    )
    detail = pl.format("daemon {} was stopped for {} ms", "pid", lasted // 1_000_000)
    return conform(
        "incidents",
        found.select("pid", "mount_id", time_ns="start_ns", kind=pl.lit("stop"), detail=detail),
    )
