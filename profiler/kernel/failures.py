"""Table `failed_operations`: file operations on FUSE that failed, with their mounts and paths."""

from __future__ import annotations

import errno
from os.path import join, normpath
from pathlib import PurePosixPath

import polars as pl

from ...probes import fuse
from ...probes.events import (
    OPERATION_KINDS,
    OPERATION_KNOWN_FILE,
    OPERATION_LINKED,
    TROUBLES,
)
from ..run.journal import Journal
from ..run.mountinfo import MountLine, parse_mountinfo
from ..run.places import file_places
from ..run.text import c_strings
from ..tables import conform

_AUTOMOUNTER = "autofs"
_KEY = ["tid", "start_ns"]
_BY_PATH = [OPERATION_KINDS.index(kind) for kind in ("open", "metadata")]


def asked_paths(records: pl.DataFrame, journal: Journal) -> pl.DataFrame:
    """What failed calls asked for: tid, start_ns, path, dev?, filesystem?.

    ``records``: FAILURE records. The path is absolute where the directory that it begins at is
    known; device and file system are those of the FUSE mount or automounter that it leads to.
    """
    places, asked = _places(journal), c_strings(records["asked"])
    bases = file_places(records)["path"]
    paths = [_absolute(base, path) for base, path in zip(bases, asked, strict=True)]
    led = [_led_to(*each, places) for each in zip(paths, records["start_ns"], strict=True)]
    on_fuse = (pl.col("magic") == fuse.SUPER_MAGIC) & (pl.col("time_ns") != 0)
    return records.with_columns(
        path=pl.Series(paths, dtype=pl.String),
        led_dev=pl.Series([each and each[0] for each in led], dtype=pl.UInt32),
        led_filesystem=pl.Series([each and each[1] for each in led], dtype=pl.String),
    ).select(
        *_KEY,
        "path",
        dev=pl.coalesce("led_dev", pl.when(on_fuse).then("dev")),
        filesystem=pl.coalesce("led_filesystem", pl.when(on_fuse).then(pl.lit("fuse"))),
    )


def without_others(operations: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The OPERATION records without failures that other file systems explain.

    A call on a path that failed, or did not end, has no file. It is kept where it queued requests
    or waited for them, where its path leads to a FUSE mount or to an automounter, and where the
    error is ENOTCONN, which only FUSE gives for a path.
    """
    proven = (pl.col("flags") & (OPERATION_KNOWN_FILE | OPERATION_LINKED) != 0) | (
        pl.col("requests") > 0
    )
    no_answer = (pl.col("result") < 0) | (pl.col("end_ns") == 0)
    of_path = pl.col("kind").is_in(_BY_PATH) & no_answer & ~proven
    led_to = asked.unique(_KEY).select(*_KEY, asked_filesystem="filesystem")
    joined = operations.join(led_to, on=_KEY, how="left", maintain_order="left")
    missing = pl.col("result") == -errno.ENOENT
    by_path = pl.col("asked_filesystem").is_not_null() & (
        ~missing | (pl.col("asked_filesystem") == _AUTOMOUNTER)
    )
    kept = ~of_path | by_path | (pl.col("result") == -errno.ENOTCONN)
    return joined.filter(kept).drop("asked_filesystem")


def failed_operations(
    operations: pl.DataFrame, asked: pl.DataFrame, files: pl.DataFrame
) -> pl.DataFrame:
    """The table, from the tables `operations` and `files`.

    ``asked``: `asked_paths` with mount_id?. That access(2) or stat(2) is refused by permissions is
    an answer, not a failure; that the automounter knows no such name is one.
    """
    known = asked.unique(_KEY, keep="first").select(
        *_KEY, asked_path="path", asked_mount="mount_id", asked_filesystem="filesystem"
    )
    names = files.select("file_id", "path", "mount_id")
    joined = operations.join(known, on=_KEY, how="left", maintain_order="left").join(
        names, on="file_id", how="left", maintain_order="left"
    )
    refused = (pl.col("kind") == "metadata") & (pl.col("result") == -errno.EACCES)
    unmounted = (pl.col("asked_filesystem") == _AUTOMOUNTER) & (pl.col("result") == -errno.ENOENT)
    troubled = pl.col("result").is_in([-number for number in TROUBLES])
    rows = joined.filter((troubled & ~refused) | unmounted.fill_null(value=False))
    return conform(
        "failed_operations",
        rows.select(
            "op_id",
            mount_id=pl.coalesce("asked_mount", "mount_id"),
            path=pl.coalesce("asked_path", "path"),
        ),
    )


def _absolute(base: str | None, path: str) -> str:
    """The path from the root, ``.`` and ``..`` resolved; as given where its base is unknown."""
    return path if base is None and not path.startswith("/") else normpath(join(base or "/", path))


def _places(journal: Journal) -> dict[str, list[tuple[int, MountLine]]]:
    """What was mounted at each mount point, with the time from which on; the one on top is last."""
    places: dict[str, list[tuple[int, MountLine]]] = {}
    for number, text in enumerate(journal.of("mountinfo")):
        seen_ns = text.get("time_ns", 0) if number else 0
        for line in parse_mountinfo(text.get("text") or ""):
            mounted = places.setdefault(line.mountpoint, [])
            if not mounted or mounted[-1][1] != line:
                mounted.append((seen_ns, line))
    return places


def _led_to(
    path: str, at_ns: int, places: dict[str, list[tuple[int, MountLine]]]
) -> tuple[int, str] | None:
    """Device number and file system of the FUSE mount or automounter that a path leads to."""
    if not path.startswith("/"):
        return None
    for place in (path, *map(str, PurePosixPath(path).parents)):
        mounted = [line for seen_ns, line in places.get(place, ()) if seen_ns <= at_ns]
        if mounted:
            name = mounted[-1].filesystem
            matters = name in ("fuse", "fuseblk", _AUTOMOUNTER) or name.startswith("fuse.")
            return (fuse.device_number(mounted[-1].device), name) if matters else None
    return None
