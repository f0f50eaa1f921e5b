"""The tiling of the command's wall time, and of each process's: one cause at each instant."""

from __future__ import annotations

import polars as pl

from ..tables import CAUSES
from .causes import OF_CVMFS, OF_FETCH
from .polling import polls

#: what goes on: a thread on a CPU, or a device that works for a thread
_PROGRESS_CAUSES = ("cpu", "copy", "driver", "device")
#: what a thread waits for, the shallowest first
_WAITS = (
    "blocked",
    *(cause for cause in CAUSES if cause not in ("blocked", "cpu", "copy", "device")),
)

# The level of a segment: the highest one wins. Each is a bit of an Int64, so there are at most 62.
_POLLS = 1
_WAITS_FOR_REQUEST = len(_WAITS) + 1
_WAITS_FOR_FETCH = _WAITS_FOR_REQUEST + len(_WAITS)
_PROGRESSES = _WAITS_FOR_FETCH + len(_WAITS)

_LINKS = ("pid", "tid", "op_id", "mount_id", "unique", "fetch_id", "via_tid")


def command_causes(segments: pl.DataFrame) -> pl.DataFrame:
    """What kept the command from going on, at each instant of its wall time.

    Returns start_ns, end_ns, cause, polled, and pid?, tid?, op_id?, mount_id?, unique?, fetch_id?,
    via_tid? of the segment chosen. In order, without gap or overlap, from the first of ``segments``
    to the last. ``polled``: a thread that only polls was on a CPU, and none made progress. Where no
    thread was watched it is ``unknown``, pid and tid are null.
    """
    return _tiling(segments.with_columns(key=pl.lit(0, pl.Int32))).drop("key")


def process_causes(segments: pl.DataFrame) -> pl.DataFrame:
    """The same for each process by itself, in which any of its threads was watched.

    Returns the columns of `command_causes`, in order of pid and start_ns.
    """
    return _tiling(segments.with_columns(key="pid")).drop("key").drop_nulls("pid")


def _tiling(segments: pl.DataFrame) -> pl.DataFrame:
    """Tile the time of each ``key``: key and the columns of `command_causes`."""
    ordered = segments.sort("tid", "start_ns")
    levels = ordered.with_columns(polls=polls(ordered), row=pl.int_range(pl.len(), dtype=pl.UInt32))
    firsts = _first_begun(levels.select("key", "row", "start_ns", "end_ns", level=_level()))
    chosen = _deepest(firsts)
    facts = ordered.select("cause", *_LINKS).select(pl.all().gather(chosen["row"]))
    pieces = pl.concat([chosen.drop("row"), facts], how="horizontal")
    return pieces.with_columns(pl.col("cause").fill_null("unknown")).select(
        "key", "start_ns", "end_ns", "cause", "polled", *_LINKS
    )


def _level() -> pl.Expr:
    """How much a segment tells of why the command does not go on."""
    waits = pl.col("cause").replace_strict(
        _WAITS, range(len(_WAITS)), default=0, return_dtype=pl.UInt8
    )
    asleep_in_driver = (pl.col("cause") == "driver") & pl.col("via_tid").is_not_null()
    return (
        pl.when("polls")
        .then(_POLLS)
        .when(pl.col("cause").is_in(_PROGRESS_CAUSES) & ~asleep_in_driver)
        .then(_PROGRESSES)
        .when(OF_FETCH)
        .then(waits + _WAITS_FOR_FETCH)
        .when(OF_CVMFS)
        .then(waits + _WAITS_FOR_REQUEST)
        .when(waits < _POLLS)
        .then(waits)
        .otherwise(waits + 1)
        .cast(pl.UInt8)
    )


def _first_begun(levels: pl.DataFrame) -> pl.DataFrame:
    """Where segments of one level overlap, keep the one begun first, until it ends.

    ``levels``: key, level, row, start_ns, end_ns. Returns the same; of a level none overlap.
    """
    reached = pl.col("end_ns").cum_max().shift(1).over("key", "level").fill_null(0)
    return (
        levels.sort("key", "level", "start_ns", "row")
        .with_columns(pl.max_horizontal("start_ns", reached).alias("start_ns"))
        .filter(pl.col("end_ns") > pl.col("start_ns"))
    )


def _deepest(spans: pl.DataFrame) -> pl.DataFrame:
    """The highest level at each instant: key, start_ns, end_ns, polled, row?.

    ``spans``: see `_first_begun`. Levels that go on are the bits of a running sum.
    """
    bit = pl.lit(2, pl.Int64).pow(pl.col("level"))
    begins = spans.select("key", start_ns="start_ns", change=bit, begun=bit)
    ends = spans.select("key", start_ns="end_ns", change=-bit, begun=pl.lit(0, pl.Int64))
    instants = (
        pl.concat([begins, ends])
        .group_by("key", "start_ns")
        .agg(pl.col("change", "begun").sum())
        .sort("key", "start_ns")
        .with_columns(going_on=pl.col("change").cum_sum())
    )
    pieces = _pieces(instants)
    of_level = spans.select("key", "level", "start_ns", "row").sort("start_ns")
    return (
        pieces.sort("start_ns")
        .join_asof(of_level, on="start_ns", by=["key", "level"], check_sortedness=False)
        .sort("key", "start_ns")
        .drop("level")
    )


def _pieces(instants: pl.DataFrame) -> pl.DataFrame:
    """Divide time where another segment is chosen: key, start_ns, end_ns, polled, level?.

    ``instants``: key, start_ns, ``going_on``: the levels from then on, ``begun``: those that begin.
    """
    going_on = pl.col("going_on")
    highest = going_on.bitwise_leading_zeros()
    polled = (going_on & (1 << _POLLS) != 0) & (going_on < 1 << _PROGRESSES)
    parts = instants.select(
        "key",
        "start_ns",
        polled=polled,
        level=pl.when(going_on > 0).then(63 - highest).cast(pl.UInt8),
        begins=pl.col("begun").bitwise_leading_zeros() == highest,
        is_last=(pl.col("key") != pl.col("key").shift(-1)).fill_null(value=True),
    )
    changes = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(name).shift()) for name in ("key", "level", "polled")
    )
    return (
        parts.filter(changes | pl.col("begins") | pl.col("is_last"))
        .with_columns(end_ns=pl.col("start_ns").shift(-1))
        .filter(~pl.col("is_last"))
        .select("key", "start_ns", "end_ns", "polled", "level")
    )
