"""Incidents of kind ``eviction``: a client removed objects from its cache during the run."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import polars as pl

from ..run.hashes import hash_of_path
from ..run.text import c_strings
from ..run.times import happened
from ..tables import conform

#: removals of one cleanup are at most this far apart
_BURST_NS = 1_000_000_000


@dataclass(frozen=True)
class CacheOwners:
    """Who may remove files from which cache.

    ``mounts``: the table; ``directories``: where relative file names of daemons begin, by pid;
    ``parents``: the parent of each process that a daemon started, by pid.
    """

    mounts: pl.DataFrame
    directories: dict[int, str]
    parents: dict[int, int]


def evictions(removals: pl.DataFrame, owners: CacheOwners, chunks: pl.DataFrame) -> pl.DataFrame:
    """One incident per cleanup of a cache, at its first removal.

    A cache shared by several mounts is counted for one of them. ``removals``: CACHE_FILE records of
    removed files, by any process: clients leave the removing to a child, or to the manager of a
    shared cache.
    """
    gone = _removed(removals, owners)
    apart = pl.col("time_ns").diff() > _BURST_NS
    bursts = gone.with_columns(
        burst=apart.fill_null(value=True).cum_sum(),
        used=pl.col("object_hash").is_in(chunks["object_hash"].implode()),
    )
    counted = bursts.group_by("mount_id", "burst", maintain_order=True).agg(
        pl.col("time_ns").min(), pl.col("pid").first(), objects=pl.len(), used=pl.col("used").sum()
    )
    detail = pl.format(
        "{} objects were removed from the client's cache, {} of them belong to files of this run",
        "objects",
        "used",
    )
    return conform(
        "incidents",
        counted.select("time_ns", "pid", "mount_id", kind=pl.lit("eviction"), detail=detail),
    )


def _removed(removals: pl.DataFrame, owners: CacheOwners) -> pl.DataFrame:
    """Objects removed from a mount's cache: mount_id, pid, time_ns, object_hash, in order."""
    named = removals.with_columns(c_strings(removals["path"]), time_ns=happened("end_ns")).filter(
        pl.col("result") == 0
    )
    objects = named.with_columns(object_hash=hash_of_path(pl.col("path"))).drop_nulls("object_hash")
    objects = objects.with_columns(directory=pl.col("path").str.replace(r"/[0-9a-f]{2}/[^/]*$", ""))
    caches = owners.mounts.unique("cache_path", keep="last", maintain_order=True).select(
        "mount_id", directory="cache_path"
    )
    by_relative_name = _relative(objects, owners)
    both = pl.concat(
        [
            objects.join(caches, on="directory"),
            objects.join(by_relative_name, on=["pid", "directory"]),
        ],
        how="diagonal",
    )
    return both.select("mount_id", "pid", "time_ns", "object_hash").sort("mount_id", "time_ns")


def _relative(removed: pl.DataFrame, owners: CacheOwners) -> pl.DataFrame:
    """Processes that remove by file names relative to a cache's directory: pid, directory,
    mount_id.
    """
    at_home = {
        row["daemon_pid"]: row["mount_id"]
        for row in owners.mounts.drop_nulls(["daemon_pid", "cache_path"]).iter_rows(named=True)
        if owners.directories.get(row["daemon_pid"]) == row["cache_path"]
    }
    rows = [
        (pid, ".", at_home[daemon])
        for pid in removed["pid"].unique()
        if (daemon := _ancestor(pid, at_home, owners.parents)) is not None
    ]
    schema = {"pid": pl.Int32, "directory": pl.String, "mount_id": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _ancestor(pid: int, among: Container[int], parents: dict[int, int]) -> int | None:
    """The process itself or its nearest ancestor among ``among``."""
    seen = set[int]()
    while pid not in among:
        if pid in seen or pid not in parents:
            return None
        seen.add(pid)
        pid = parents[pid]
    return pid
