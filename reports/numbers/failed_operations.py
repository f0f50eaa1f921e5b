"""File operations on FUSE that failed."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import polars as pl

from ..material import Frames, Window

_ALIKE = ["mountpoint", "error", "kind", "path"]


@dataclass(frozen=True)
class FailedOperation:
    """File operations of one kind that failed alike on one path.

    ``error``: its name. ``path``: None where not known; ``mountpoint`` likewise. ``count``: how
    many; ``first_ns``: when the first began, after the start of the command.
    """

    kind: str
    error: str
    path: str | None
    mountpoint: str | None
    count: int
    first_ns: int


def failed_operations(frames: Frames, window: Window) -> tuple[FailedOperation, ...]:
    """Return what failed, by the time of the first."""
    failed = frames["failed_operations"]
    operations = frames["operations"].select(
        "op_id", "kind", "result", failed_ns=pl.coalesce("end_ns", "start_ns")
    )
    places = frames["mounts"].select("mount_id", "mountpoint")
    joined = failed.join(operations, on="op_id").join(places, on="mount_id", how="left")
    counted = (
        joined.with_columns(pl.col("kind").cast(pl.String), error=-pl.col("result"))
        .group_by(_ALIKE)
        .agg(count=pl.len(), first_ns=pl.col("failed_ns").min() - window.start_ns)
        .sort("first_ns", *_ALIKE)
    )
    return tuple(
        FailedOperation(kind, _error(number), path, mountpoint, count, first_ns)
        for mountpoint, number, kind, path, count, first_ns in counted.iter_rows()
    )


def _error(number: int) -> str:
    return errno.errorcode.get(number, str(number))
