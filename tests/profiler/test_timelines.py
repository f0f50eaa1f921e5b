"""What became of the time of fetches and requests."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.profiler import timelines
from cvmprof.profiler.tables import conform, empty
from cvmprof.profiler.timelines import HORIZON_NS

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
            "queued_ns": None,
            "returned_ns": None,
            **row,
        }
        for n, row in enumerate(rows)
    ]
    frame = pl.DataFrame(filled, infer_schema_length=None).with_columns(
        pl.col("unique").cast(pl.UInt64), pl.col("queued_ns", "returned_ns").cast(pl.Int64)
    )
    return conform("fetches", frame, "unique", "queued_ns", "returned_ns")


def downloads(*rows: dict[str, Any]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Attempts and the table."""
    filled = [
        {
            "download_id": n,
            "url_path": "",
            "host": "",
            "connection_id": 0,
            "encrypted": False,
            "reused": True,
            "wire_bytes": 0,
            **row,
        }
        for n, row in enumerate(rows)
    ]
    frame = pl.DataFrame(filled, infer_schema_length=None)
    tried = frame.select(
        pl.col("fetch_id", "attempt").cast(pl.Int32), pl.col("download_id").cast(pl.Int32)
    )
    return tried, conform("downloads", frame)


NONE = (
    pl.DataFrame(schema={"fetch_id": pl.Int32, "attempt": pl.Int32, "download_id": pl.Int32}),
    empty("downloads"),
)


def tiles(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return frame.select("start_ns", "end_ns", "cause").rows()


def test_a_fetch_of_which_nothing_more_is_known() -> None:
    found = timelines.fetch_pieces(fetches({"start_ns": 10, "end_ns": 90, "queued_ns": 20}), *NONE)
    assert tiles(found) == [(10, 90, "fetch")]


def test_a_joined_fetch_is_one_piece_and_an_open_one_has_no_end() -> None:
    rows = fetches(
        {"start_ns": 10, "end_ns": 90, "outcome": "joined"}, {"start_ns": 15, "outcome": None}
    )
    assert tiles(timelines.fetch_pieces(rows, *NONE)) == [
        (10, 90, "fetch_joined"), (15, HORIZON_NS, "fetch"),
    ]  # fmt: skip


def test_an_attempt_that_failed_and_one_on_a_new_connection() -> None:
    rows = fetches({"start_ns": 10, "end_ns": 90, "queued_ns": 20, "returned_ns": 80})
    wire = downloads(
        {"fetch_id": 0, "attempt": 1, "sent_ns": 25, "first_byte_ns": 30, "last_byte_ns": 31,
         "connect_ns": 5},
        {"fetch_id": 0, "attempt": 2, "sent_ns": 45, "first_byte_ns": 50, "last_byte_ns": 70,
         "connect_ns": 40, "reused": False},
    )  # fmt: skip
    assert tiles(timelines.fetch_pieces(rows, *wire)) == [
        (10, 20, "fetch"), (20, 25, "fetch_queue"), (25, 30, "first_byte"), (30, 31, "transfer"),
        (31, 40, "fetch_queue"), (40, 45, "connect"), (45, 50, "first_byte"), (50, 70, "transfer"),
        (70, 80, "fetch"), (80, 90, "cache_write"),
    ]  # fmt: skip


def test_a_server_that_never_answers() -> None:
    rows = fetches({"start_ns": 10, "queued_ns": 20, "outcome": None})
    wire = downloads({"fetch_id": 0, "attempt": 1, "sent_ns": 25})
    assert tiles(timelines.fetch_pieces(rows, *wire)) == [
        (10, 20, "fetch"), (20, 25, "fetch_queue"), (25, HORIZON_NS, "first_byte"),
    ]  # fmt: skip


def requests(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [
        {"mount_id": 0, "opcode": 15, "node_id": 7, "pid": 1, "tid": 1, "error": 0, "end_tid": 5,
         "served_tid": 5, **row}
        for row in rows
    ]  # fmt: skip
    frame = pl.DataFrame(filled, infer_schema_length=None)
    return conform("fuse_requests", frame, "end_tid", "served_tid").with_columns(
        pl.col("end_tid", "served_tid").cast(pl.Int32)
    )


LOCKS = pl.DataFrame(
    schema={"mount_id": pl.Int32, "unique": pl.UInt64, "start_ns": pl.Int64, "end_ns": pl.Int64}
)
NEEDS = pl.DataFrame(schema={"mount_id": pl.Int32, "unique": pl.UInt64, "object_hash": pl.String})
SILENT = pl.DataFrame(schema={"mount_id": pl.Int32})


def calls(*rows: tuple[int, int, int | None, int | None]) -> pl.DataFrame:
    """Calls (unique, start, end, parent)."""
    frame = pl.DataFrame(rows, schema=["unique", "start_ns", "end_ns", "parent_id"], orient="row")
    filled = frame.with_columns(
        mount_id=pl.lit(0), pid=pl.lit(1), tid=pl.lit(5), function=pl.lit("cvmfs_read"),
        call_id=pl.int_range(pl.len()),
    )  # fmt: skip
    return conform("daemon_calls", filled)


def pieces_of(
    asked: pl.DataFrame, called: pl.DataFrame, **more: pl.DataFrame
) -> list[tuple[Any, ...]]:
    made = more.get("made", fetches({"start_ns": 0, "end_ns": 0}).clear())
    found = timelines.request_pieces(
        asked, called, made, more.get("parts", timelines.fetch_pieces(made, *NONE)),
        more.get("locks", LOCKS), more.get("needs", NEEDS), more.get("silent", SILENT),
    )  # fmt: skip
    return found.select("start_ns", "end_ns", "cause", "fetch_id").rows()


def test_a_read_from_the_cache() -> None:
    asked = requests({"unique": 2, "queued_ns": 10, "served_ns": 20, "end_ns": 50})
    assert pieces_of(asked, calls((2, 25, 55, None), (2, 30, 35, 0))) == [
        (0, 20, "fuse_queue", None), (20, 25, "daemon", None), (25, 50, "cache_read", None),
        (50, HORIZON_NS, "reply", None),
    ]  # fmt: skip


def test_a_read_of_a_daemon_whose_calls_cannot_be_seen() -> None:
    asked = requests({"unique": 2, "queued_ns": 10, "served_ns": 20, "end_ns": 50})
    silent = pl.DataFrame({"mount_id": [0]}, schema={"mount_id": pl.Int32})
    assert pieces_of(asked, calls(), silent=silent)[1] == (20, 50, "cache_read", None)
    assert pieces_of(asked, calls())[1] == (20, 50, "daemon", None)


def test_a_lookup_is_the_daemons() -> None:
    asked = requests({"unique": 2, "opcode": 1, "queued_ns": 10, "served_ns": 20, "end_ns": 50})
    assert pieces_of(asked, calls((2, 25, 55, None)))[1] == (20, 50, "daemon", None)


def test_a_request_whose_taking_was_not_seen() -> None:
    asked = requests({"unique": 2, "queued_ns": 10, "end_ns": 50})
    assert pieces_of(asked, calls((2, 25, 40, None)))[:3] == [
        (0, 25, "fuse_queue", None), (25, 40, "cache_read", None), (40, 50, "daemon", None),
    ]  # fmt: skip
    assert pieces_of(asked, calls())[:2] == [(0, 10, "fuse_queue", None), (10, 50, "daemon", None)]


def test_a_request_that_nobody_ever_took_or_answered() -> None:
    untaken = requests({"unique": 2, "queued_ns": 10})
    assert pieces_of(untaken, calls()) == [(0, HORIZON_NS, "fuse_queue", None)]
    unanswered = requests({"unique": 2, "queued_ns": 10, "served_ns": 15})
    assert pieces_of(unanswered, calls((2, 20, None, None))) == [
        (0, 15, "fuse_queue", None), (15, 20, "daemon", None), (20, HORIZON_NS, "cache_read", None),
    ]  # fmt: skip


def test_own_fetch_wins_over_the_holders_and_that_over_the_lock() -> None:
    asked = requests(
        {"unique": 2, "queued_ns": 10, "served_ns": 20, "end_ns": 90},
        {"unique": 4, "queued_ns": 10, "served_ns": 30, "end_ns": 95},
    )
    made = fetches({"start_ns": 25, "end_ns": 80, "unique": 2})
    locks = LOCKS.clear(0).vstack(
        pl.DataFrame([(0, 4, 35, 90)], schema=LOCKS.schema, orient="row")
    )  # fmt: skip
    needs = pl.DataFrame([(0, 2, A), (0, 4, A)], schema=NEEDS.schema, orient="row")
    found = pieces_of(
        asked, calls((2, 22, 91, None), (4, 32, 96, None)), made=made, locks=locks, needs=needs
    )
    assert found == [
        (0, 20, "fuse_queue", None), (20, 22, "daemon", None), (22, 25, "cache_read", None),
        (25, 80, "fetch", 0), (80, 90, "cache_read", None), (90, HORIZON_NS, "reply", None),
        (0, 30, "fuse_queue", None), (30, 80, "fetch", 0), (80, 90, "daemon_lock", None),
        (90, 95, "cache_read", None), (95, HORIZON_NS, "reply", None),
    ]  # fmt: skip


def test_a_fetch_of_the_chunk_at_another_time_or_of_another_mount_is_no_holder() -> None:
    asked = requests({"unique": 4, "queued_ns": 10, "served_ns": 30, "end_ns": 95})
    made = fetches({"start_ns": 5, "end_ns": 30}, {"start_ns": 95, "end_ns": 99},
                   {"start_ns": 40, "end_ns": 50, "mount_id": 1},
                   {"start_ns": 40, "end_ns": 50, "outcome": "joined"})  # fmt: skip
    needs = pl.DataFrame([(0, 4, A)], schema=NEEDS.schema, orient="row")
    assert pieces_of(asked, calls(), made=made, needs=needs)[1] == (30, 95, "daemon", None)


def test_sleeps_that_a_sibling_ended_are_waits_for_a_lock() -> None:
    asked = requests(
        {"unique": 2, "served_ns": 20, "end_ns": 50}, {"unique": 4, "served_ns": 60, "end_ns": 80}
    )
    rows = [(1, 5, 30, 40, 1), (1, 5, 52, 55, 1), (1, 5, 65, 70, 9), (1, 6, 30, 40, 1)]
    frame = pl.DataFrame(
        rows, schema=["pid", "tid", "start_ns", "woken_ns", "woken_by_pid"], orient="row"
    ).with_columns(off_reason=pl.lit("sleep"))
    found = timelines.lock_waits(asked, conform("blocked", frame))
    assert found.rows() == [(0, 2, 30, 40)]
