"""When threads could run and had no CPU, and when a fetch or a request waited for such a thread."""

from __future__ import annotations

import polars as pl

from ..intervals import latest_begun, overlaps, united
from ..tables import HORIZON_NS


def delays(blocked: pl.DataFrame) -> pl.DataFrame:
    """From becoming runnable to running, of every thread: tid, start_ns, end_ns.

    ``blocked``: the table.
    """
    preempted = pl.col("off_reason") == "preempted"
    since = pl.when(preempted).then("start_ns").otherwise("woken_ns")
    rows = blocked.select("tid", start_ns=since, end_ns=pl.col("end_ns").fill_null(HORIZON_NS))
    return rows.filter(pl.col("end_ns") > pl.col("start_ns"))


def without_cpu(spans: pl.DataFrame, late: pl.DataFrame) -> pl.DataFrame:
    """The time in which a thread that is waited for had no CPU: key, start_ns, end_ns.

    ``spans``: key, tid?, start_ns, end_ns, when who waits for which thread; a key may wait for
    several. ``late``: see `delays`. The result does not overlap itself for a key.
    """
    needed = late.join(spans.select(pl.col("tid").cast(late.schema["tid"])), on="tid", how="semi")
    parts = overlaps(spans.drop_nulls("tid").rename({"key": "interval"}), needed)
    return united(parts, "interval").rename({"interval": "key"})


def since_last_sleep(acts: pl.DataFrame, blocked: pl.DataFrame) -> pl.DataFrame:
    """When threads were on their way to an act: key, tid, start_ns, end_ns.

    ``acts``: key, tid, from_ns, at_ns. From ``from_ns`` on, but not before the thread's last sleep
    ended: before that there was nothing for it to do. Until ``at_ns``.
    """
    woken = blocked.filter(pl.col("off_reason") == "sleep").select("tid", "woken_ns").drop_nulls()
    latest = latest_begun(acts, woken, at="at_ns", begin="woken_ns", by="tid")
    spans = latest.select(
        "key", "tid", start_ns=pl.max_horizontal("from_ns", "woken_ns"), end_ns="at_ns"
    )
    return spans.filter(pl.col("end_ns") > pl.col("start_ns"))
