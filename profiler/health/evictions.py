"""Incidents of kind ``eviction``: a client took objects out of its cache during the run."""

from __future__ import annotations

from collections.abc import Container

import polars as pl

from ..run.hashes import hash_of_path
from ..run.text import c_strings
from ..run.times import happened
from ..tables import conform

#: removals of one cleanup follow each other within this time
_BURST_NS = 1_000_000_000


def evictions(
    removals: pl.DataFrame,
    mounted: pl.DataFrame,
    directories: dict[int, str],
    parents: dict[int, int],
    chunks: pl.DataFrame,
) -> pl.DataFrame:
    """One incident per cleanup of a cache, at its first removal; of shared caches, of one of them.

    ``removals``: CACHE_FILE records of removed files, by whichever process: clients leave it to a
    child, or to the manager of a shared cache. ``mounted``: the table; ``directories``: where
    daemons' relative names begin, by pid; ``parents``: of processes that daemons started, by pid.
    """
    gone = _removed(removals, mounted, directories, parents)
    apart = (pl.col("time_ns") - pl.col("time_ns").shift()).over("mount_id") > _BURST_NS
    bursts = gone.with_columns(
        burst=apart.fill_null(value=True).cum_sum().over("mount_id"),
        used=pl.col("object_hash").is_in(chunks["object_hash"].implode()),
    )
    counted = bursts.group_by("mount_id", "burst", maintain_order=True).agg(
        pl.col("time_ns").min(), pl.col("pid").first(), objects=pl.len(), used=pl.col("used").sum()
    )
    detail = pl.format(
        "{} objects were removed from the client's cache, {} of them of files that the run used",
        "objects",
        "used",
    )
    return conform(
        "incidents",
        counted.select("time_ns", "pid", "mount_id", kind=pl.lit("eviction"), detail=detail),
    )


def _removed(
    removals: pl.DataFrame,
    mounted: pl.DataFrame,
    directories: dict[int, str],
    parents: dict[int, int],
) -> pl.DataFrame:
    """mount_id, pid, time_ns, object_hash of objects taken out of a mount's cache, in order."""
    named = removals.with_columns(c_strings(removals["path"]), time_ns=happened("end_ns")).filter(
        pl.col("result") == 0
    )
    objects = named.with_columns(object_hash=hash_of_path(pl.col("path"))).drop_nulls("object_hash")
    placed = objects.with_columns(directory=pl.col("path").str.replace(r"/[0-9a-f]{2}/[^/]*$", ""))
    caches = (
        mounted.drop_nulls("cache_path")
        .unique("cache_path", keep="last", maintain_order=True)
        .select("mount_id", directory="cache_path")
    )
    own = _relative(placed, mounted, directories, parents)
    both = pl.concat(
        [
            placed.join(caches, on="directory"),
            placed.join(own, on=["pid", "directory"]),
        ],
        how="diagonal",
    )
    return both.select("mount_id", "pid", "time_ns", "object_hash").sort("mount_id", "time_ns")


def _relative(
    placed: pl.DataFrame,
    mounted: pl.DataFrame,
    directories: dict[int, str],
    parents: dict[int, int],
) -> pl.DataFrame:
    """Who removes by names that begin in a cache's own directory: pid, directory, mount_id."""
    at_home = {
        row["daemon_pid"]: row["mount_id"]
        for row in mounted.drop_nulls(["daemon_pid", "cache_path"]).iter_rows(named=True)
        if directories.get(row["daemon_pid"]) == row["cache_path"]
    }
    rows = [
        (pid, ".", at_home[daemon])
        for pid in placed.filter(directory=".")["pid"].unique()
        if (daemon := _ancestor(pid, at_home, parents)) is not None
    ]
    schema = {"pid": pl.Int32, "directory": pl.String, "mount_id": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _ancestor(pid: int, among: Container[int], parents: dict[int, int]) -> int | None:
    """The process itself or the nearest that led to it, among those."""
    seen = set[int]()
    while pid not in among:
        if pid in seen or pid not in parents:
            return None
        seen.add(pid)
        pid = parents[pid]
    return pid
