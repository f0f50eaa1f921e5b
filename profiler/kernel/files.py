"""Table `files`, and which file an event is about."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ..run.places import KEY as KEY
from ..run.places import file_places as file_places
from ..tables import conform
from .mounts import with_mount


def files(
    places: pl.DataFrame, mounted: pl.DataFrame, referenced: Sequence[pl.DataFrame]
) -> pl.DataFrame:
    """Number the files: those that a record shows and those that other events name.

    ``referenced``: frames with dev, ino, generation, mount_id. Without ``cached_bytes_at_start``.
    """
    shown = with_mount(places.sort("time_ns"), mounted, "time_ns")
    key = ["mount_id", "ino", "generation"]
    named = [shown.filter(~pl.col("is_superblock")), *referenced]
    distinct = pl.concat([frame.select(key).unique() for frame in named]).unique().drop_nulls()
    told = shown.group_by(key, maintain_order=True).agg(
        pl.col("time_ns").first(),
        pl.col("path").drop_nulls().first(),
        pl.col("size_bytes").last(),
    )
    ordered = distinct.join(told, on=key, how="left").sort(
        "time_ns", "mount_id", "ino", "generation", nulls_last=True
    )
    return conform("files", ordered.with_row_index("file_id").rename({"ino": "inode"}))


def file_ids(
    events: pl.DataFrame, mounted: pl.DataFrame, known: pl.DataFrame, time: str
) -> pl.Series:
    """Return ``file_id`` of each event (dev, ino, generation, and a time column), null where
    unknown.
    """
    keys = with_mount(events.select(*KEY, time), mounted, time)
    by = known.select("mount_id", "generation", "file_id", ino="inode")
    return keys.join(by, on=["mount_id", "ino", "generation"], how="left", maintain_order="left")[
        "file_id"
    ]


def with_cached_bytes(known: pl.DataFrame, chunked: pl.DataFrame) -> pl.DataFrame:
    """Add how much of each file the client's cache held, of the chunks whose state is known."""
    cached = (
        chunked.filter(pl.col("cached_at_start").is_not_null())
        .group_by("file_id")
        .agg(cached_bytes_at_start=pl.col("size_bytes").filter("cached_at_start").sum())
    )
    joined = known.drop("cached_bytes_at_start").join(
        cached, on="file_id", how="left", maintain_order="left"
    )
    return conform("files", joined)
