"""What became of the time of requests."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.profiler.attribution import request_timelines as timelines
from cvmprof.profiler.tables import CAUSE, HORIZON_NS, conform, empty
from cvmprof.tests.profiler.rows import frame, rows

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
        "holder_tid": pl.Int32,
    }
)
LATE = {"tid": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}
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
        more.get("late", frame(LATE)),
        more.get("stopped", frame(LATE)),
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
            [(0, 4, 35, 90, False, 6), (0, 2, 26, 27, True, 6)], schema=LOCKS.schema, orient="row"
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


READ = {"unique": 2, "queued_ns": 10, "served_ns": 20, "end_ns": 90}
STAT = {**READ, "opcode": 3}
FETCH = {"start_ns": 30, "end_ns": 40, "unique": 2}


def inner(*given: Any, **more: Any) -> list[tuple[Any, ...]]:
    """The pieces between the taking of one request and its answer, but for the plain ones."""
    found = pieces_of(requests(*given), calls(), **more)
    plain = ("fuse_queue", "cache_read", "catalog", "reply")
    return [piece for piece in found if piece[2] not in plain]


def locks(*given: tuple[int, int, int | None, bool]) -> pl.DataFrame:
    """Lock waits for thread 6: unique, start, end, whether in a fetch."""
    return frame(dict(LOCKS.schema), *((0, *each, 6) for each in given))


def needs(*uniques: int, name: str = A, mount: int = 0) -> pl.DataFrame:
    return frame(dict(NEEDS.schema), *((mount, unique, name) for unique in uniques))


def test_the_first_call_for_a_request_shows_when_it_was_taken() -> None:
    """If that was not seen itself; of its own mount."""
    untaken = requests({**READ, "served_ns": None})
    called = calls((2, 35, 40, None), (2, 25, 30, None), (4, 11, 12, None))
    assert pieces_of(untaken, called)[0] == (0, 25, "fuse_queue", None)
    other = called.with_columns(mount_id=pl.lit(1, pl.Int32))
    assert pieces_of(untaken, other)[0] == (0, 10, "fuse_queue", None)
    assert pieces_of(requests(READ), called)[0] == (0, 20, "fuse_queue", None)
    unnamed = called.with_columns(unique=pl.lit(None, pl.UInt64))
    assert pieces_of(untaken, unnamed)[0] == (0, 10, "fuse_queue", None)


def test_a_request_is_taken_at_the_latest_when_it_is_answered() -> None:
    late = requests({**READ, "served_ns": 95})
    assert pieces_of(late, calls()) == [
        (0, 90, "fuse_queue", None), (90, HORIZON_NS, "reply", None),
    ]  # fmt: skip
    unknown = requests({"unique": 2, "end_ns": 90})
    assert pieces_of(unknown, calls())[0] == (0, 90, "cache_read", None)


def test_only_requests_on_open_files_come_from_the_cache() -> None:
    for opcode, cause in ((15, "cache_read"), (18, "cache_read"), (14, "catalog"), (1, "catalog")):
        found = pieces_of(requests({**READ, "opcode": opcode}), calls())
        assert found[1] == (20, 90, cause, None), opcode
    elsewhere = CLIENTS.with_columns(mount_id=pl.lit(1, pl.Int32))
    assert inner(READ, clients=elsewhere) == [(20, 90, "daemon", None)]


def test_lookups_divide_requests_for_metadata_only() -> None:
    """Those of the thread that serves it, that ended, within the request."""
    look = {"mount_id": 0, "tid": 5, "object_hash": A, "hit": True}
    looked = rows(
        "cache_lookups",
        {**look, "start_ns": 30, "end_ns": 32},
        {**look, "start_ns": 40},
        {**look, "start_ns": 50, "end_ns": 52, "tid": 6},
        {**look, "start_ns": 54, "end_ns": 56, "mount_id": None},
        {**look, "start_ns": 15, "end_ns": 19},
        {**look, "start_ns": 88, "end_ns": 95},
    )
    other = {**READ, "unique": 4, "served_ns": 60, "served_tid": 6}
    assert pieces_of(requests(STAT, other), calls(), lookups=looked) == [
        (0, 20, "fuse_queue", None),
        (20, 30, "catalog", None),
        (30, 32, "cache_read", None),
        (32, 88, "catalog", None),
        (88, 90, "cache_read", None),
        (90, HORIZON_NS, "reply", None),
        (0, 60, "fuse_queue", None),
        (60, 90, "cache_read", None),
        (90, HORIZON_NS, "reply", None),
    ]


def test_a_lock_outside_fetches_is_under_and_one_inside_over_the_pieces_of_fetches() -> None:
    """Until the answer, where it was never handed over."""
    both = {"made": fetches(FETCH)}
    assert inner(READ, locks=locks((2, 25, 45, False)), **both) == [
        (25, 30, "daemon_lock", None), (30, 40, "fetch", 0), (40, 45, "daemon_lock", None),
    ]  # fmt: skip
    assert inner(READ, locks=locks((2, 32, 35, True)), **both) == [
        (30, 32, "fetch", 0), (32, 35, "daemon_lock", None), (35, 40, "fetch", 0),
    ]  # fmt: skip
    assert inner(READ, locks=locks((2, 85, None, False), (4, 30, 40, False))) == [
        (85, 90, "daemon_lock", None)
    ]


def test_the_fetch_of_another_request_for_a_chunk_that_a_read_needs() -> None:
    """Of the same mount and object, as far as the request was being served; not its own, and not
    one that waited itself.
    """
    other = {**FETCH, "unique": 4}
    assert inner(READ, made=fetches(other), needs=needs(2)) == [(30, 40, "fetch", 0)]
    assert inner(READ, made=fetches(other), needs=needs(4)) == []
    assert inner(READ, made=fetches(other), needs=needs(2, name="b2" * 20)) == []
    assert inner(READ, made=fetches(other), needs=needs(2, mount=1)) == []
    assert inner(READ, made=fetches({**other, "mount_id": 1}), needs=needs(2)) == []
    assert inner(READ, made=fetches({**other, "outcome": "joined"}), needs=needs(2)) == []
    unended = fetches({**other, "end_ns": None, "outcome": None})
    assert inner(READ, made=unended, needs=needs(2)) == [(30, 90, "fetch", 0)]
    assert inner({**READ, "end_ns": None}, made=unended, needs=needs(2)) == [
        (30, HORIZON_NS, "fetch", 0)
    ]
    untaken = {**READ, "served_ns": None}
    assert inner(untaken, made=fetches(other), needs=needs(2)) == [(30, 40, "fetch", 0)]
    own_and_other = fetches(FETCH, {**other, "start_ns": 15, "end_ns": 35})
    assert inner(READ, made=own_and_other, needs=needs(2)) == [
        (20, 30, "fetch", 1), (30, 40, "fetch", 0),
    ]  # fmt: skip


def test_a_thread_that_serves_and_has_no_cpu_is_that_in_every_layer() -> None:
    """From the queue on, and until the answer; the fetch is kept; other threads do not count."""
    late = frame(LATE, (5, 5, 13), (5, 35, 50), (5, 80, 99), (6, 20, 90))
    assert pieces_of(requests(READ), calls(), made=fetches(FETCH), late=late) == [
        (0, 10, "fuse_queue", None),
        (10, 13, "runqueue", None),
        (13, 20, "fuse_queue", None),
        (20, 30, "cache_read", None),
        (30, 35, "fetch", 0),
        (35, 40, "runqueue", 0),
        (40, 50, "runqueue", None),
        (50, 80, "cache_read", None),
        (80, 90, "runqueue", None),
        (90, HORIZON_NS, "reply", None),
    ]
    elsewhere = requests({**READ, "served_tid": None, "end_tid": 6})
    assert pieces_of(elsewhere, calls(), late=frame(LATE, (5, 20, 90)))[1][2] == "cache_read"
    assert pieces_of(elsewhere, calls(), late=frame(LATE, (6, 20, 90)))[1][2] == "runqueue"
    unserved = requests({"unique": 2, "queued_ns": 10, "served_tid": None, "end_tid": None})
    assert pieces_of(unserved, calls(), late=late) == [(0, HORIZON_NS, "fuse_queue", None)]


def test_a_lock_whose_holder_has_no_cpu_waits_for_that() -> None:
    late = frame(LATE, (6, 20, 30), (6, 40, 60))
    assert inner(READ, locks=locks((2, 25, 45, False)), late=late) == [
        (25, 30, "runqueue", None), (30, 40, "daemon_lock", None), (40, 45, "runqueue", None),
    ]  # fmt: skip
    both = {"locks": locks((2, 25, 45, False)), "late": frame(LATE, (5, 24, 42), (6, 20, 60))}
    assert inner(READ, **both) == [(24, 45, "runqueue", None)]
    open_ended = {"locks": locks((2, 85, None, False)), "late": frame(LATE, (6, 87, HORIZON_NS))}
    assert inner(READ, **open_ended) == [(85, 87, "daemon_lock", None), (87, 90, "runqueue", None)]


def test_every_request_is_tiled_by_itself() -> None:
    second = {**READ, "unique": 4, "end_ns": 95}
    found = timelines.request_pieces(
        requests(READ, second),
        NEEDS,
        timelines.RequestEvidence(
            calls(),
            fetches(FETCH).clear(),
            frame(PIECES),
            LOCKS,
            rows("cache_lookups"),
            CLIENTS,
            frame(LATE),
            frame(LATE),
        ),
    )
    assert found.select("mount_id", "unique", "start_ns", "end_ns").rows() == [
        (0, 2, 0, 20), (0, 2, 20, 90), (0, 2, 90, HORIZON_NS),
        (0, 4, 0, 20), (0, 4, 20, 95), (0, 4, 95, HORIZON_NS),
    ]  # fmt: skip


PIECES = {"fetch_id": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64, "cause": CAUSE}


def test_reads_need_the_chunks_of_their_own_file() -> None:
    files = rows(
        "files",
        {"file_id": 0, "mount_id": 0, "inode": 7},
        {"file_id": 1, "mount_id": 1, "inode": 7},
        {"file_id": 0, "mount_id": 0, "inode": 7, "generation": 1},
    )
    chunks = rows(
        "chunks",
        {"file_id": 0, "object_hash": A, "size_bytes": 10},
        {"file_id": 1, "object_hash": "b2" * 20, "size_bytes": 10},
    )
    read = {"opcode": 15, "node_id": 7, "offset_bytes": 0, "size_bytes": 5}
    asked = rows(
        "fuse_requests",
        {**read, "unique": 2},
        {**read, "unique": 4, "opcode": 14},
        {**read, "unique": 6, "node_id": 8},
        {**read, "unique": 2, "mount_id": 1},
    )
    found = timelines.needed_chunks(asked, files, chunks).sort("mount_id")
    assert found.rows() == [(0, 2, A), (1, 2, "b2" * 20)]


def test_a_thread_that_serves_and_is_stopped_is_that_in_every_layer() -> None:
    """Rather than without a CPU; the fetch is kept; so is a lock whose holder is stopped."""
    held_back = {"stopped": frame(LATE, (5, 5, 13), (5, 35, 50), (6, 60, 90)),
                 "late": frame(LATE, (5, 12, 14), (5, 45, 52))}  # fmt: skip
    assert pieces_of(requests(READ), calls(), made=fetches(FETCH), **held_back) == [
        (0, 10, "fuse_queue", None),
        (10, 13, "stopped", None),
        (13, 14, "runqueue", None),
        (14, 20, "fuse_queue", None),
        (20, 30, "cache_read", None),
        (30, 35, "fetch", 0),
        (35, 40, "stopped", 0),
        (40, 50, "stopped", None),
        (50, 52, "runqueue", None),
        (52, 90, "cache_read", None),
        (90, HORIZON_NS, "reply", None),
    ]
    stopped = frame(LATE, (6, 20, 30), (6, 44, 60))
    assert inner(READ, locks=locks((2, 25, 45, False)), stopped=stopped) == [
        (25, 30, "stopped", None), (30, 44, "daemon_lock", None), (44, 45, "stopped", None),
    ]  # fmt: skip
