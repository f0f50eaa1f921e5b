"""Table `files`, and which file an event is about."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ..run.places import KEY
from ..tables import conform
from .mounts import with_mount


def files(
    places: pl.DataFrame, mounts: pl.DataFrame, referenced: Sequence[pl.DataFrame]
) -> pl.DataFrame:
    """Number the files: those of FILE records and those named by other events.

    ``places``: see `file_places`; ``referenced``: frames with dev, ino, generation, mount_id.
    Without ``cached_bytes_at_start``.
    """
    recorded = with_mount(places.sort("time_ns"), mounts, "time_ns")
    key = ["mount_id", "ino", "generation"]
    sources = [recorded.filter(~pl.col("is_superblock")), *referenced]
    distinct = pl.concat([frame.select(key).unique() for frame in sources]).unique().drop_nulls()
    described = recorded.group_by(key, maintain_order=True).agg(
        pl.col("time_ns").first(),
        pl.col("path").drop_nulls().first(),
        pl.col("size_bytes").last(),
    )
    ordered = distinct.join(described, on=key, how="left").sort(
        "time_ns", "mount_id", "ino", "generation", nulls_last=True
    )
    return conform("files", ordered.with_row_index("file_id").rename({"ino": "inode"}))


def file_ids(
    events: pl.DataFrame, mounts: pl.DataFrame, files: pl.DataFrame, time: str
) -> pl.Series:
    """Return ``file_id`` of each event (dev, ino, generation and the column ``time``).

    Null where the file is unknown.
    """
    keys = with_mount(events.select(*KEY, time), mounts, time)
    ids = files.select("mount_id", "generation", "file_id", ino="inode")
    key = ["mount_id", "ino", "generation"]
    return keys.join(ids, on=key, how="left", maintain_order="left")["file_id"]


def with_cached_bytes(files: pl.DataFrame, chunks: pl.DataFrame) -> pl.DataFrame:
    """Add how many bytes of each file the client's cache held, over chunks whose state is known."""
    cached = (
        chunks.filter(pl.col("cached_at_start").is_not_null())
        .group_by("file_id")
        .agg(cached_bytes_at_start=pl.col("size_bytes").filter("cached_at_start").sum())
    )
    rows = files.drop("cached_bytes_at_start")
    return conform("files", rows.join(cached, on="file_id", how="left", maintain_order="left"))
