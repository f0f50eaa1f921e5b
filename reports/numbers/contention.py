"""What a client's threads did besides answering requests: block each other, fetch ahead."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..material import IS_FILE_DATA, Frames, file_names
from .held import REQUEST


@dataclass(frozen=True)
class Collisions:
    """Waits for a lock that another open file held, and the two files of the longest one."""

    count: int
    total_ns: int
    longest_ns: int
    waiting_path: str | None
    holding_path: str | None


def collisions(frames: Frames) -> Collisions:
    """Return the collisions of `lock_waits` that ended. A request that waits for several holders
    in turn counts once.
    """
    waits = (
        frames["lock_waits"]
        .filter(pl.col("kind") == "collision")
        .with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
        .drop_nulls("ns")
        .sort("ns", "start_ns", descending=[True, False])
    )
    if waits.is_empty():
        return Collisions(0, 0, 0, None, None)
    named = (
        waits.head(1)
        .join(_paths(frames), on=["mount_id", "unique"], how="left")
        .join(
            _paths(frames).select("mount_id", holder_unique="unique", holding="path"),
            on=["mount_id", "holder_unique"],
            how="left",
        )
    )
    longest = named.row(0, named=True)
    return Collisions(
        count=waits.select("mount_id", "unique").n_unique(),
        total_ns=int(waits["ns"].sum()),
        longest_ns=longest["ns"],
        waiting_path=longest["path"],
        holding_path=longest["holding"],
    )


def lock_kinds(lock_waits: pl.DataFrame, requests: pl.DataFrame) -> dict[str, int]:
    """Return how long requests waited for locks that ended, by kind of lock, summed over them.

    A request that waited for one of the same open file that the same thread had queued, as the
    kernel's readahead does, is of kind ``readahead``. ``requests``: rows of `fuse_requests`.
    """
    queued = requests.select("mount_id", "unique", "tid")
    holders = queued.rename({"unique": "holder_unique", "tid": "holder"})
    both = lock_waits.drop("tid").join(queued, on=REQUEST, how="left")
    pairs = both.join(holders, on=["mount_id", "holder_unique"], how="left")
    by_one = (pl.col("kind") == "same_handle") & (pl.col("tid") == pl.col("holder"))
    lasted = pairs.select(
        kind=pl.when(by_one).then(pl.lit("readahead")).otherwise(pl.col("kind").cast(pl.String)),
        ns=pl.col("end_ns") - pl.col("start_ns"),
    )
    summed = lasted.drop_nulls().group_by("kind").agg(pl.col("ns").sum())
    return dict(summed.sort("ns", "kind", descending=[True, False]).iter_rows())


def _paths(frames: Frames) -> pl.DataFrame:
    """The file of each request: mount_id, unique, path."""
    inodes = (
        frames["files"]
        .select("mount_id", "file_id", node_id="inode")
        .join(file_names(frames), on="file_id")
    )
    return (
        frames["fuse_requests"]
        .join(inodes.unique(["mount_id", "node_id"]), on=["mount_id", "node_id"])
        .select("mount_id", "unique", "path")
        .unique(["mount_id", "unique"])
    )


def own_fetches(frames: Frames) -> int:
    """Return how many objects of files the clients fetched without a request, such as bundles."""
    return frames["fetches"].filter(pl.col("unique").is_null() & IS_FILE_DATA).height
