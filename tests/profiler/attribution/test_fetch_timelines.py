"""What became of the time of fetches."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.attribution.fetch_timelines import (
    FetchEvidence,
    fetch_pieces,
    handed_over,
)
from cvmprof.profiler.tables import HORIZON_NS, conform, empty

A, B = "a1" * 20, "b2" * 20
FETCHER, SENDER = 11, 19  # threads


def fetches(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = {"unique": pl.UInt64, "queued_ns": pl.Int64, "returned_ns": pl.Int64}
    filled = [
        {
            "fetch_id": n,
            "mount_id": 0,
            "pid": 1,
            "tid": FETCHER,
            "object_hash": A,
            "outcome": "downloaded",
            **dict.fromkeys(schema),
            **row,
        }
        for n, row in enumerate(rows)
    ]
    frame = pl.DataFrame(filled, infer_schema_length=None).cast(schema)  # type: ignore[arg-type]
    return conform("fetches", frame, "queued_ns", "returned_ns")


def wire(*rows: dict[str, Any]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Attempts and the table."""
    filled = [
        {
            "download_id": n,
            "fetch_id": 0,
            "attempt": 1,
            "url_path": "",
            "host": "",
            "connection_id": 0,
            "reused": True,
            "wire_bytes": 0,
            "sender_tid": SENDER,
            **row,
        }
        for n, row in enumerate(rows)
    ]
    frame = pl.DataFrame(filled, infer_schema_length=None)
    numbers = ("fetch_id", "attempt", "download_id", "sender_tid")
    return frame.select(pl.col(numbers).cast(pl.Int32)), conform("downloads", frame)


NO_WIRE = (
    pl.DataFrame(
        schema=dict.fromkeys(("fetch_id", "attempt", "download_id", "sender_tid"), pl.Int32)
    ),
    empty("downloads"),
)


def worked(*rows: tuple[int, int, int, int, int, int, int]) -> pl.DataFrame:
    """Work: download_id, round, start, end, late, write, off."""
    names = ("download_id", "round", "start_ns", "end_ns", "late_ns", "write_ns", "off_ns")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Int64), orient="row")
    return frame.with_columns(
        pl.col("download_id").cast(pl.Int32), pid=pl.lit(1), tid=pl.lit(SENDER)
    )


def lookups(*rows: tuple[int, int]) -> pl.DataFrame:
    """Misses of A by the fetching thread: start, end."""
    frame = pl.DataFrame(rows, schema=["start_ns", "end_ns"], orient="row").with_columns(
        mount_id=pl.lit(0),
        pid=pl.lit(1),
        tid=pl.lit(FETCHER),
        object_hash=pl.lit(A),
        hit=pl.lit(value=False),
    )
    return conform("cache_lookups", frame)


def slept(*rows: tuple[int, int, int, int | None]) -> pl.DataFrame:
    """Sleeps of the fetching thread that one of its process ended: waker, start, woken, end."""
    frame = pl.DataFrame(
        rows, schema=["woken_by_tid", "start_ns", "woken_ns", "end_ns"], orient="row"
    ).with_columns(
        pid=pl.lit(1), tid=pl.lit(FETCHER), woken_by_pid=pl.lit(1), off_reason=pl.lit("sleep")
    )
    return conform("blocked", frame)


def tiles(
    made: pl.DataFrame, sent: tuple[pl.DataFrame, pl.DataFrame] = NO_WIRE, **more: pl.DataFrame
) -> list[tuple[Any, ...]]:
    found = fetch_pieces(
        FetchEvidence(
            made,
            *sent,
            more.get("work", worked()),
            more.get("lookups", empty("cache_lookups")),
            more.get("blocked", empty("blocked")),
        )
    )
    return found.select("start_ns", "end_ns", "cause").rows()


def off_cpu(*rows: tuple[str, int, int | None, int]) -> pl.DataFrame:
    """Intervals of the download thread: why, start, woken, end."""
    frame = pl.DataFrame(
        rows, schema=["off_reason", "start_ns", "woken_ns", "end_ns"], orient="row"
    ).with_columns(pid=pl.lit(1), tid=pl.lit(SENDER))
    return conform("blocked", frame.cast({"woken_ns": pl.Int64}))


ONE = {"start_ns": 10, "end_ns": 90, "queued_ns": 20, "returned_ns": 80}
SENT = {"sent_ns": 25, "first_byte_ns": 30, "last_byte_ns": 60}


def test_a_fetch_whose_download_is_not_seen() -> None:
    assert tiles(fetches(ONE)) == [
        (10, 20, "cache_read"),
        (20, 80, "fetch"),
        (80, 90, "cache_write"),
    ]


def test_looking_and_making_a_place_before_the_queue() -> None:
    found = tiles(fetches(ONE), lookups=lookups((10, 12), (13, 15), (85, 86)))
    assert found[:3] == [(10, 15, "cache_read"), (15, 20, "cache_write"), (20, 80, "fetch")]


def test_a_joined_fetch_is_one_piece_and_an_open_one_has_no_end() -> None:
    rows = fetches(
        {"start_ns": 10, "end_ns": 90, "outcome": "joined"}, {"start_ns": 15, "outcome": None}
    )
    assert tiles(rows) == [(10, 90, "fetch_joined"), (15, HORIZON_NS, "fetch")]


def test_a_download_without_its_threads_work_is_divided_by_its_bytes_only() -> None:
    assert tiles(fetches(ONE), wire(SENT)) == [
        (10, 20, "cache_read"),
        (20, 25, "fetch_queue"),
        (25, 30, "first_byte"),
        (30, 60, "transfer"),
        (60, 80, "fetch"),
        (80, 90, "cache_write"),
    ]


def test_the_work_of_the_download_thread_divides_the_transfer() -> None:
    """Received at 30 and at 50; 3 and 4 of the work were writing, 1 of the second off the CPU; the
    thread was 2 late for the second. The result was handed over at 70, and taken at 74.
    """
    rows = worked((0, 1, 30, 40, 0, 3, 0), (0, 2, 50, 78, 2, 4, 1))
    found = tiles(
        fetches(ONE), wire(SENT), work=rows, blocked=slept((SENDER, 22, 70, 74), (5, 12, 13, 14))
    )
    assert found == [
        (10, 20, "cache_read"),
        (20, 25, "fetch_queue"),
        (25, 30, "first_byte"),
        # one block of a millisecond: in sums, by kind
        (30, 38, "transfer"),
        (38, 40, "runqueue"),
        (40, 62, "decompress"),
        (62, 69, "cache_write"),
        (69, 80, "runqueue"),
        (80, 90, "cache_write"),
    ]


def test_pieces_far_apart_are_told_apart() -> None:
    ms = 1_000_000
    made = fetches({"start_ns": 0, "end_ns": 9 * ms, "queued_ns": 0, "returned_ns": 9 * ms})
    sent = wire({"sent_ns": 0, "first_byte_ns": ms, "last_byte_ns": 5 * ms})
    rows = worked((0, 1, ms, 2 * ms, 0, 0, 0), (0, 2, 5 * ms, 9 * ms, 0, ms, 0))
    assert tiles(made, sent, work=rows) == [
        (0, ms, "first_byte"),
        (ms, 2 * ms, "decompress"),
        (2 * ms, 5 * ms, "transfer"),
        (5 * ms, 8 * ms, "decompress"),
        (8 * ms, 9 * ms, "cache_write"),
    ]


def test_others_hold_up_a_piece_only_in_the_round_in_which_it_is_received() -> None:
    """Download 1 is served in rounds 1 and 2: in round 1 nothing of download 0 had come yet."""
    made = fetches(ONE, {**ONE, "object_hash": B, "tid": 12})
    sent = wire(SENT, {**SENT, "fetch_id": 1, "download_id": 1})
    rows = worked((1, 1, 30, 34, 0, 0, 0), (1, 2, 36, 45, 0, 0, 0), (0, 2, 47, 60, 0, 0, 0))
    first = [piece for piece in tiles(made, sent, work=rows) if piece[0] < 60][:6]
    assert first[2:5] == [(25, 38, "first_byte"), (38, 47, "fetch_queue"), (47, 60, "decompress")]


def test_an_attempt_that_failed_and_one_on_a_new_connection() -> None:
    sent = wire(
        {"sent_ns": 25, "first_byte_ns": 30, "last_byte_ns": 31, "connect_ns": 5},
        {
            "attempt": 2,
            "sent_ns": 45,
            "first_byte_ns": 50,
            "last_byte_ns": 70,
            "connect_ns": 40,
            "reused": False,
        },
    )
    rows = worked((0, 1, 31, 33, 0, 0, 0), (1, 2, 50, 72, 0, 0, 0))
    assert tiles(fetches(ONE), sent, work=rows) == [
        (10, 20, "cache_read"),
        (20, 25, "fetch_queue"),
        (25, 31, "first_byte"),
        (31, 33, "decompress"),
        (33, 40, "fetch_queue"),
        (40, 45, "connect"),
        (45, 50, "first_byte"),
        (50, 72, "decompress"),
        (72, 80, "fetch_queue"),
        (80, 90, "cache_write"),
    ]


def test_a_fetch_that_failed_pauses_before_it_says_so() -> None:
    found = tiles(fetches({**ONE, "outcome": "failed"}), wire({"sent_ns": 25}))
    assert found[-2:] == [(25, 80, "first_byte"), (80, 90, "fetch_queue")]


def test_a_server_that_never_answers_or_stops_answering() -> None:
    rows = fetches({"start_ns": 10, "queued_ns": 20, "outcome": None})
    assert tiles(rows, wire({"sent_ns": 25})) == [
        (10, 20, "cache_read"),
        (20, 25, "fetch_queue"),
        (25, HORIZON_NS, "first_byte"),
    ]
    assert tiles(rows, wire(SENT), work=worked((0, 1, 30, 40, 0, 0, 0)))[-2:] == [
        (30, 40, "decompress"),
        (40, HORIZON_NS, "transfer"),
    ]


@pytest.mark.parametrize("kind", ["catalog", "manifest", "whitelist", "certificate"])
def test_what_no_file_consists_of_is_catalog_all_along(kind: str) -> None:
    assert tiles(fetches({**ONE, "object_kind": kind}), wire(SENT)) == [(10, 90, "catalog")]


def test_the_result_is_handed_over_by_the_last_wake_of_the_thread_that_sent() -> None:
    evidence = FetchEvidence(
        fetches(ONE),
        *wire(SENT),
        worked(),
        empty("cache_lookups"),
        slept((SENDER, 22, 30, 31), (SENDER, 33, 70, 74), (5, 75, 76, 77), (SENDER, 85, 86, 87)),
    )
    assert handed_over(evidence).rows() == [(0, 70, 74)]


def test_without_calls_the_wake_bounds_the_download() -> None:
    made = fetches({**ONE, "queued_ns": 18, "returned_ns": None})
    found = tiles(
        made, wire(SENT), work=worked((0, 1, 30, 75, 0, 5, 0)), blocked=slept((SENDER, 19, 70, 74))
    )
    assert found == [
        (10, 18, "cache_read"),
        (18, 25, "fetch_queue"),
        (25, 30, "first_byte"),
        (30, 65, "decompress"),
        (65, 70, "cache_write"),
        (70, 74, "runqueue"),
        (74, 90, "cache_write"),
    ]


def test_pieces_end_with_the_fetch_and_no_mark_outside_it_counts() -> None:
    """A fetch without a download, whose download returned before or after it; one of no length."""
    assert tiles(fetches({**ONE, "queued_ns": None, "returned_ns": None})) == [(10, 90, "fetch")]
    assert tiles(fetches({**ONE, "returned_ns": 90})) == [(10, 20, "cache_read"), (20, 90, "fetch")]
    assert tiles(fetches({**ONE, "queued_ns": 10, "returned_ns": 10})) == [(10, 90, "cache_write")]
    assert tiles(fetches({**ONE, "queued_ns": 9})) == [
        (10, 80, "cache_read"), (80, 90, "cache_write"),
    ]  # fmt: skip


def test_the_last_lookup_before_the_queue_ends_the_looking() -> None:
    """One in vain, of the thread, the object and the fetch itself."""
    one = fetches(ONE)

    def looked(**change: Any) -> list[tuple[Any, ...]]:
        return tiles(one, lookups=lookups((11, 13)).with_columns(**change))[:2]

    assert looked() == [(10, 13, "cache_read"), (13, 20, "cache_write")]
    unseen = [(10, 20, "cache_read"), (20, 80, "fetch")]
    assert looked(hit=pl.lit(value=True)) == unseen
    assert looked(tid=pl.lit(12, pl.Int32)) == unseen
    assert looked(pid=pl.lit(2, pl.Int32)) == unseen
    assert looked(object_hash=pl.lit(B)) == unseen
    assert looked(start_ns=pl.lit(9, pl.Int64)) == unseen
    assert looked(end_ns=pl.lit(None, pl.Int64)) == unseen
    at_ends = lookups((10, 12), (20, 22))
    assert tiles(one, lookups=at_ends)[:2] == [(10, 20, "cache_read"), (20, 22, "fetch")]


def test_a_joined_fetch_looks_first() -> None:
    joined = fetches({"start_ns": 10, "end_ns": 90, "outcome": "joined"})
    assert tiles(joined, lookups=lookups((10, 12))) == [
        (10, 12, "cache_read"), (12, 90, "fetch_joined"),
    ]  # fmt: skip


def test_marks_of_the_wire_end_with_the_hand_over() -> None:
    """Else with the return of the download; the wake counts for the last attempt only."""
    late = {"sent_ns": 25, "first_byte_ns": 30, "last_byte_ns": 85}
    assert tiles(fetches(ONE), wire(late))[-2:] == [(30, 80, "transfer"), (80, 90, "cache_write")]
    handed = slept((SENDER, 40, 70, 74))
    assert tiles(fetches(ONE), wire(late), blocked=handed)[-3:] == [
        (30, 70, "transfer"), (70, 80, "runqueue"), (80, 90, "cache_write"),
    ]  # fmt: skip
    two = wire(SENT, {"attempt": 2, "sent_ns": 65, "first_byte_ns": 66, "last_byte_ns": 69})
    work = worked((0, 1, 30, 64, 0, 0, 0), (1, 2, 66, 75, 0, 0, 0))
    assert tiles(fetches(ONE), two, work=work, blocked=handed)[2:] == [
        (25, 30, "first_byte"), (30, 64, "decompress"), (64, 65, "fetch_queue"),
        (65, 66, "first_byte"), (66, 70, "decompress"), (70, 80, "runqueue"),
        (80, 90, "cache_write"),
    ]  # fmt: skip


def test_an_attempt_without_work_pauses_before_the_next_one() -> None:
    """An answer that never came leaves no pause."""
    second = {"attempt": 2, "sent_ns": 65, "first_byte_ns": 66, "last_byte_ns": 70}
    assert tiles(fetches(ONE), wire(SENT, second))[2:] == [
        (25, 30, "first_byte"), (30, 60, "transfer"), (60, 65, "fetch_queue"),
        (65, 66, "first_byte"), (66, 70, "transfer"), (70, 80, "fetch"), (80, 90, "cache_write"),
    ]  # fmt: skip
    silent = {"sent_ns": 25, "last_byte_ns": 26}
    assert tiles(fetches(ONE), wire(silent, second))[2:4] == [
        (25, 66, "first_byte"), (66, 70, "transfer"),
    ]  # fmt: skip


def test_a_body_that_stops_half_way_is_received_until_its_connection_is_closed() -> None:
    second = {"attempt": 2, "sent_ns": 65, "first_byte_ns": 66, "last_byte_ns": 70}
    frozen = {"sent_ns": 25, "first_byte_ns": 30, "last_byte_ns": 32, "closed_ns": 55}
    rows = worked((0, 1, 30, 33, 0, 0, 0))
    for work, begin, before in ((worked(), 30, "first_byte"), (rows, 33, "decompress")):
        found = tiles(fetches(ONE), wire(frozen, second), work=work)
        at = found.index((begin, 55, "transfer"))
        assert found[at - 1][2] == before
        assert found[at + 1] == (55, 65, "fetch_queue")
    later = {**frozen, "closed_ns": 66}
    assert (33, 65, "fetch_queue") in tiles(fetches(ONE), wire(later, second), work=rows)


def test_a_fetch_that_fails_was_received_until_its_connection_is_closed() -> None:
    frozen = {"sent_ns": 25, "first_byte_ns": 30, "last_byte_ns": 32, "closed_ns": 55}
    failed = tiles(fetches({**ONE, "outcome": "failed"}), wire(frozen))
    assert failed[3:] == [(30, 55, "transfer"), (55, 90, "fetch_queue")]
    assert (32, 80, "fetch") in tiles(fetches(ONE), wire(frozen))


def test_a_connection_that_outlives_a_fetch_that_failed_was_not_received_from() -> None:
    """Its error was answered completely: the connection was kept for others."""
    kept = {"sent_ns": 25, "first_byte_ns": 30, "last_byte_ns": 32, "closed_ns": 95}
    failed = tiles(fetches({**ONE, "outcome": "failed"}), wire(kept))
    assert (32, 80, "fetch") in failed
    assert (30, 32, "transfer") in failed


def test_after_an_answer_that_never_came_the_client_pauses() -> None:
    second = {"attempt": 2, "sent_ns": 65, "first_byte_ns": 66, "last_byte_ns": 70}
    found = tiles(fetches(ONE), wire({"sent_ns": 25, "closed_ns": 55}, second))
    assert found[2:4] == [(25, 55, "first_byte"), (55, 65, "fetch_queue")]


@pytest.mark.parametrize(
    ("change", "slept_", "cause"),
    [
        ({}, (), "transfer"),
        ({"end_ns": 90}, (), "fetch_queue"),
        ({"returned_ns": 85}, (), "fetch_queue"),
        ({}, ((SENDER, 30, 70, 74),), "fetch_queue"),
    ],
    ids=["unended", "ended", "returned", "handed over"],
)
def test_after_the_last_piece_more_is_to_come_only_if_nothing_ended(
    change: dict[str, Any], slept_: tuple[tuple[int, int, int, int], ...], cause: str
) -> None:
    made = fetches({"start_ns": 10, "queued_ns": 20, "outcome": None, **change})
    work = worked((0, 1, 30, 40, 0, 0, 0))
    found = tiles(made, wire(SENT), work=work, blocked=slept(*slept_))
    assert found[found.index((30, 40, "decompress")) + 1][2] == cause


def handed(blocked: pl.DataFrame, **change: Any) -> list[tuple[Any, ...]]:
    two = wire(SENT, {**SENT, "attempt": 2, "download_id": 1, "sender_tid": 18})
    made = fetches({**ONE, **change})
    evidence = FetchEvidence(made, *two, worked(), empty("cache_lookups"), blocked)
    return handed_over(evidence).rows()


def test_only_a_wake_by_the_last_sender_during_the_download_hands_over() -> None:
    """From the queueing, else from the start, to the return, else to the end."""
    assert handed(slept((18, 20, 30, 31))) == [(0, 30, 31)]
    assert handed(slept((SENDER, 20, 30, 31))) == []
    assert handed(slept((18, 19, 30, 31))) == []
    assert handed(slept((18, 19, 30, 31)), queued_ns=None) == [(0, 30, 31)]
    assert handed(slept((18, 9, 30, 31)), queued_ns=None) == []
    assert handed(slept((18, 80, 81, 82))) == [(0, 81, 82)]
    assert handed(slept((18, 81, 82, 83))) == []
    assert handed(slept((18, 90, 91, None)), returned_ns=None) == [(0, 91, None)]
    assert handed(slept((18, 91, 92, 93)), returned_ns=None) == []
    assert handed(slept((18, 91, 92, 93)), returned_ns=None, end_ns=None) == [(0, 92, 93)]
    others = slept((18, 20, 30, 31))
    for name, value in (("tid", 12), ("pid", 2)):
        assert handed(others.with_columns(pl.lit(value, pl.Int32).alias(name))) == []
    assert handed(others.with_columns(woken_ns=pl.lit(None, pl.Int64))) == []
    preempted = others.with_columns(off_reason=pl.lit("preempted", others["off_reason"].dtype))
    assert handed(preempted) == []


def test_content_is_not_named_after_metadata() -> None:
    for kind in ("chunk", "file", None):
        assert tiles(fetches({**ONE, "object_kind": kind}))[0] == (10, 20, "cache_read")


def test_fetches_are_tiled_each_by_itself() -> None:
    """In order of their numbers."""
    made = fetches({**ONE, "start_ns": 50, "queued_ns": None, "returned_ns": None}, ONE)
    assert tiles(made) == [
        (50, 90, "fetch"), (10, 20, "cache_read"), (20, 80, "fetch"), (80, 90, "cache_write"),
    ]  # fmt: skip


def test_of_marks_at_the_same_time_the_later_step_counts() -> None:
    """An answer with the request, work with the first byte, the end of work with its beginning."""
    at_once = wire({"sent_ns": 20, "first_byte_ns": 20, "last_byte_ns": 60, "connect_ns": 20,
                    "reused": False})  # fmt: skip
    work = worked((0, 1, 20, 40, 0, 0, 0))
    assert tiles(fetches(ONE), at_once, work=work)[:3] == [
        (10, 20, "cache_read"), (20, 40, "decompress"), (40, 80, "fetch_queue"),
    ]  # fmt: skip
    assert tiles(fetches(ONE), at_once)[1] == (20, 60, "transfer")
    handed = slept((SENDER, 25, 40, 80))
    assert tiles(fetches(ONE), at_once, work=work, blocked=handed)[1:] == [
        (20, 40, "decompress"), (40, 80, "runqueue"), (80, 90, "cache_write"),
    ]  # fmt: skip


def test_a_download_thread_without_a_cpu_on_its_way_to_connect_send_or_hand_over() -> None:
    """Only since its last sleep before that; while it waits for the network it needs no CPU."""
    attempt = {**SENT, "connect_ns": 23, "reused": False}
    work = worked((0, 1, 30, 60, 0, 0, 0))
    made = fetches({**ONE, "queued_ns": 12})
    intervals = off_cpu(
        ("preempted", 13, None, 14),
        ("sleep", 14, 15, 17),  # before it connects
        ("preempted", 20, None, 21),
        ("sleep", 23, 24, 25),  # before it sends
        ("preempted", 26, None, 29),  # waits for the server
        ("preempted", 61, None, 66),  # before it hands over
    )
    handed = slept((SENDER, 13, 70, 72))
    found = tiles(made, wire(attempt), work=work, blocked=pl.concat([intervals, handed]))
    assert found == [
        (10, 12, "cache_read"),
        (12, 15, "fetch_queue"),
        (15, 17, "runqueue"),
        (17, 20, "fetch_queue"),
        (20, 21, "runqueue"),
        (21, 23, "fetch_queue"),
        (23, 24, "connect"),
        (24, 25, "runqueue"),
        (25, 30, "first_byte"),
        (30, 60, "decompress"),
        (60, 61, "fetch_queue"),
        (61, 66, "runqueue"),
        (66, 70, "fetch_queue"),
        (70, 80, "runqueue"),
        (80, 90, "cache_write"),
    ]


def test_want_of_cpu_is_told_of_metadata_too() -> None:
    made = fetches({**ONE, "queued_ns": 12}).with_columns(object_kind=pl.lit("catalog"))
    intervals = off_cpu(("sleep", 14, 15, 17))
    assert tiles(made, wire(SENT), blocked=intervals) == [
        (10, 15, "catalog"), (15, 17, "runqueue"), (17, 90, "catalog"),
    ]  # fmt: skip


def stopped(tid: int, *rows: tuple[int, int | None, int | None]) -> pl.DataFrame:
    """Stops of a thread: start, let go on, running again."""
    frame = pl.DataFrame(
        rows, schema=dict.fromkeys(("start_ns", "woken_ns", "end_ns"), pl.Int64), orient="row"
    ).with_columns(pid=pl.lit(1), tid=pl.lit(tid), off_reason=pl.lit("stopped"))
    return conform("blocked", frame)


def test_a_download_thread_that_is_stopped_is_that_from_the_queue_to_the_hand_over() -> None:
    stops = stopped(SENDER, (11, 12, 13), (19, 22, 23), (27, 29, 29), (55, 65, 65), (72, 74, 75))
    blocked = pl.concat([stops, slept((SENDER, 21, 70, 71))])
    assert tiles(fetches(ONE), wire(SENT), blocked=blocked) == [
        (10, 20, "cache_read"),
        (20, 22, "stopped"),
        (22, 23, "runqueue"),
        (23, 25, "fetch_queue"),
        (25, 27, "first_byte"),
        (27, 29, "stopped"),
        (29, 30, "first_byte"),
        (30, 55, "transfer"),
        (55, 65, "stopped"),
        (65, 70, "fetch"),
        (70, 80, "runqueue"),
        (80, 90, "cache_write"),
    ]


def test_a_thread_that_fetches_and_is_stopped_is_that_throughout() -> None:
    blocked = stopped(FETCHER, (5, 12, 13), (26, 28, 29), (85, None, None))
    assert tiles(fetches(ONE), wire(SENT), blocked=blocked) == [
        (10, 12, "stopped"),
        (12, 20, "cache_read"),
        (20, 25, "fetch_queue"),
        (25, 26, "first_byte"),
        (26, 28, "stopped"),
        (28, 30, "first_byte"),
        (30, 60, "transfer"),
        (60, 80, "fetch"),
        (80, 85, "cache_write"),
        (85, 90, "stopped"),
    ]
    joined = fetches({"start_ns": 10, "end_ns": 90, "outcome": "joined"})
    assert tiles(joined, blocked=blocked)[:2] == [(10, 12, "stopped"), (12, 26, "fetch_joined")]
    catalog = fetches(ONE).with_columns(object_kind=pl.lit("catalog"))
    assert tiles(catalog, wire(SENT), blocked=blocked)[:3] == [
        (10, 12, "stopped"), (12, 26, "catalog"), (26, 28, "stopped"),
    ]  # fmt: skip


def test_threads_that_do_not_work_for_a_fetch_may_be_stopped() -> None:
    found = tiles(fetches(ONE), wire(SENT), blocked=stopped(77, (11, 89, 89)))
    assert "stopped" not in {cause for _, _, cause in found}
