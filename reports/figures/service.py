"""Lanes of what served the command: FUSE requests in flight, and the daemon's threads."""

from __future__ import annotations

import polars as pl

from ...probes import fuse
from ..material import Frames, Window, file_names
from ..words import plural
from .bricks import DURATION, clip, disjoint, thin
from .lanes import Lane, LaneGroup
from .packed import Rows, merged_note, packed, rest_of
from .parts import request_parts
from .timeline import CAUSE_PALETTE, FAILED_CODE, cause_code, thread_labels

#: upper bounds on what is drawn, however large the run is
REQUEST_ROWS = Rows(alone=16, rest=6)
MAX_DAEMON_THREADS, ROWS_OF_OTHERS = 6, 2
_BRICKS_OF_DAEMON = 6_000


def fetches_of_requests(frames: Frames) -> pl.DataFrame:
    """Return mount_id, unique, fetch_id: the first fetch that each FUSE request caused."""
    return (
        frames["fetches"]
        .select("mount_id", "unique", "fetch_id")
        .drop_nulls()
        .group_by("mount_id", "unique")
        .agg(pl.col("fetch_id").min())
    )


def request_lanes(frames: Frames, window: Window, fetched: pl.DataFrame) -> LaneGroup:
    """FUSE requests in flight, packed into rows. ``fetched``: see `parts.fetch_parts`."""
    requests = _requests(frames, window)
    pieces = (
        request_parts(requests, fetched, frames)
        .join(_request_details(requests, frames), on="key", how="left")
        .with_columns(code=pl.when("failed").then(FAILED_CODE).otherwise(cause_code()))
        .with_columns(pl.col("code").cast(pl.UInt8))
        .drop("cause", "failed")
    )
    drawn = packed("request", requests.select("key", "start_ns", "end_ns"), pieces, REQUEST_ROWS)
    return LaneGroup(
        "requests",
        "FUSE requests",
        "Requests from the kernel to cvmfs2, from queued to answered, and what each waited for.",
        CAUSE_PALETTE,
        drawn.lanes,
        drawn.note,
    )


def _requests(frames: Frames, window: Window) -> pl.DataFrame:
    """The requests within the window, each with a key."""
    seen = frames["fuse_requests"].with_columns(
        start_ns=pl.coalesce("queued_ns", "served_ns"), answered=pl.col("end_ns").is_not_null()
    )
    inside = clip(seen.drop_nulls("start_ns"), window.start_ns, window.end_ns)
    return inside.with_columns(key=pl.int_range(pl.len(), dtype=pl.Int32))


def _request_details(requests: pl.DataFrame, frames: Frames) -> pl.DataFrame:
    """What is said of requests: key, failed, and the columns under the pointer."""
    operations = frames["operations"].select("op_id", "file_id", pl.col("kind").cast(pl.String))
    by_node = (
        frames["files"]
        .select("mount_id", pl.col("inode").alias("node_id"), by_node="file_id")
        .unique(("mount_id", "node_id"))
    )
    linked = (
        requests.join(operations, on="op_id", how="left")
        .join(by_node, on=("mount_id", "node_id"), how="left")
        .with_columns(file_id=pl.coalesce("file_id", "by_node"))
        .join(fetches_of_requests(frames), on=("mount_id", "unique"), how="left")
        .join(file_names(frames), on="file_id", how="left")
    )
    names = pl.col("opcode").replace_strict(
        list(fuse.OPCODES), list(fuse.OPCODES.values()), default=pl.format("opcode {}", "opcode")
    )
    return linked.select(
        "key",
        "fetch_id",
        failed=(pl.col("error") < 0) & (pl.col("opcode") == fuse.READ),
        request=names,
        file="path",
        offset_bytes="offset_bytes",
        size_bytes="size_bytes",
        unique="unique",
        lasted_ns=DURATION,
        ended=_ended(pl.col("answered"), pl.col("error")),
        **{"queued by": pl.col("kind")},
    )


def _ended(answered: pl.Expr, error: pl.Expr) -> pl.Expr:
    """How a request ended, where that is worth a word."""
    failed = pl.when(error < 0).then(pl.format("error {}", -error))
    return pl.when(~answered).then(pl.lit("never answered")).otherwise(failed)


def _calls(frames: Frames, window: Window) -> pl.DataFrame:
    """The outermost calls of the daemon, as bricks with their thread."""
    calls = frames["daemon_calls"].filter(pl.col("parent_id").is_null())
    linked = calls.join(fetches_of_requests(frames), on=("mount_id", "unique"), how="left")
    named = linked.with_columns(cause=pl.lit("daemon")).with_columns(cause_code())
    return clip(named, window.start_ns, window.end_ns).select(
        "tid", "start_ns", "end_ns", "code", "fetch_id", "unique", what="function"
    )


def _fetches(frames: Frames, fetched: pl.DataFrame) -> pl.DataFrame:
    """The parts of fetches, as bricks with their thread."""
    kind = pl.col("object_kind").cast(pl.String).fill_null("object")
    outcome = pl.col("outcome").cast(pl.String)
    details = frames["fetches"].join(file_names(frames), on="file_id", how="left").select(
        "fetch_id",
        "tid",
        failed=outcome.eq_missing(pl.lit("failed")),
        what=pl.format("fetch of a {}", kind),
        file="path",
        offset_bytes="offset_bytes",
        object="object_hash",
        ended=outcome.fill_null("never ended"),
    )  # fmt: skip
    code = pl.when("failed").then(FAILED_CODE).otherwise(cause_code())
    parts = fetched.join(details, on="fetch_id", how="left")
    return parts.with_columns(code=code.cast(pl.UInt8)).drop("cause", "failed")


def daemon_lanes(frames: Frames, window: Window, fetched: pl.DataFrame) -> LaneGroup:
    """The daemon's threads: the calls that they serve, and below them the fetches inside.

    ``fetched``: see `parts.fetch_parts`.
    """
    calls, fetches = _calls(frames, window), _fetches(frames, fetched)
    ranked = _busiest(calls, fetches)
    shown, others = ranked.head(MAX_DAEMON_THREADS), ranked.slice(MAX_DAEMON_THREADS)
    labels, limit = thread_labels(frames), _BRICKS_OF_DAEMON // max(2 * shown.height, 1)
    lanes: list[Lane] = []
    merged = 0
    for tid in shown["tid"]:
        for label, part in ((labels.get(tid, f"cvmfs2 {tid}"), calls), ("fetches", fetches)):
            of_thread = disjoint(part.filter(pl.col("tid") == tid).drop("tid"))
            if of_thread.height or part is calls:
                bricks, shortest = thin(of_thread, limit)
                lanes.append(Lane(label, bricks))
                merged = max(merged, shortest)
    summed, of_others = _others(calls, fetches, others)
    return LaneGroup(
        "daemon",
        "cvmfs2 threads",
        "The calls that each thread of the daemon serves and, below them, its fetches.",
        CAUSE_PALETTE,
        (*lanes, *summed),
        " ".join(filter(None, (merged_note(merged) if merged else "", of_others))),
    )


def _busiest(calls: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """The daemon's threads by rank: tid, ns."""
    columns = ("tid", "start_ns", "end_ns")
    spent = pl.concat([calls.select(columns), fetches.select(columns)])
    sums = spent.group_by("tid").agg(ns=DURATION.sum())
    return sums.sort("ns", "tid", descending=[True, False])


def _others(
    calls: pl.DataFrame, fetches: pl.DataFrame, threads: pl.DataFrame
) -> tuple[list[Lane], str]:
    """The calls and the fetches of these threads, summed."""
    called, fetched = (part.join(threads, on="tid", how="semi") for part in (calls, fetches))
    names = (
        plural(called.height, "call"),
        plural(fetched["fetch_id"].n_unique(), "fetch", "fetches"),
    )
    parts = (
        rest_of(name, part, ROWS_OF_OTHERS)
        for name, part in zip(names, (called, fetched), strict=True)
    )
    found = list(parts)
    notes = " ".join(note for _, note in found if note)
    prefix = f"Of {plural(threads.height, 'less busy thread')}: " if notes else ""
    return [lane for lanes, _ in found for lane in lanes], prefix + notes
