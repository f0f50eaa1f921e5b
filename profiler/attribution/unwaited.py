"""What a command waits for though no thread of its sleeps for the very request that is served.

Asynchronous reads are in flight while their thread does something else, or sleeps until a timer;
and a request may wait for a lock whose holder fetches another chunk.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ...probes import fuse
from ..intervals import clip_to_lives, overlaps, uncovered
from ..tables import CAUSE, HORIZON_NS, conform
from .delays import stopped_clients

#: the result of an operation that goes on after it has returned: include/linux/errno.h
_EIOCBQUEUED = -529

_REQUEST = ["mount_id", "unique"]


def in_flight(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """When asynchronous reads of the command's were in flight: the columns of `segments`.

    These are READs that its threads queued outside operations, or in one that returned before the
    read was done. Rows overlap: each read is ``daemon``, each fetch that it made ``fetch``, and of
    the download ``first_byte`` and ``transfer``; all are ``stopped`` instead, without a fetch,
    while the client is. ``tables``: a run's.
    """
    segments = tables["segments"]
    reads = _asynchronous_reads(tables["fuse_requests"], tables["operations"])
    fetches = tables["fetches"].select(*_REQUEST, "fetch_id", "download_id", "start_ns", "end_ns")
    fetched = reads.drop("start_ns", "end_ns").join(fetches, on=_REQUEST)
    times = tables["downloads"].select("download_id", "sent_ns", "first_byte_ns", "last_byte_ns")
    loaded = fetched.join(times, on="download_id")
    rows = (
        _caused(reads, "daemon"),
        _caused(fetched, "fetch"),
        _caused(_within(loaded, "sent_ns", "first_byte_ns"), "first_byte"),
        _caused(_within(loaded, "first_byte_ns", "last_byte_ns"), "transfer"),
    )
    bounded = pl.concat(rows, how="diagonal").with_columns(
        pl.col("start_ns").fill_null(0), pl.col("end_ns").fill_null(HORIZON_NS)
    )
    divided = _with_stops(bounded, stopped_clients(tables))
    lives = segments.group_by(key="pid").agg(pl.col("start_ns").min(), pl.col("end_ns").max())
    return conform("segments", clip_to_lives(divided, lives))


def _asynchronous_reads(requests: pl.DataFrame, operations: pl.DataFrame) -> pl.DataFrame:
    """Reads that outlast what queued them: pid, tid, mount_id, unique, start_ns, end_ns?, key."""
    returned = operations.filter(pl.col("result") == _EIOCBQUEUED)["op_id"]
    outlasts = pl.col("op_id").is_null() | pl.col("op_id").is_in(returned.implode())
    return requests.filter((pl.col("opcode") == fuse.READ) & outlasts).select(
        "pid", "tid", *_REQUEST, "end_ns", start_ns="queued_ns", key="pid"
    )


def _caused(rows: pl.DataFrame, cause: str) -> pl.DataFrame:
    return rows.with_columns(cause=pl.lit(cause, CAUSE))


def _with_stops(rows: pl.DataFrame, stopped: pl.DataFrame) -> pl.DataFrame:
    """Rows, as ``stopped`` where their mount's client is; ``stopped``: see `stopped_clients`."""
    numbered = rows.with_row_index("interval")
    asked = numbered.select("interval", "start_ns", "end_ns", tid="mount_id")
    met = overlaps(asked, stopped.rename({"mount_id": "tid"})).drop("tid")
    held = numbered.filter(pl.col("cause") == "daemon").drop("start_ns", "end_ns")
    there = _caused(held.join(met, on="interval"), "stopped")
    rest = uncovered(numbered, met)
    return pl.concat(part.select(rows.columns) for part in (rest, there))


def _within(fetched: pl.DataFrame, begin: str, end: str) -> pl.DataFrame:
    """The part of each fetch between two times of its download; null: it had not come to it."""
    return fetched.drop_nulls(begin).with_columns(
        pl.max_horizontal("start_ns", begin).alias("start_ns"),
        pl.min_horizontal("end_ns", end).alias("end_ns"),
    )


def behind_fetches(
    segments: pl.DataFrame, lock_waits: pl.DataFrame, fetches: pl.DataFrame
) -> pl.DataFrame:
    """Segments, with fetch_id where a ``daemon_lock`` waited for one whose holder fetched.

    They are divided where such a fetch begins or ends, and in no order.
    """
    waits = segments.filter(
        (pl.col("cause") == "daemon_lock") & pl.col("fetch_id").is_null()
    ).with_row_index("interval")
    held = _held_by_fetches(lock_waits, fetches)
    keys = held.select(_REQUEST).unique().with_columns(key=pl.int_range(pl.len(), dtype=pl.Int32))
    asked = waits.join(keys, on=_REQUEST).select("interval", "start_ns", "end_ns", tid="key")
    tiles = held.join(keys, on=_REQUEST).select("start_ns", "end_ns", "fetch_id", tid="key")
    found = overlaps(asked, tiles).select("interval", "start_ns", "end_ns", "fetch_id")
    fetched = waits.drop("start_ns", "end_ns", "fetch_id").join(found, on="interval")
    rest = uncovered(waits, found)
    others = segments.filter((pl.col("cause") != "daemon_lock") | pl.col("fetch_id").is_not_null())
    parts = (part.select(segments.columns) for part in (others, fetched, rest))
    return pl.concat(parts)


def _held_by_fetches(lock_waits: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """When the holder of a lock fetched: mount_id, unique, start_ns, end_ns, fetch_id."""
    spans = fetches.select("fetch_id", from_ns="start_ns", until_ns="end_ns")
    both = lock_waits.join(spans, left_on="holder_fetch_id", right_on="fetch_id")
    end = pl.min_horizontal("end_ns", "until_ns").fill_null(HORIZON_NS)
    return both.select(
        *_REQUEST,
        start_ns=pl.max_horizontal("start_ns", "from_ns"),
        end_ns=end,
        fetch_id="holder_fetch_id",
    ).filter(pl.col("end_ns") > pl.col("start_ns"))
