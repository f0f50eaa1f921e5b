"""Table `segments`, the tiling of every target thread's life, and table `waits`, made with it.

A thread's life is swept over layers: the call of a GPU's driver, the system call, the page fault
inside it, asleep, runnable.
A sleep that ended because a FUSE request ended is divided by what became of that request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import polars as pl

from ...probes.gpu import COUNTED_KINDS
from ..intervals import clip_to_lives, latest_begun, sweep
from ..tables import CAUSE, HORIZON_NS, WAIT_HOW, conform, empty

#: boundaries swept at once: bounds the memory, at about 150 bytes each
BATCH_BOUNDARIES = 4_000_000


@dataclass(frozen=True)
class Evidence:
    """What the tiling is made of.

    ``operations``, ``tasks``: the tables. ``blocked``: the table with ``on_disk`` and mount_id?,
    unique? of the request whose end woke the thread. ``requests``: `fuse_requests`. ``calls``: the
    table `gpu_calls`.
    """

    operations: pl.DataFrame
    blocked: pl.DataFrame
    tasks: pl.DataFrame
    requests: pl.DataFrame
    calls: pl.DataFrame = field(default_factory=partial(empty, "gpu_calls"))


def lives(tasks: pl.DataFrame, start_ns: int, stop_ns: int) -> pl.DataFrame:
    """The watched life of each target thread: key, pid, tid, start_ns, end_ns.

    From its birth or ``start_ns`` to its death or ``stop_ns``. A reused tid has several lives.
    """
    return (
        tasks.filter(pl.col("role") == "target")
        .select(
            "pid",
            "tid",
            start_ns=pl.max_horizontal("start_ns", pl.lit(start_ns)),
            end_ns=pl.min_horizontal("end_ns", pl.lit(stop_ns)),
        )
        .filter(pl.col("end_ns") > pl.col("start_ns"))
        .sort("tid", "start_ns")
        .with_columns(key=pl.int_range(pl.len(), dtype=pl.Int32))
    )


def of_lives(events: pl.DataFrame, living: pl.DataFrame) -> pl.DataFrame:
    """Add ``key``, the life in which an event (tid, start_ns) began; drop events of no life.

    An event that began before recording belongs to the first life of its tid.
    """
    keys = living.select("tid", "key", birth="start_ns")
    if not keys["tid"].is_duplicated().any():
        return events.join(keys.drop("birth"), on="tid")
    is_first = pl.col("birth") == pl.col("birth").min().over("tid")
    births = keys.with_columns(pl.when(is_first).then(0).otherwise("birth").alias("birth"))
    with_key = latest_begun(events, births, at="start_ns", begin="birth", by="tid")
    return with_key.drop_nulls("key").drop("birth")


def thread_states(
    living: pl.DataFrame, operations: pl.DataFrame, calls: pl.DataFrame, off_cpu: OffCpu
) -> pl.DataFrame:
    """Sweep the lives: key, start_ns, end_ns, op_id?, in_driver?, asleep?, runnable?.

    ``operations``: the table with key; the innermost one wins. ``calls``: see `driver_calls`.
    ``in_driver``: 1 where the driver waits for the device, else 0. ``asleep``, ``runnable``: row of
    `blocked`.
    """
    is_fault = pl.col("kind") == "fault"
    spans = operations.select("key", "start_ns", "end_ns", value="op_id", is_fault=is_fault)
    layers = {
        "in_driver": clip_to_lives(calls, living),
        "syscall": clip_to_lives(spans.filter(~pl.col("is_fault")), living),
        "fault": clip_to_lives(spans.filter("is_fault"), living),
        "asleep": clip_to_lives(off_cpu.asleep, living),
        "runnable": clip_to_lives(off_cpu.runnable, living),
    }
    return sweep(living, layers).select(
        "key",
        "start_ns",
        "end_ns",
        "in_driver",
        "asleep",
        "runnable",
        op_id=pl.coalesce("fault", "syscall"),
    )


def driver_calls(calls: pl.DataFrame, living: pl.DataFrame) -> pl.DataFrame:
    """When threads were in a GPU's driver: key, start_ns, end_ns?, value.

    ``value``: 1 where the call waits for the device, else 0. Of calls inside each other the outer
    one counts; those that were only counted have no ends.
    """
    counted = pl.col("kind").is_in(COUNTED_KINDS) & (pl.col("source") == "cuda_api")
    single = calls.filter(~counted)
    of_threads = of_lives(single.select("tid", "kind", "start_ns", "end_ns"), living)
    ordered = of_threads.sort("key", "start_ns", pl.col("end_ns").fill_null(HORIZON_NS).neg())
    reached = pl.col("end_ns").fill_null(HORIZON_NS).cum_max().shift(1).over("key")
    outer = ordered.filter((pl.col("start_ns") >= reached).fill_null(value=True))
    waits = (pl.col("kind") == "synchronize").cast(pl.Int32)
    return outer.select("key", "start_ns", "end_ns", value=waits)


@dataclass(frozen=True)
class OffCpu:
    """Off-CPU intervals divided at the wake: key, start_ns, end_ns?, value (row of `blocked`)."""

    asleep: pl.DataFrame
    runnable: pl.DataFrame

    def within(self, window: pl.Expr) -> OffCpu:
        """The intervals that meet a window."""
        return OffCpu(self.asleep.filter(window), self.runnable.filter(window))


def off_cpu(blocked: pl.DataFrame) -> OffCpu:
    """Divide off-CPU intervals at the wake; a preempted thread is runnable throughout."""
    preempted = pl.col("off_reason") == "preempted"
    wake = pl.when(preempted).then("start_ns").otherwise(pl.coalesce("woken_ns", "end_ns"))
    rows = blocked.with_columns(value=pl.int_range(pl.len(), dtype=pl.Int32), wake=wake)
    runnable = rows.filter(preempted | pl.col("woken_ns").is_not_null())
    return OffCpu(
        rows.select("key", "start_ns", "value", end_ns="wake"),
        runnable.select("key", "end_ns", "value", start_ns="wake"),
    )


def batches(living: pl.DataFrame, evidence: Evidence) -> Iterator[pl.DataFrame]:
    """Windows of time with lives clipped to them, each with a bounded number of boundaries."""
    frames = (evidence.operations, evidence.blocked, evidence.calls)
    events = 2 * (evidence.operations.height + evidence.calls.height)
    events += 3 * evidence.blocked.height
    count = max(1, -(-events // BATCH_BOUNDARIES))
    starts = pl.concat([frame["start_ns"] for frame in frames]).sort()
    cuts = [int(starts[starts.len() * number // count]) for number in range(1, count)]
    edges = [0, *sorted(set(cuts)), HORIZON_NS]
    for low, high in pairwise(edges):
        window = living.with_columns(
            pl.max_horizontal("start_ns", pl.lit(low)).alias("start_ns"),
            pl.min_horizontal("end_ns", pl.lit(high)).alias("end_ns"),
        ).filter(pl.col("end_ns") > pl.col("start_ns"))
        if window.height:
            yield window


def segments_and_waits(
    living: pl.DataFrame, evidence: Evidence, pieces: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Build both tables, one batch of time after another.

    A wait that spans batches occurs in each. ``living``: see `lives`; ``pieces``: see
    `request_timelines.request_pieces`.
    """
    operations = of_lives(
        evidence.operations.select("op_id", "kind", "tid", "start_ns", "end_ns"), living
    )
    blocked = of_lives(evidence.blocked, living)
    in_driver = driver_calls(evidence.calls, living)
    divided = off_cpu(blocked)
    followed = _target_tids(evidence.tasks)
    for window in batches(living, evidence):
        low, high = window["start_ns"].min(), window["end_ns"].max()
        inside = (pl.col("start_ns") < high) & (
            pl.col("end_ns").is_null() | (pl.col("end_ns") > low)
        )
        swept = thread_states(
            window, operations.filter(inside), in_driver.filter(inside), divided.within(inside)
        )
        states = _with_sleeps(swept, blocked, living)
        yield _segments(states, pieces, followed), _waits(states, evidence.requests)


def _target_tids(tasks: pl.DataFrame) -> pl.Series:
    """Threads that have a tiling to follow."""
    return tasks.filter(pl.col("role") == "target")["tid"]


def _with_sleeps(states: pl.DataFrame, blocked: pl.DataFrame, living: pl.DataFrame) -> pl.DataFrame:
    """Add each state's thread and what is known of its off-CPU interval."""
    facts = blocked.select(
        "off_reason",
        "on_disk",
        "mount_id",
        "unique",
        "woken_by_tid",
        off_start="start_ns",
        off_end="end_ns",
    )
    row = states.select(pl.coalesce("asleep", "runnable")).to_series()
    gathered = facts.select(pl.all().gather(row)) if facts.height else facts.clear(row.len())
    threads = living.select("key", "pid", "tid")
    with_facts = pl.concat([states, gathered], how="horizontal")
    return with_facts.join(threads, on="key", maintain_order="left")


def _segments(states: pl.DataFrame, pieces: pl.DataFrame, followed: pl.Series) -> pl.DataFrame:
    asleep = pl.col("asleep").is_not_null()
    for_request = asleep & pl.col("unique").is_not_null()
    plain = states.filter(~for_request).with_columns(
        cause=_plain_cause(followed), fetch_id=pl.lit(None, pl.Int32)
    )
    divided = _divided(states.filter(for_request), pieces)
    names = ["pid", "tid", "start_ns", "end_ns", "cause", "op_id", "mount_id", "unique", "fetch_id"]
    both = pl.concat([frame.select(*names, "woken_by_tid", "asleep") for frame in (plain, divided)])
    of_request = asleep | (pl.col("cause") == "reply")
    rows = both.with_columns(
        pl.when(of_request).then(pl.col("mount_id", "unique")),
        via_tid=pl.when(asleep).then("woken_by_tid"),
    )
    return conform("segments", rows).sort("tid", "start_ns")


def _plain_cause(followed: pl.Series) -> pl.Expr:
    """The cause of time that was not a sleep until a request's end."""
    inside = pl.col("op_id").is_not_null()
    asleep, runnable = pl.col("asleep").is_not_null(), pl.col("runnable").is_not_null()
    waker_followed = pl.col("woken_by_tid").is_in(followed.implode()).fill_null(value=False)
    cause = (
        pl.when(runnable & pl.col("unique").is_not_null())
        .then(pl.lit("reply"))
        .when(runnable)
        .then(pl.lit("runqueue"))
        .when(asleep & (pl.col("off_reason") == "stopped"))
        .then(pl.lit("stopped"))
        .when(~inside & (pl.col("in_driver") == 1))
        .then(pl.lit("device"))
        .when(~inside & (pl.col("in_driver") == 0))
        .then(pl.lit("driver"))
        .when(~asleep & inside)
        .then(pl.lit("copy"))
        .when(~asleep)
        .then(pl.lit("cpu"))
        .when(inside & pl.col("on_disk"))
        .then(pl.lit("disk"))
        .when(inside & ~waker_followed)
        .then(pl.lit("unknown"))
        .otherwise(pl.lit("blocked"))
    )
    return cause.cast(CAUSE)


def _divided(slept: pl.DataFrame, pieces: pl.DataFrame) -> pl.DataFrame:
    """Divide sleeps by the pieces of the request whose end ended them.

    ``unknown`` where the request was not seen.
    """
    request = ["mount_id", "unique"]
    unseen = slept.join(pieces, on=request, how="anti").with_columns(
        cause=pl.lit("unknown", dtype=CAUSE), fetch_id=pl.lit(None, pl.Int32)
    )
    parts = pieces.rename({"start_ns": "from_ns", "end_ns": "until_ns"})
    overlapping = slept.join(parts, on=request).filter(
        (pl.col("from_ns") < pl.col("end_ns")) & (pl.col("until_ns") > pl.col("start_ns"))
    )
    clipped = overlapping.with_columns(
        pl.max_horizontal("start_ns", "from_ns").alias("start_ns"),
        pl.min_horizontal("end_ns", "until_ns").alias("end_ns"),
    )
    return pl.concat([unseen, clipped.select(unseen.columns)])


def _waits(states: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Sleeps inside operations that a request's end ended."""
    slept = states.drop_nulls(["asleep", "unique", "op_id"])
    if not slept.height:
        return empty("waits")
    answers = requests.select("mount_id", "unique", queued_by="op_id", answered_ns="end_ns")
    rows = slept.join(answers, on=["mount_id", "unique"], how="left", maintain_order="left").select(
        "op_id",
        "mount_id",
        "unique",
        start_ns="off_start",
        end_ns="off_end",
        how=pl.when(pl.col("queued_by") == pl.col("op_id"))
        .then(pl.lit("queued"))
        .when(pl.col("answered_ns").is_null() | (pl.col("answered_ns") > pl.col("off_end")))
        .then(pl.lit("range"))
        .otherwise(pl.lit("waker"))
        .cast(WAIT_HOW),
    )
    return conform("waits", rows)
