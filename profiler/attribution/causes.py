"""Views of the tiling: the causes of operations, phases and stalls, and classes of operations.

All are `segments` clipped to intervals and summed. The causes of one operation, phase or stall add
up to its duration, as far as its thread was watched.
"""

from __future__ import annotations

import polars as pl

from ..intervals import latest_begun, next_begun, overlaps, uncovered
from ..tables import CAUSE, HORIZON_NS, OPERATION_CLASS, OPERATION_CLASSES, SEGMENT_LINKS

#: how many wakers in a chain are followed
CHAIN_PASSES = 8

#: a segment that waited for a fetch
OF_FETCH = pl.col("fetch_id").is_not_null()
#: a segment that waited for CVMFS: for a request or a fetch, whatever its cause
OF_CVMFS = pl.col("unique").is_not_null() | OF_FETCH


def read_causes(segments: pl.DataFrame, operations: pl.DataFrame) -> pl.DataFrame:
    """What operations were spent on: op_id, cause, ns.

    The innermost operation owns a segment; here an outer one's sum includes it.
    """
    own = segments.drop_nulls("op_id").select(
        "op_id", "cause", ns=pl.col("end_ns") - pl.col("start_ns")
    )
    summed = own.group_by("op_id", "cause").agg(pl.col("ns").sum())
    outer = summed.join(nested_operations(operations), on="op_id").select(
        "cause", "ns", op_id="outer_id"
    )
    both = pl.concat([summed, outer.select(summed.columns)])
    return both.group_by("op_id", "cause").agg(pl.col("ns").sum()).sort("op_id", "cause")


def nested_operations(operations: pl.DataFrame) -> pl.DataFrame:
    """Page faults inside system calls: op_id, outer_id."""
    is_fault = pl.col("kind") == "fault"
    calls = operations.filter(~is_fault).select(
        "tid", outer_id="op_id", outer_start_ns="start_ns", outer_end_ns="end_ns"
    )
    faults = operations.filter(is_fault).select("op_id", "tid", "start_ns")
    latest = latest_begun(faults, calls, at="start_ns", begin="outer_start_ns", by="tid")
    inside = pl.col("outer_end_ns").is_null() | (pl.col("outer_end_ns") > pl.col("start_ns"))
    return latest.drop_nulls("outer_id").filter(inside).select("op_id", "outer_id")


def clipped_segments(
    segments: pl.DataFrame, intervals: pl.DataFrame, *, follow_wakers: bool = False
) -> pl.DataFrame:
    """Segments clipped to intervals (interval, tid, start_ns, end_ns), with ``interval`` added.

    With ``follow_wakers``, a sleep that another thread ended is replaced by what that thread did
    meanwhile, up to `CHAIN_PASSES` threads away. ``tid`` is then the thread that did it,
    ``via_tid`` the one whose wake ended the sleep. Sleep that leads to no watched thread stays
    ``blocked``. A sleep in a GPU's driver is replaced only where the other thread waited for a file
    meanwhile: the driver's own threads show nothing.
    """
    clipped = overlaps(intervals, segments)
    if not follow_wakers:
        return clipped
    watched = segments["tid"].unique()
    done: list[pl.DataFrame] = []
    for _ in range(CHAIN_PASSES):
        leads = _leads_on(watched)
        done.append(clipped.filter(~leads))
        led_on = clipped.filter(leads)
        if not led_on.height:
            return pl.concat(done).sort("interval", "start_ns")
        clipped = _followed(led_on, segments)
    return pl.concat([*done, clipped]).sort("interval", "start_ns")


def _leads_on(watched: pl.Series) -> pl.Expr:
    asleep = pl.col("cause").is_in(["blocked", "driver"])
    other = pl.col("via_tid") != pl.col("tid")
    return (asleep & other & pl.col("via_tid").is_in(watched.implode())).fill_null(value=False)


def _followed(sleeps: pl.DataFrame, segments: pl.DataFrame) -> pl.DataFrame:
    """Replace each sleep by its waker's segments; what the waker's life does not cover stays."""
    rows = sleeps.rename({"interval": "of_interval"}).with_row_index("interval")
    waker_spans = rows.select("interval", "start_ns", "end_ns", tid="via_tid")
    covered = overlaps(waker_spans, segments)
    sleepers = rows.select(
        "interval", "of_interval", sleeper_via="via_tid", in_driver=pl.col("cause") == "driver"
    )
    of_wakers = (
        covered.join(sleepers, on="interval")
        .filter(~pl.col("in_driver") | pl.col("unique").is_not_null())
        .with_columns(pl.coalesce("via_tid", "sleeper_via").alias("via_tid"))
    )
    rest = uncovered(rows, of_wakers).with_columns(via_tid=pl.lit(None, pl.Int32))
    return pl.concat(
        part.with_columns(interval="of_interval").select(sleeps.columns)
        for part in (of_wakers, rest)
    )


def interval_causes(clipped: pl.DataFrame) -> pl.DataFrame:
    """Sum clipped segments: interval, cause, ns."""
    return (
        clipped.group_by("interval", "cause")
        .agg(ns=(pl.col("end_ns") - pl.col("start_ns")).sum())
        .sort("interval", "cause")
    )


def spent(pieces: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Sum pieces of the tiling: the columns ``by``, ns, cvmfs_ns, fetch_ns.

    ``cvmfs_ns``: of ns, what waited for CVMFS; ``fetch_ns``: what waited for a fetch.
    """
    ns = pl.col("end_ns") - pl.col("start_ns")
    sums = {
        "ns": ns.sum(),
        "cvmfs_ns": ns.filter(OF_CVMFS).sum(),
        "fetch_ns": ns.filter(OF_FETCH).sum(),
    }
    return pieces.group_by(by).agg(**sums).sort(by)


def phase_causes(
    segments: pl.DataFrame, phases: pl.DataFrame, *, follow_wakers: bool = True
) -> pl.DataFrame:
    """What its thread spent each phase on: phase (row of ``phases``), name, cause, ns.

    A phase that never ended lasts as long as its thread.
    """
    numbered = phases.with_columns(interval=pl.int_range(pl.len(), dtype=pl.Int32))
    asked = numbered.select(
        "interval", "tid", "start_ns", end_ns=pl.col("end_ns").fill_null(HORIZON_NS)
    )
    summed = interval_causes(clipped_segments(segments, asked, follow_wakers=follow_wakers))
    named = summed.join(numbered.select("interval", "name"), on="interval", maintain_order="left")
    return named.select("name", "cause", "ns", phase="interval").select(
        "phase", "name", "cause", "ns"
    )


def stall_chains(
    segments: pl.DataFrame, stalls: pl.DataFrame, tasks: pl.DataFrame, *, follow_wakers: bool = True
) -> pl.DataFrame:
    """What each stall waited for, piece by piece: stall_id, the columns of `segments`.

    The pieces tile the stall, in order of time. What its thread did until the kernel was submitted,
    wakers followed as in `clipped_segments`; before its birth, what the thread did that leads its
    process, then the one that leads the parent's. After the submit it is ``launch``, of the waiting
    thread. ``unknown``: no watched thread covers it.
    """
    submitted = pl.col("submitted_ns").clip("start_ns", "end_ns")
    of_stalls = stalls.select("stall_id", "start_ns", "end_ns", tid="waiting_tid", until=submitted)
    spans = _not_empty(of_stalls.with_columns(end_ns="until").drop("until"))
    launched = _not_empty(of_stalls.with_columns(start_ns="until").drop("until"))
    done = list[pl.DataFrame]()
    for _ in range(CHAIN_PASSES):
        asked = spans.with_row_index("interval")
        covered = clipped_segments(segments, asked, follow_wakers=follow_wakers)
        done.append(covered.join(asked.select("interval", "stall_id"), on="interval"))
        spans = _by_creator(uncovered(asked, covered).drop("interval"), tasks)
        if not spans["tid"].count():
            break
    done.append(_of_no_segment(spans, "unknown", segments))
    done.append(_of_no_segment(launched, "launch", segments))
    columns = ["stall_id", *segments.columns]
    return pl.concat([part.select(columns) for part in done]).sort("stall_id", "start_ns")


def _not_empty(spans: pl.DataFrame) -> pl.DataFrame:
    return spans.filter(pl.col("end_ns") > pl.col("start_ns"))


def _by_creator(spans: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """Ask for what a thread's life did not cover the thread that leads its process, or its parent.

    What is left where nobody is known has no tid.
    """
    born = tasks.select("tid", "pid", "parent_pid", born_ns="start_ns").sort("born_ns")
    before = next_begun(spans, born, at="start_ns", begin="born_ns", by="tid")
    creator = pl.when(pl.col("tid") != pl.col("pid")).then("pid").otherwise("parent_pid")
    is_before = pl.col("end_ns") <= pl.col("born_ns")
    return before.with_columns(tid=pl.when(is_before).then(creator)).select(spans.columns)


def _of_no_segment(spans: pl.DataFrame, cause: str, segments: pl.DataFrame) -> pl.DataFrame:
    """Spans (stall_id, tid?, start_ns, end_ns) as pieces with the columns of ``segments``."""
    known = spans.with_columns(cause=pl.lit(cause, CAUSE), pid=pl.lit(None, pl.Int32))
    links = [pl.lit(None, segments.schema[name]).alias(name) for name in SEGMENT_LINKS]
    return known.with_columns(links)


def stall_causes(chains: pl.DataFrame) -> pl.DataFrame:
    """Sum `stall_chains`: stall_id, cause, ns. The causes of a stall sum to its duration."""
    summed = interval_causes(chains.rename({"stall_id": "interval"}))
    return summed.rename({"interval": "stall_id"})


def operation_classes(segments: pl.DataFrame, operations: pl.DataFrame) -> pl.DataFrame:
    """The deepest source that supplied each operation's bytes: op_id, class.

    By what it waited for: ``http``: a download; ``joined``: a download that another thread began;
    ``cvmfs cache``: only the daemon's answer; ``passthrough``, ``disk``: a disk, for a file on FUSE
    or not; ``page cache``: nothing; ``unknown``: something unknown.
    """
    of_operations = segments.join(operations.select("op_id", "passthrough"), on="op_id")
    sources = of_operations.select("op_id", source=_source().cast(OPERATION_CLASS))
    # unknown counts as deeper than the page cache, and as less deep than the rest
    depth = (
        pl.when(pl.col("source") == "unknown")
        .then(OPERATION_CLASSES.index("page cache") - 0.5)
        .otherwise(pl.col("source").to_physical())
    )
    deepest = sources.sort(depth, maintain_order=True).unique("op_id", keep="first")
    classes = operations.select("op_id").join(
        deepest.rename({"source": "class"}), on="op_id", how="left", maintain_order="left"
    )
    return classes.with_columns(pl.col("class").fill_null("unknown"))


def _source() -> pl.Expr:
    """What supplied the bytes of the operation that a segment belongs to."""
    cause = pl.col("cause")
    by_request = pl.col("unique").is_not_null() & pl.col("fetch_id").is_null()
    return (
        pl.when(cause == "fetch_joined")
        .then(pl.lit("joined"))
        .when(pl.col("fetch_id").is_not_null())
        .then(pl.lit("http"))
        .when(by_request & (cause != "unknown"))
        .then(pl.lit("cvmfs cache"))
        .when((cause == "disk") & pl.col("passthrough"))
        .then(pl.lit("passthrough"))
        .when(cause == "disk")
        .then(pl.lit("disk"))
        .when(cause == "unknown")
        .then(pl.lit("unknown"))
        .otherwise(pl.lit("page cache"))
    )


def total(causes: pl.DataFrame) -> pl.DataFrame:
    """Sum any of the views over everything: cause, ns, longest first."""
    return (
        causes.group_by(pl.col("cause").cast(CAUSE))
        .agg(pl.col("ns").sum())
        .sort("ns", "cause", descending=[True, False])
    )
