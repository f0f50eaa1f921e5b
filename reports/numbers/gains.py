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
others await in the end. What was not divided counts for each part that it may be in. What others
than the command have fetched is taken to last as long as before, and a program that looks from time
to time whether it can go on, to look as often as before.

Of a change that shortens several parts this holds for all of them together: a faster line shortens
transfers, the queues behind them and the catalogs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ...profiler.intervals import overlaps, uncovered, united
from .held import REQUEST
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
#: in which of them what is not divided of a fetch may be, and of an asynchronous read's request
_OF_FETCHES = ("first_byte", "transfer", "download_thread", "other_downloads")
_OF_REQUESTS = ("locks", "catalogs")
#: what is known of the fetch of an asynchronous read
_LOADS = ("first_byte", "transfer")


@dataclass(frozen=True)
class Gain:
    """A part of the waits for CVMFS, without what was lost (`lost`).

    ``held_ns``: of the command's wall time, by the tiling `command_causes`: no thread went on, and
    this was the deepest wait. ``most_ns``: more cannot be gained from it.
    """

    held_ns: int
    most_ns: int


def gains(wall: pl.DataFrame, waits: pl.DataFrame, reads: pl.DataFrame) -> dict[str, Gain]:
    """Return what each part held and what it can gain at most; parts without waits are absent.

    ``wall``: pieces of the command's wall time; ``waits``: of all its threads; ``reads``: see
    `reads_alone`. All without what was lost, with start_ns, end_ns, cause.
    """
    found: dict[str, Gain] = {}
    for part, causes in PARTS.items():
        in_part = pl.col("cause").is_in(causes)
        if waits.filter(in_part).is_empty() and reads.filter(in_part).is_empty():
            continue
        undivided = ("fetch",) if part in _OF_FETCHES else ()
        of_reads = ("daemon", "fetch") if part in _OF_REQUESTS else undivided
        pairs = ((waits, undivided), (reads, of_reads))
        may_be = [rows.filter(pl.col("cause").is_in([*causes, *more])) for rows, more in pairs]
        found[part] = Gain(_length(wall.filter(in_part)), _length(_any(pl.concat(may_be))))
    return found


def reads_alone(reads: pl.DataFrame) -> pl.DataFrame:
    """Return asynchronous reads in flight, each at its deepest: those that are ``daemon`` without
    their fetches, and these without the parts that are known of them.
    """
    causes = pl.col("cause").cast(pl.String)
    keys = reads.select(REQUEST).unique().with_columns(tid=pl.int_range(pl.len(), dtype=pl.Int32))
    numbered = reads.drop("tid").join(keys, on=REQUEST).with_row_index("interval")
    parts = [numbered.filter(~causes.is_in(["daemon", "fetch"])).drop("interval")]
    for whole, deeper in (("daemon", causes == "fetch"), ("fetch", causes.is_in(_LOADS))):
        asked = numbered.filter(causes == whole)
        spans = united(numbered.filter(deeper).select("tid", "start_ns", "end_ns"), "tid")
        parts.append(uncovered(asked, overlaps(asked, spans)).drop("interval"))
    return pl.concat(part.select(numbered.drop("interval").columns) for part in parts)


def _any(pieces: pl.DataFrame) -> pl.DataFrame:
    return united(pieces.select("start_ns", "end_ns", all=0), "all")


def _length(pieces: pl.DataFrame) -> int:
    return total(pieces.select(ns=pl.col("end_ns") - pl.col("start_ns")), "ns")
