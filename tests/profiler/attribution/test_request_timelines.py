"""What became of the time of requests."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.profiler.attribution import request_timelines as timelines
from cvmprof.profiler.tables import CAUSE, HORIZON_NS, conform, empty

A = "a1" * 20


def fetches(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [
        {
            "fetch_id": n,
            "mount_id": 0,
            "pid": 1,
            "tid": 1,
            "object_hash": A,
            "outcome": "downloaded",
            "unique": None,
            **row,
        }
        for n, row in enumerate(rows)
    ]
    frame = pl.DataFrame(filled, infer_schema_length=None)
    return conform("fetches", frame.with_columns(pl.col("unique").cast(pl.UInt64)))


def requests(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [
        {
            "mount_id": 0,
            "opcode": 15,
            "node_id": 7,
            "pid": 1,
            "tid": 1,
            "error": 0,
            "end_tid": 5,
            "served_tid": 5,
            **row,
        }
        for row in rows
    ]
    frame = pl.DataFrame(filled, infer_schema_length=None)
    return conform("fuse_requests", frame, "end_tid", "served_tid").with_columns(
        pl.col("end_tid", "served_tid").cast(pl.Int32)
    )


LOCKS = pl.DataFrame(
    schema={
        "mount_id": pl.Int32,
        "unique": pl.UInt64,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "in_fetch": pl.Boolean,
    }
)
NEEDS = pl.DataFrame(schema={"mount_id": pl.Int32, "unique": pl.UInt64, "object_hash": pl.String})
CLIENTS = pl.DataFrame({"mount_id": [0]}, schema={"mount_id": pl.Int32})


def calls(*rows: tuple[int, int, int | None, int | None]) -> pl.DataFrame:
    """Calls (unique, start, end, parent)."""
    frame = pl.DataFrame(rows, schema=["unique", "start_ns", "end_ns", "parent_id"], orient="row")
    filled = frame.with_columns(
        mount_id=pl.lit(0),
        pid=pl.lit(1),
        tid=pl.lit(5),
        function=pl.lit("cvmfs_read"),
        call_id=pl.int_range(pl.len()),
    )
    return conform("daemon_calls", filled)


def pieces_of(
    asked: pl.DataFrame, called: pl.DataFrame, **more: pl.DataFrame
) -> list[tuple[Any, ...]]:
    made = more.get("made", fetches({"start_ns": 0, "end_ns": 0}).clear())
    whole = made.select(
        "fetch_id", "start_ns", pl.col("end_ns").fill_null(HORIZON_NS), cause=pl.lit("fetch", CAUSE)
    )
    evidence = timelines.RequestEvidence(
        called,
        made,
        whole,
        more.get("locks", LOCKS),
        more.get("lookups", empty("cache_lookups")),
        more.get("clients", CLIENTS),
    )
    found = timelines.request_pieces(asked, more.get("needs", NEEDS), evidence)
    return found.select("start_ns", "end_ns", "cause", "fetch_id").rows()


def test_a_read_from_the_cache() -> None:
    asked = requests({"unique": 2, "queued_ns": 10, "served_ns": 20, "end_ns": 50})
    assert pieces_of(asked, calls((2, 25, 55, None), (2, 30, 35, 0))) == [
        (0, 20, "fuse_queue", None),
        (20, 50, "cache_read", None),
        (50, HORIZON_NS, "reply", None),
    ]
    assert pieces_of(asked, calls())[1] == (20, 50, "cache_read", None)  # its calls are not seen


def test_what_no_client_of_cvmfs_serves_is_not_divided() -> None:
    asked = requests({"unique": 2, "queued_ns": 10, "served_ns": 20, "end_ns": 50})
    assert pieces_of(asked, calls(), clients=CLIENTS.clear())[1] == (20, 50, "daemon", None)


def test_metadata_come_from_the_catalogs_and_a_cached_file_from_the_cache() -> None:
    asked = requests({"unique": 2, "opcode": 14, "queued_ns": 10, "served_ns": 20, "end_ns": 50})
    looked = conform(
        "cache_lookups",
        pl.DataFrame(
            {
                "mount_id": [0],
                "start_ns": [30],
                "end_ns": [32],
                "pid": [1],
                "tid": [5],
                "object_hash": [A],
                "hit": [True],
            }
        ),
    )
    assert pieces_of(asked, calls((2, 25, 55, None)), lookups=looked)[1:4] == [
        (20, 30, "catalog", None),
        (30, 32, "cache_read", None),
        (32, 50, "catalog", None),
    ]


def test_a_request_whose_taking_was_not_seen() -> None:
    asked = requests({"unique": 2, "queued_ns": 10, "end_ns": 50})
    assert pieces_of(asked, calls((2, 25, 40, None)))[:2] == [
        (0, 25, "fuse_queue", None),
        (25, 50, "cache_read", None),
    ]
    assert pieces_of(asked, calls())[:2] == [
        (0, 10, "fuse_queue", None),
        (10, 50, "cache_read", None),
    ]


def test_a_request_that_nobody_ever_took_or_answered() -> None:
    untaken = requests({"unique": 2, "queued_ns": 10})
    assert pieces_of(untaken, calls()) == [(0, HORIZON_NS, "fuse_queue", None)]
    unanswered = requests({"unique": 2, "queued_ns": 10, "served_ns": 15})
    assert pieces_of(unanswered, calls((2, 20, None, None))) == [
        (0, 15, "fuse_queue", None),
        (15, HORIZON_NS, "cache_read", None),
    ]


def test_own_fetch_wins_over_the_holders_and_that_over_the_lock() -> None:
    asked = requests(
        {"unique": 2, "queued_ns": 10, "served_ns": 20, "end_ns": 90},
        {"unique": 4, "queued_ns": 10, "served_ns": 30, "end_ns": 95},
    )
    made = fetches({"start_ns": 25, "end_ns": 80, "unique": 2})
    locks = LOCKS.clear(0).vstack(
        pl.DataFrame(
            [(0, 4, 35, 90, False), (0, 2, 26, 27, True)], schema=LOCKS.schema, orient="row"
        )
    )
    needs = pl.DataFrame([(0, 2, A), (0, 4, A)], schema=NEEDS.schema, orient="row")
    found = pieces_of(
        asked, calls((2, 22, 91, None), (4, 32, 96, None)), made=made, locks=locks, needs=needs
    )
    assert found == [
        (0, 20, "fuse_queue", None),
        (20, 25, "cache_read", None),
        (25, 26, "fetch", 0),
        (26, 27, "daemon_lock", None),
        (27, 80, "fetch", 0),
        (80, 90, "cache_read", None),
        (90, HORIZON_NS, "reply", None),
        (0, 30, "fuse_queue", None),
        (30, 80, "fetch", 0),
        (80, 90, "daemon_lock", None),
        (90, 95, "cache_read", None),
        (95, HORIZON_NS, "reply", None),
    ]


def test_a_fetch_of_the_chunk_at_another_time_or_of_another_mount_is_no_holder() -> None:
    asked = requests({"unique": 4, "queued_ns": 10, "served_ns": 30, "end_ns": 95})
    made = fetches(
        {"start_ns": 5, "end_ns": 30},
        {"start_ns": 95, "end_ns": 99},
        {"start_ns": 40, "end_ns": 50, "mount_id": 1},
        {"start_ns": 40, "end_ns": 50, "outcome": "joined"},
    )
    needs = pl.DataFrame([(0, 4, A)], schema=NEEDS.schema, orient="row")
    assert pieces_of(asked, calls(), made=made, needs=needs)[1] == (
        30,
        95,
        "cache_read",
        None,
    )
