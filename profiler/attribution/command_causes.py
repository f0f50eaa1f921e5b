"""The tiling of a command's wall time, or of one process's: one cause at each instant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from ..intervals import merged
from ..tables import CAUSES, SEGMENT_LINKS
from .causes import OF_CVMFS, OF_FETCH, spent
from .polling import polls

#: segments swept at once: bounds the memory, at about 200 bytes each
WINDOW_SEGMENTS = 1_000_000

#: what goes on: a thread on a CPU, or in a GPU's driver
PROGRESS = ("cpu", "copy", "driver", "device")
#: what a thread waits for without a request, from what says least to what says most
WAITS = ("blocked", *(each for each in CAUSES if each not in ("blocked", "cpu", "copy", "device")))
#: what one waits for with a request or a fetch: in ``runqueue`` and ``stopped`` is the client's
#: thread
SERVED = (
    "unknown", "fuse_queue", "daemon", "daemon_lock",
    "fetch in flight", "first_byte in flight", "transfer in flight",
    "cache_read", "catalog", "fetch", "fetch_joined", "fetch_queue", "runqueue", "stopped",
    "connect", "first_byte", "transfer", "decompress", "cache_write", "reply",
)  # fmt: skip

# The level of a segment, from the one that says least to the one that wins. Each is a bit of a
# positive Int64, so there are at most 63.
_POLLS = 1
_WAITS_FOR_REQUEST = len(WAITS) + 1
_WAITS_FOR_FETCH = _WAITS_FOR_REQUEST + len(SERVED)
PROGRESSES = _WAITS_FOR_FETCH + len(SERVED)


def command_causes(segments: pl.DataFrame, in_flight: pl.DataFrame) -> pl.DataFrame:
    """What kept the threads of ``segments`` from going on, at each instant of their wall time.

    ``in_flight``: their asynchronous reads, see `unwaited.in_flight`; those of others do not count.

    Returns start_ns, end_ns, cause, polled, and of the segment chosen pid?, tid?, op_id?,
    mount_id?, unique?, fetch_id?, via_tid?: in order, without gap or overlap, from the first
    segment to the last. ``polled``: a thread that only polls was on a CPU, and none made progress.
    Where no thread was watched it is ``unknown``, pid and tid are null.
    """
    threads = segments.sort("tid", "start_ns")
    own = in_flight.join(threads.select("pid").unique(), on="pid", how="semi")
    spans = _begun_first(_levels(threads, own).with_row_index("row"))
    parts = pl.concat([_highest(spans.clear(), 0), *_windows(spans)])
    pieces = merged(parts, "row", "polled")
    facts = pl.concat([threads, own]).select("cause", "pid", "tid", *SEGMENT_LINKS)
    chosen = facts.select(pl.all().gather(pieces["row"]))
    tiles = pl.concat([pieces.drop("row"), chosen], how="horizontal")
    return tiles.with_columns(pl.col("cause").fill_null("unknown")).select(
        "start_ns", "end_ns", "cause", "polled", "pid", "tid", *SEGMENT_LINKS
    )


def process_causes(segments: pl.DataFrame, in_flight: pl.DataFrame, count: int) -> pl.DataFrame:
    """What each process's wall time went to: pid, cause, and the sums of `causes.spent`.

    Of the ``count`` that lived longest. The time in which no thread was watched is left out.
    """
    lived = pl.col("end_ns").max() - pl.col("start_ns").min()
    lives = segments.group_by("pid").agg(lived=lived).sort("lived", "pid", descending=[True, False])
    longest = segments.filter(pl.col("pid").is_in(lives["pid"].head(count).implode()))
    own = [spent(segments.clear(), "pid", "cause")]
    for _, threads in longest.group_by("pid"):
        own.append(spent(command_causes(threads, in_flight).drop_nulls("pid"), "pid", "cause"))
    return pl.concat(own).sort("pid", "cause")


def _levels(threads: pl.DataFrame, in_flight: pl.DataFrame) -> pl.DataFrame:
    """The level of each segment, then of each row of ``in_flight``: start_ns, end_ns, level."""
    of_reads = pl.when(OF_FETCH).then(_place(SERVED, " in flight")).otherwise(_place(SERVED))
    marked = threads.with_columns(polls=polls(threads))
    reads = in_flight.with_columns(polls=pl.lit(value=False))
    return pl.concat(
        [
            marked.select("start_ns", "end_ns", level=_level(_place(SERVED))),
            reads.select("start_ns", "end_ns", level=_level(of_reads)),
        ]
    )


def _level(served: pl.Expr) -> pl.Expr:
    """How much a segment, with ``polls``, says of why its command does not go on."""
    wait = _place(WAITS)
    asleep_in_driver = (pl.col("cause") == "driver") & pl.col("via_tid").is_not_null()
    return (
        pl.when("polls")
        .then(_POLLS)
        .when(pl.col("cause").is_in(PROGRESS) & ~asleep_in_driver)
        .then(PROGRESSES)
        .when(OF_FETCH)
        .then(served + _WAITS_FOR_FETCH)
        .when(OF_CVMFS)
        .then(served + _WAITS_FOR_REQUEST)
        .otherwise(pl.when(wait < _POLLS).then(wait).otherwise(wait + 1))
        .cast(pl.UInt8)
    )


def _place(steps: Sequence[str], suffix: str = "") -> pl.Expr:
    """The place of a segment's cause among steps, 0 if it is not there."""
    places = {each: steps.index(each + suffix) for each in CAUSES if each + suffix in steps}
    return pl.col("cause").replace_strict(places, default=0, return_dtype=pl.UInt8)


def _begun_first(levels: pl.DataFrame) -> pl.DataFrame:
    """Where segments of one level overlap, keep the one begun first, until it ends.

    ``levels``: row, start_ns, end_ns, level. Returns the same in order of start_ns; those of a
    level do not overlap.
    """
    ordered = levels.sort("start_ns", maintain_order=True)
    reached = pl.col("end_ns").cum_max().shift(1).over("level").fill_null(0)
    later = ordered.with_columns(pl.max_horizontal("start_ns", reached).alias("start_ns"))
    return later.filter(pl.col("end_ns") > pl.col("start_ns")).sort("start_ns")


def _windows(spans: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Cut all time where so many spans, which are in order, have begun; yield the parts chosen."""
    last_ns = spans.select(pl.col("end_ns").max())
    going_on = spans.clear()
    for first in range(0, spans.height, WINDOW_SEGMENTS):
        both = pl.concat([going_on, spans[first : first + WINDOW_SEGMENTS]])
        following = spans.select("start_ns")[first + WINDOW_SEGMENTS :].head(1)
        until_ns: int = (following if following.height else last_ns).item()
        yield _highest(both.filter(pl.col("start_ns") < until_ns), until_ns)
        going_on = both.filter(pl.col("end_ns") > until_ns).with_columns(
            start_ns=pl.lit(until_ns, pl.Int64)
        )


def _highest(spans: pl.DataFrame, until_ns: int) -> pl.DataFrame:
    """The highest level at each instant until then: start_ns, end_ns, polled, row?."""
    going_on = pl.col("going_on")
    parts = _going_on(spans, until_ns).select(
        start_ns="time_ns",
        end_ns=pl.col("time_ns").shift(-1),
        polled=(going_on & (1 << _POLLS) != 0) & (going_on < 1 << PROGRESSES),
        level=(63 - going_on.bitwise_leading_zeros().cast(pl.Int8)).cast(pl.UInt8, strict=False),
    )
    of_level = spans.select("start_ns", "level", "row")
    found = parts.drop_nulls("end_ns").join_asof(
        of_level, on="start_ns", by="level", check_sortedness=False
    )
    return found.drop("level")


def _going_on(spans: pl.DataFrame, until_ns: int) -> pl.DataFrame:
    """The levels that go on from each boundary until then, as bits: time_ns, going_on.

    Of a level spans do not overlap, so the bits are those of a running sum.
    """
    bit = pl.lit(2, pl.Int64).pow(pl.col("level"))
    begins = spans.select(time_ns="start_ns", change=bit)
    ends = spans.select(time_ns=pl.col("end_ns").clip(upper_bound=until_ns), change=-bit)
    last = pl.DataFrame({"time_ns": [until_ns], "change": [0]}, schema=begins.schema)
    summed = (
        pl.concat([begins, ends, last])
        .sort("time_ns")
        .select("time_ns", going_on=pl.col("change").cum_sum())
    )
    is_last = pl.col("time_ns") != pl.col("time_ns").shift(-1)
    return summed.filter(is_last.fill_null(value=True))
