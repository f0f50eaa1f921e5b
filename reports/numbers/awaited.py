"""A process of others for which the command slept, and which used CVMFS meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...profiler.attribution.causes import OF_CVMFS
from ...profiler.intervals import overlaps
from ..material import Frames, Material
from .sharing import names_of_processes


@dataclass(frozen=True)
class Awaited:
    """A process that woke the command from sleeps in which nothing of the command went on.

    ``slept_ns``: these sleeps, of the command's wall time; ``requests_ns``: of that, requests of
    the process to CVMFS were in progress.
    """

    pid: int
    name: str
    slept_ns: int
    requests_ns: int


def awaited(material: Material) -> Awaited | None:
    """Return the process whose requests were in progress longest in such sleeps."""
    sleeps = _sleeps(material)
    busy = overlaps(sleeps, _busy(material.frames, material.window.end_ns))
    lasted = (pl.col("end_ns") - pl.col("start_ns")).sum()
    found = (
        sleeps.group_by("tid")
        .agg(slept_ns=lasted)
        .join(busy.group_by("tid").agg(requests_ns=lasted), on="tid")
        .sort("requests_ns", "tid", descending=[True, False])
        .head(1)
        .join(_neighbours(material.frames), left_on="tid", right_on="pid")
    )
    rows = found.select("tid", "name", "slept_ns", "requests_ns").iter_rows()
    return next((Awaited(*row) for row in rows), None)


def _neighbours(frames: Frames) -> pl.DataFrame:
    others = frames["tasks"].filter(pl.col("role").cast(pl.String) == "neighbour")
    return names_of_processes(others).drop_nulls()


def _sleeps(material: Material) -> pl.DataFrame:
    """Parts of the wall time in which the command slept, and that a wake by a neighbour ended.

    Columns: interval, start_ns, end_ns, and ``tid``: the process that woke it.
    """
    others = _neighbours(material.frames)["pid"].implode()
    blocked = material.frames["blocked"].filter(
        (pl.col("off_reason") == "sleep") & pl.col("woken_by_pid").is_in(others)
    )
    ends = blocked.select(end_ns="woken_ns", since_ns="start_ns", tid="woken_by_pid").drop_nulls()
    woken = _asleep(material.command_causes).join(
        ends.sort("since_ns").unique("end_ns", keep="first"), on="end_ns"
    )
    return woken.select(
        "tid",
        "end_ns",
        start_ns=pl.max_horizontal("start_ns", "since_ns"),
        interval=pl.int_range(pl.len(), dtype=pl.Int32),
    )


def _asleep(pieces: pl.DataFrame) -> pl.DataFrame:
    """Spans of the wall time in which every thread slept, and none for CVMFS: start_ns, end_ns."""
    is_sleep = ((pl.col("cause") == "blocked") & ~OF_CVMFS).fill_null(value=False)
    spans = pieces.with_columns(is_sleep=is_sleep).with_columns(span=pl.col("is_sleep").rle_id())
    asleep = spans.filter("is_sleep").group_by("span", maintain_order=True)
    return asleep.agg(pl.col("start_ns").first(), pl.col("end_ns").last()).drop("span")


def _busy(frames: Frames, end_ns: int) -> pl.DataFrame:
    """When each process had a request in progress, without overlaps: tid (its pid), start, end."""
    asked = (
        frames["fuse_requests"]
        .filter(pl.col("pid") > 0)
        .select(tid="pid", start_ns="queued_ns", end_ns=pl.col("end_ns").fill_null(end_ns))
    )
    ordered = asked.drop_nulls().sort("tid", "start_ns")
    reached = pl.col("end_ns").cum_max().shift(1).over("tid").fill_null(0)
    later = ordered.with_columns(start_ns=pl.max_horizontal("start_ns", reached))
    return later.filter(pl.col("end_ns") > pl.col("start_ns"))
