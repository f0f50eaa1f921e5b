"""When threads had no CPU or were stopped, and when fetches or requests waited for such threads."""

from __future__ import annotations

from collections.abc import Mapping

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


def stops(blocked: pl.DataFrame) -> pl.DataFrame:
    """From being stopped to being let go on, of every thread: pid, tid, start_ns, end_ns.

    ``blocked``: the table.
    """
    end = pl.coalesce("woken_ns", "end_ns", pl.lit(HORIZON_NS))
    rows = blocked.filter(pl.col("off_reason") == "stopped")
    return rows.select("pid", "tid", "start_ns", end_ns=end)


def stopped_clients(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """When any thread of a mount's client was stopped: mount_id, start_ns, end_ns.

    ``tables``: a run's. The rows of a mount do not overlap.
    """
    clients = tables["mounts"].select("mount_id", pid="daemon_pid").drop_nulls().unique()
    return united(clients.join(stops(tables["blocked"]), on="pid"), "mount_id")


def while_needed(spans: pl.DataFrame, held_back: pl.DataFrame) -> pl.DataFrame:
    """The time in which a thread that is waited for was held back: key, start_ns, end_ns.

    ``spans``: key, tid?, start_ns, end_ns, when who waits for which thread; a key may wait for
    several. ``held_back``: see `delays`, `stops`. The result does not overlap itself for a key.
    """
    tids = spans.select(pl.col("tid").cast(held_back.schema["tid"]))
    needed = held_back.join(tids, on="tid", how="semi")
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
