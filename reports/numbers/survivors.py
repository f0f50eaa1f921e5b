"""Processes of the command that lived on when recording ended, and what they were doing then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..material import Frames, Material


@dataclass(frozen=True)
class Survivor:
    """A process; ``cause``: that of its last segment, of a thread inside a request or fetch if one
    is. None: it has no segment.
    """

    pid: int
    name: str
    argv: tuple[str, ...]
    cause: str | None


@dataclass(frozen=True)
class Survivors:
    """The processes, in the order in which they began; none where recording was cut off.

    ``command_did``: the command itself was one of them, as with ``--duration``. ``until``: what was
    recorded, ``command`` or ``all``.
    """

    processes: tuple[Survivor, ...] = ()
    command_did: bool = False
    until: str = "command"


def survivors(material: Material) -> Survivors:
    """Return what of the command was not recorded to its end."""
    meta, frames = material.meta, material.frames
    targets = frames["tasks"].filter(pl.col("role").cast(pl.String) == "target")
    living = _living(targets)
    if not meta.get("complete") or not living.height:
        return Survivors()
    described = living.join(_last_causes(frames), on="pid", how="left", maintain_order="left")
    first = targets.sort("start_ns", "tid")["pid"][0]
    options: Mapping[str, Any] = meta.get("options") or {}
    return Survivors(
        processes=tuple(map(_survivor, described.iter_rows(named=True))),
        command_did=first in living["pid"],
        until=str(options.get("until", "command")),
    )


def _living(targets: pl.DataFrame) -> pl.DataFrame:
    """A row for each process with a thread that has no end: pid, name, argv of its first one."""
    return (
        targets.filter(pl.col("end_ns").is_null().any().over("pid"))
        .sort("start_ns", pl.col("tid") != pl.col("pid"))
        .group_by("pid", maintain_order=True)
        .agg(pl.col("name").first(), pl.col("argv").drop_nulls().first())
    )


def _last_causes(frames: Frames) -> pl.DataFrame:
    """What each process did last: pid, cause."""
    in_cvmfs = pl.col("unique").is_not_null() | pl.col("fetch_id").is_not_null()
    last_of_threads = (
        frames["segments"].sort("end_ns").group_by("pid", "tid", maintain_order=True).last()
    )
    return (
        last_of_threads.sort(in_cvmfs, pl.col("tid") == pl.col("pid"), "end_ns", descending=True)
        .group_by("pid", maintain_order=True)
        .agg(pl.col("cause").first().cast(pl.String))
    )


def _survivor(row: Mapping[str, Any]) -> Survivor:
    return Survivor(row["pid"], row["name"], tuple(row["argv"] or ()), row["cause"])
