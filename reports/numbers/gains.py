"""What can be gained at most from each part of the waits for CVMFS.

A change that shortens waits of a part, and nothing else, ends the command earlier by at most the
time in which any of its threads, or an asynchronous read of its, waits in that part.

Proof. Go back from the command's end through its steps, each time to the step that the present one
had to await: the one before it in its thread or, after a sleep, the last one of the thread that
ended the sleep. These steps follow each other from the start to the end without a gap. After the
change they must still follow each other, and those outside the part last as long as before. So the
command takes at least their sum, and what it gains is at most the sum of the steps inside the part.
While such a step lasts, its thread waits in the part: that sum is at most the time in which any
thread does.

Time in which other threads go on counts, too: what one computes after its wait may be what the
others await in the end. What others than the command have fetched is taken to last as long as
before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ...profiler.intervals import overlaps, uncovered, united
from .sums import total

#: the parts of the waits for CVMFS that somebody can change, and the causes of each
PARTS: Mapping[str, tuple[str, ...]] = {
    "first_byte": ("connect", "first_byte"),
    "transfer": ("transfer",),
    "download_thread": ("decompress", "cache_write"),
    "other_downloads": ("fetch_queue", "fetch_joined"),
    "locks": ("daemon_lock",),
    "client": ("fuse_queue", "daemon", "cache_read"),
    "catalogs": ("catalog",),
}


@dataclass(frozen=True)
class Gain:
    """A part of the waits for CVMFS, without what was lost (`lost`).

    ``held_ns``: of the command's wall time, by the tiling `command_causes`: no thread went on, and
    this was the deepest wait. ``most_ns``: more cannot be gained from it.
    """

    held_ns: int
    most_ns: int


def gains(wall: pl.DataFrame, waits: pl.DataFrame) -> dict[str, Gain]:
    """Return what each part held and what it can gain at most; parts without waits are absent.

    ``wall``: pieces of the command's wall time; ``waits``: of all its threads and reads. Both
    without what was lost, with start_ns, end_ns, cause.
    """
    found: dict[str, Gain] = {}
    for part, causes in PARTS.items():
        in_part = pl.col("cause").is_in(causes)
        most_ns = _length(united(waits.filter(in_part).select("start_ns", "end_ns", all=0), "all"))
        if most_ns:
            found[part] = Gain(_length(wall.filter(in_part)), most_ns)
    return found


def reads_alone(reads: pl.DataFrame) -> pl.DataFrame:
    """Return asynchronous reads in flight, those that are ``daemon`` without their fetches."""
    request = ["mount_id", "unique"]
    keys = reads.select(request).unique().with_columns(tid=pl.int_range(pl.len(), dtype=pl.Int32))
    is_whole = pl.col("cause") == "daemon"
    whole = reads.filter(is_whole).join(keys.rename({"tid": "key"}), on=request)
    whole = whole.with_row_index("interval")
    fetches = reads.filter(pl.col("cause") == "fetch").drop("tid").join(keys, on=request)
    asked = whole.select("interval", "start_ns", "end_ns", tid="key")
    met = overlaps(asked, united(fetches.select("tid", "start_ns", "end_ns"), "tid"))
    return pl.concat([reads.filter(~is_whole), uncovered(whole, met).select(reads.columns)])


def _length(pieces: pl.DataFrame) -> int:
    return total(pieces.select(ns=pl.col("end_ns") - pl.col("start_ns")), "ns")
