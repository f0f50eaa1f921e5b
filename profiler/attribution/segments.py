"""Table `segments`: the tiling of every target thread's life; and table `waits`, which falls out of
it.

A thread's life is swept over three layers: the system call, the page fault inside it, and being off
the CPU. Of that, sleep that ended because a FUSE request ended is divided by what became of that
request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from ..intervals import clip_to_lives, sweep
from ..tables import CAUSE, WAIT_HOW, conform, empty

#: boundaries swept at once: bounds the memory, at some 150 bytes each
BATCH_BOUNDARIES = 4_000_000

_ASLEEP, _RUNNABLE = 0, 1


@dataclass(frozen=True)
class Evidence:
    """What the tiling is made of.

    ``operations``, ``tasks``: the tables. ``blocked``: the table with mount_id?, unique? of the
    request whose end woke the thread. ``requests``: `fuse_requests`.
    """

    operations: pl.DataFrame
    blocked: pl.DataFrame
    tasks: pl.DataFrame
    requests: pl.DataFrame


def lives(tasks: pl.DataFrame, start_ns: int, stop_ns: int) -> pl.DataFrame:
    """The watched life of each target thread: key, pid, tid, start_ns, end_ns.

    From its birth or the start of recording to its death or the stop. A tid that was given again
    has several lives.
    """
    return (
        tasks.filter(pl.col("role") == "target")
        .select(
            "pid",
            "tid",
            start_ns=pl.max_horizontal("start_ns", pl.lit(start_ns)),
            end_ns=pl.min_horizontal(pl.col("end_ns").fill_null(stop_ns), pl.lit(stop_ns)),
        )
        .filter(pl.col("end_ns") > pl.col("start_ns"))
        .sort("tid", "start_ns")
        .with_columns(key=pl.int_range(pl.len(), dtype=pl.Int32))
    )


def of_lives(events: pl.DataFrame, living: pl.DataFrame) -> pl.DataFrame:
    """Add ``key``, the life in which an event (tid, start_ns) began; others are dropped.

    An event that began before recording belongs to the first life of its tid.
    """
    keys = living.select("tid", "key", birth="start_ns")
    if not keys["tid"].is_duplicated().any():
        return events.join(keys.drop("birth"), on="tid")
    first = pl.col("birth") == pl.col("birth").min().over("tid")
    births = keys.with_columns(pl.when(first).then(0).otherwise("birth").alias("birth"))
    found = events.sort("start_ns").join_asof(
        births.sort("birth"), left_on="start_ns", right_on="birth", by="tid", check_sortedness=False
    )
    return found.drop_nulls("key").drop("birth", strict=False)


def with_hung_requests(evidence: Evidence) -> pl.DataFrame:
    """`blocked`, where the last sleep of an operation that never ended names a request in flight.

    No answer ended it, so there is no proof; but the operation waits for the bytes that it wants,
    whoever asked for them, or else for what it asked for itself.
    """
    open_ones = evidence.operations.filter(pl.col("end_ns").is_null())
    flying = _with_deaths(evidence.requests.filter(pl.col("end_ns").is_null()), evidence.tasks)
    hung = _requests_of_bytes(open_ones, flying, evidence)
    own = open_ones.select("op_id").join(
        flying.select("op_id", "mount_id", "unique"), on="op_id", maintain_order="left"
    )
    named = pl.concat([hung, own]).unique("op_id", keep="first", maintain_order=True)
    if not named.height:
        return evidence.blocked
    sleeps = (
        _last_sleeps(open_ones, evidence)
        .join(named, on="op_id")
        .sort("began_ns")
        .select("row", hung_mount="mount_id", hung_unique="unique")
        .unique("row", keep="last")
    )  # of nested operations the innermost's
    joined = evidence.blocked.with_row_index("row").join(
        sleeps, on="row", how="left", maintain_order="left"
    )
    return joined.with_columns(
        mount_id=pl.coalesce("hung_mount", "mount_id"), unique=pl.coalesce("hung_unique", "unique")
    ).drop("row", "hung_mount", "hung_unique")


def _with_deaths(flying: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """Add ``died_ns``, when the thread that queued a request ended."""
    lives = tasks.select("pid", "tid", born_ns="start_ns", died_ns="end_ns").drop_nulls("died_ns")
    deaths = flying.join(lives, on=["pid", "tid"]).filter(
        pl.col("queued_ns").is_between("born_ns", "died_ns")
    )
    request = ["mount_id", "unique", "queued_ns"]
    return flying.join(deaths.select(*request, "died_ns").unique(request), on=request, how="left")


def _requests_of_bytes(
    open_ones: pl.DataFrame, flying: pl.DataFrame, evidence: Evidence
) -> pl.DataFrame:
    """READs in flight of bytes that operations want, the first first: op_id, mount_id, unique.

    The kernel drops a request that no daemon has taken when its sender is killed, and says nothing:
    it cannot be what a later operation waits for.
    """
    node = ["mount_id", "node_id"]
    asked = evidence.requests.drop_nulls(["op_id", "offset_bytes"]).select("op_id", *node)
    files = asked.join(evidence.operations.select("op_id", "file_id"), on="op_id").drop_nulls()
    wanted = open_ones.drop_nulls(["file_id", "offset_bytes", "size_bytes"]).select(
        "op_id",
        "file_id",
        began_ns="start_ns",
        from_byte="offset_bytes",
        to_byte=pl.sum_horizontal("offset_bytes", "size_bytes"),
    )
    met = wanted.join(files.select("file_id", *node).unique(), on="file_id").join(
        flying.drop_nulls("offset_bytes"), on=node
    )
    overlap = (pl.col("offset_bytes") < pl.col("to_byte")) & (
        pl.sum_horizontal("offset_bytes", "size_bytes") > pl.col("from_byte")
    )
    dropped = pl.col("served_ns").is_null() & (pl.col("died_ns") < pl.col("began_ns"))
    found = met.filter(overlap & ~dropped.fill_null(value=False)).sort("offset_bytes")
    return found.select("op_id", "mount_id", "unique")


def _last_sleeps(open_ones: pl.DataFrame, evidence: Evidence) -> pl.DataFrame:
    """The sleep in which each operation stayed until its thread died or the recording stopped, and
    which no request's end ended: op_id, began_ns, row.
    """
    life = evidence.tasks.select("tid", born_ns="start_ns", died_ns="end_ns")
    began = (
        open_ones.select("op_id", "tid", began_ns="start_ns")
        .join(life, on="tid")
        .filter(
            (pl.col("born_ns") <= pl.col("began_ns"))
            & (pl.col("began_ns") <= pl.col("died_ns")).fill_null(value=True)
        )
    )
    sleeps = evidence.blocked.with_row_index("row").filter(pl.col("off_reason") != "preempted")
    inside = sleeps.join(began, on="tid").filter(
        (pl.col("start_ns") >= pl.col("began_ns"))
        & (pl.col("start_ns") <= pl.col("died_ns")).fill_null(value=True)
    )
    last = inside.sort("start_ns").unique("op_id", keep="last")
    stayed = pl.col("end_ns").is_null() | pl.col("died_ns").is_not_null()
    return last.filter(pl.col("unique").is_null() & stayed).select("op_id", "began_ns", "row")


def thread_states(
    living: pl.DataFrame, operations: pl.DataFrame, off_cpu: pl.DataFrame
) -> pl.DataFrame:
    """Sweep the lives: key, start_ns, end_ns, op_id?, off? (row of ``off_cpu``).

    ``operations``: the table with key; ``off_cpu``: see `off_cpu_parts`. The innermost operation
    wins.
    """
    is_fault = pl.col("kind") == "fault"
    spans = operations.select("key", "start_ns", "end_ns", is_fault, value="op_id")
    layers = {
        "syscall": clip_to_lives(spans.filter(~pl.col("kind")), living),
        "fault": clip_to_lives(spans.filter("kind"), living),
        "off": clip_to_lives(off_cpu, living),
    }
    swept = sweep(living, layers)
    return swept.select("key", "start_ns", "end_ns", "off", op_id=pl.coalesce("fault", "syscall"))


def off_cpu_parts(blocked: pl.DataFrame) -> pl.DataFrame:
    """Divide off-CPU intervals at the wake: key, start_ns, end_ns?, value.

    ``value`` is twice the row of ``blocked``, plus one for the part in which the thread is
    runnable.
    """
    preempted = pl.col("off_reason") == "preempted"
    wake = pl.when(preempted).then("start_ns").otherwise(pl.coalesce("woken_ns", "end_ns"))
    rows = blocked.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int32) * 2, wake=wake)
    asleep = rows.select("key", "start_ns", end_ns="wake", value=pl.col("row") + _ASLEEP)
    runnable = rows.filter(preempted | pl.col("woken_ns").is_not_null()).select(
        "key", start_ns="wake", end_ns="end_ns", value=pl.col("row") + _RUNNABLE
    )
    return pl.concat([asleep, runnable])


def batches(living: pl.DataFrame, evidence: Evidence) -> Iterator[pl.DataFrame]:
    """Windows of time with lives clipped to them, each with a bounded number of boundaries."""
    events = 2 * evidence.operations.height + 3 * evidence.blocked.height
    count = max(1, -(-events // BATCH_BOUNDARIES))
    starts = pl.concat([evidence.operations["start_ns"], evidence.blocked["start_ns"]]).sort()
    cuts = [int(starts[starts.len() * number // count]) for number in range(1, count)]
    edges = [0, *sorted(set(cuts)), 1 << 62]
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
    """Build both tables, one batch of time after another (waits that span batches occur in each).

    ``pieces``: see `timelines.request_pieces`.
    """
    operations = of_lives(
        evidence.operations.select("op_id", "kind", "tid", "start_ns", "end_ns"), living
    )
    off = of_lives(evidence.blocked, living)
    parts = off_cpu_parts(off)
    wakers = _known_tids(evidence.tasks)
    for window in batches(living, evidence):
        low, high = window["start_ns"].min(), window["end_ns"].max()
        meets = (pl.col("start_ns") < high) & (
            pl.col("end_ns").is_null() | (pl.col("end_ns") > low)
        )
        states = thread_states(window, operations.filter(meets), parts.filter(meets))
        told = _told(states, off, living)
        yield _segments(told, pieces, wakers), _waits(told, evidence.requests)


def _known_tids(tasks: pl.DataFrame) -> pl.Series:
    """Threads whose tilings can be followed."""
    return tasks.filter(pl.col("role") == "target")["tid"].unique()


def _told(states: pl.DataFrame, off: pl.DataFrame, living: pl.DataFrame) -> pl.DataFrame:
    """Give each state its thread and the facts of its off-CPU interval."""
    facts = off.select(
        "off_reason",
        "on_disk",
        "mount_id",
        "unique",
        "woken_by_tid",
        off_start="start_ns",
        off_end="end_ns",
    )
    row = states["off"] // 2
    keys = living.select("key", "pid", "tid")
    with_facts = pl.concat([states, _taken(facts, row)], how="horizontal")
    return with_facts.join(keys, on="key", how="left", maintain_order="left")


def _taken(facts: pl.DataFrame, row: pl.Series) -> pl.DataFrame:
    """Rows of ``facts`` by number, null for null."""
    return facts.select(pl.all().gather(row)) if facts.height else facts.clear(row.len())


def _segments(told: pl.DataFrame, pieces: pl.DataFrame, wakers: pl.Series) -> pl.DataFrame:
    asleep = pl.col("off").is_not_null() & (pl.col("off") % 2 == _ASLEEP)
    linked = asleep & pl.col("unique").is_not_null()
    plain = told.filter(~linked.fill_null(value=False)).with_columns(
        cause=_plain_cause(wakers), fetch_id=pl.lit(None, pl.Int32)
    )
    divided = _divided(told.filter(linked.fill_null(value=False)), pieces)
    names = ["pid", "tid", "start_ns", "end_ns", "cause", "op_id", "mount_id", "unique", "fetch_id"]
    both = pl.concat(
        [frame.select(*names, "woken_by_tid", "off") for frame in (plain, divided)]
    ).with_columns(via_tid=pl.when(pl.col("off") % 2 == _ASLEEP).then("woken_by_tid"))
    is_reply = (pl.col("cause") == "reply") | (pl.col("off") % 2 == _ASLEEP)
    kept = both.with_columns(
        pl.when(is_reply).then(pl.col(name)).alias(name) for name in ("mount_id", "unique")
    )
    return conform("segments", kept).sort("tid", "start_ns")


def _plain_cause(wakers: pl.Series) -> pl.Expr:
    """The cause of what no request divides."""
    inside, on_cpu = pl.col("op_id").is_not_null(), pl.col("off").is_null()
    runnable = pl.col("off") % 2 == _RUNNABLE
    answered = pl.col("unique").is_not_null()
    named = pl.col("woken_by_tid").is_in(wakers.implode()).fill_null(value=False)
    cause = (
        pl.when(on_cpu & inside)
        .then(pl.lit("copy"))
        .when(on_cpu)
        .then(pl.lit("cpu"))
        .when(runnable & answered)
        .then(pl.lit("reply"))
        .when(runnable)
        .then(pl.lit("runqueue"))
        .when(inside & pl.col("on_disk").fill_null(value=False))
        .then(pl.lit("disk"))
        .when(inside & ~named)
        .then(pl.lit("unknown"))
        .otherwise(pl.lit("blocked"))
    )
    return cause.cast(CAUSE)


def _divided(slept: pl.DataFrame, pieces: pl.DataFrame) -> pl.DataFrame:
    """Divide sleeps by the pieces of the request whose end ended them; a request not seen:
    unknown.
    """
    request = ["mount_id", "unique"]
    known = pieces.select(request).unique()
    lost = slept.join(known, on=request, how="anti").with_columns(
        cause=pl.lit("unknown", dtype=CAUSE), fetch_id=pl.lit(None, pl.Int32)
    )
    parts = pieces.rename({"start_ns": "from_ns", "end_ns": "until_ns"})
    met = slept.join(parts, on=request).filter(
        (pl.col("from_ns") < pl.col("end_ns")) & (pl.col("until_ns") > pl.col("start_ns"))
    )
    clipped = met.with_columns(
        pl.max_horizontal("start_ns", "from_ns").alias("start_ns"),
        pl.min_horizontal("end_ns", "until_ns").alias("end_ns"),
    )
    return pl.concat([lost, clipped.select(lost.columns)])


def _waits(told: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Sleeps inside operations that a request's end ended."""
    slept = told.filter(
        (pl.col("off") % 2 == _ASLEEP)
        & pl.col("unique").is_not_null()
        & pl.col("op_id").is_not_null()
    )
    if not slept.height:
        return empty("waits")
    queued = requests.select("mount_id", "unique", queued_by="op_id", answered_ns="end_ns")
    once = slept.unique(["op_id", "off"], keep="first", maintain_order=True)
    rows = once.join(queued, on=["mount_id", "unique"], how="left", maintain_order="left").select(
        "op_id",
        "mount_id",
        "unique",
        start_ns="off_start",
        end_ns="off_end",
        how=pl.when(pl.col("queued_by") == pl.col("op_id"))
        .then(pl.lit("queued"))
        .when(pl.col("answered_ns").is_null())
        .then(pl.lit("range"))
        .otherwise(pl.lit("waker"))
        .cast(WAIT_HOW),
    )
    return conform("waits", rows)
