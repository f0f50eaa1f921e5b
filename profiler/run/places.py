"""Where files lie: FILE records as absolute paths, mountpoints and file systems."""

from __future__ import annotations

import polars as pl

from ...probes import fuse
from .text import c_string, visible

#: the columns that identify a file in raw records
KEY = ("dev", "ino", "generation")


def file_places(records: pl.DataFrame) -> pl.DataFrame:
    """Decode FILE records: time_ns, dev, ino, generation, mount_text, size_bytes, path?,
    mountpoint?, filesystem?, is_superblock.

    ``path`` is absolute. It and ``mountpoint`` are null where the walk did not reach the root of
    the namespace. ``is_superblock``: the record shows where something is mounted, not a file in it.
    """
    components = records.select("components", "text", "mount_text", "complete")
    schema = {"path": pl.String, "mountpoint": pl.String}
    paths = pl.DataFrame([_place(*row) for row in components.iter_rows()], schema, orient="row")
    names = [_filesystem(*row) for row in records.select("magic", "filesystem").iter_rows()]
    return pl.concat(
        [records.select("time_ns", *KEY, "mount_text", size_bytes="size"), paths], how="horizontal"
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
    """Return the type as mountinfo names it; None where only an unknown magic number is known."""
    if magic != fuse.SUPER_MAGIC:
        return c_string(subtype) or None
    return "fuse" + (f".{c_string(subtype)}" if c_string(subtype) else "")


def _upwards(raw: bytes) -> str:
    return "/".join(visible(name) for name in reversed(raw.split(b"\0")) if name)
