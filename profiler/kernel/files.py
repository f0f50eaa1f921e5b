"""Table `files`, and which file an event is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from ..run.text import c_string, visible
from ..tables import conform
from .mounts import with_mount

_FUSE_MAGIC = 0x65735546

#: what names a file in raw records
KEY = ("dev", "ino", "generation")


def file_places(records: pl.DataFrame) -> pl.DataFrame:
    """Spell out FILE records: time_ns, dev, ino, generation, size_bytes, path?, mountpoint?,
    filesystem?.

    ``path`` is absolute. Both are null where the walk did not reach the root of the namespace, and
    ``is_superblock`` says that a record shows where something is mounted, not a file in it.
    """
    wanted = records.select("components", "text", "mount_text", "complete")
    places = [_place(*row) for row in wanted.iter_rows()]
    schema: dict[str, Any] = {"path": pl.String, "mountpoint": pl.String}
    spelt = pl.DataFrame(places, schema=schema, orient="row")
    names = [_filesystem(*row) for row in records.select("magic", "filesystem").iter_rows()]
    return pl.concat(
        [records.select("time_ns", *KEY, "mount_text", size_bytes="size"), spelt], how="horizontal"
    ).with_columns(
        pl.Series("filesystem", names, dtype=pl.String), is_superblock=pl.col("mount_text") == 0
    )


def _place(raw: bytes, text: int, mount_text: int, complete: int) -> tuple[str | None, str | None]:
    """Return path and mountpoint of components that run from the file up to the root."""
    if not complete:
        return None, None
    inside, outside = raw[:mount_text], raw[mount_text:text]
    mountpoint = "/" + _upwards(outside)
    path = mountpoint.rstrip("/") + "/" + _upwards(inside)
    return path if len(path) == 1 else path.rstrip("/"), mountpoint


def _filesystem(magic: int, subtype: bytes) -> str | None:
    """Name the type as mountinfo would; None where nothing but a foreign magic number tells it."""
    if magic != _FUSE_MAGIC:
        return c_string(subtype) or None
    return "fuse" + (f".{c_string(subtype)}" if c_string(subtype) else "")


def _upwards(raw: bytes) -> str:
    return "/".join(visible(name) for name in reversed(raw.split(b"\0")) if name)


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
