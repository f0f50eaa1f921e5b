"""Which thread of a client waited for which other one, and what that one did."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.client.lock_waits import lock_waits
from cvmprof.profiler.tables import OFF_REASON, conform, empty

A = "a1" * 20


def requests(*rows: tuple[int, int, int, int | None, int | None]) -> pl.DataFrame:
    """READs: unique, tid of the daemon's thread, taken, answered, handle."""
    frame = pl.DataFrame(
        rows, schema=["unique", "served_tid", "served_ns", "end_ns", "handle"], orient="row"
    ).with_columns(
        pl.col("served_tid").cast(pl.Int32),
        mount_id=pl.lit(0),
        opcode=pl.lit(15),
        node_id=pl.lit(7),
        pid=pl.lit(9),
        tid=pl.lit(9),
        error=pl.lit(0),
        end_tid=pl.lit(0, pl.Int32),
    )
    return conform("fuse_requests", frame, "served_tid", "end_tid")


def sleeps(*rows: tuple[int, int, int | None, int | None]) -> pl.DataFrame:
    """Sleeps: tid, start, woken, waker: another process where its number is 100 or more."""
    frame = pl.DataFrame(
        rows, schema=["tid", "start_ns", "woken_ns", "woken_by_tid"], orient="row"
    ).with_columns(
        pid=pl.lit(1),
        end_ns=pl.col("woken_ns"),
        woken_by_pid=pl.when(pl.col("woken_by_tid") < 100)
        .then(1)
        .when(pl.col("woken_by_tid") >= 100)
        .then(2),
        off_reason=pl.lit("sleep"),
    )
    return conform("blocked", frame)


def fetches(
    *rows: tuple[int, int, int | None, int | None, str, str], unique: int | None = None
) -> pl.DataFrame:
    """Fetches, all for one request: tid, start, end, queued, kind, outcome."""
    schema = ["tid", "start_ns", "end_ns", "queued_ns", "object_kind", "outcome"]
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        fetch_id=pl.int_range(pl.len()),
        pid=pl.lit(1),
        object_hash=pl.lit(A),
        queued_ns=pl.col("queued_ns").cast(pl.Int64),
        mount_id=pl.lit(0),
        unique=pl.lit(unique),
    )
    return conform("fetches", frame, "queued_ns")


NO_FETCH = conform("fetches", empty("fetches").with_columns(queued_ns=pl.lit(0)), "queued_ns")


def found(*of: pl.DataFrame) -> list[tuple[Any, ...]]:
    names = (
        "unique",
        "start_ns",
        "end_ns",
        "holder_tid",
        "holder_unique",
        "holder_fetch_id",
        "kind",
    )
    return lock_waits(*of).select(names).rows()


def test_sleeps_that_a_sibling_ended_while_a_request_was_served() -> None:
    asked = requests((2, 5, 20, 50, 1), (4, 6, 20, 60, 1), (6, 5, 60, 80, 1))
    # one for a lock, one between two requests, one that another process ended
    slept = sleeps((5, 30, 40, 6), (5, 52, 55, 6), (5, 65, 70, 109))
    assert found(asked, slept, NO_FETCH) == [(2, 30, 40, 6, 4, None, "same_handle")]


def test_two_open_files_that_share_a_lock_collide() -> None:
    asked = requests((2, 5, 20, 95, 1), (4, 6, 10, 92, 2))
    fetching = fetches((6, 12, 90, 15, "chunk", "downloaded"))
    assert found(asked, sleeps((5, 30, 91, 6)), fetching) == [(2, 30, 91, 6, 4, 0, "collision")]


def test_a_short_wait_for_one_who_fetches_nothing_is_for_some_other_lock() -> None:
    asked = requests((2, 5, 20, 95, 1), (4, 6, 10, 92, 2))
    assert found(asked, sleeps((5, 30, 31, 6)), NO_FETCH)[0][-1] == "other"


def test_a_wait_for_one_who_fetches_a_catalog() -> None:
    asked = requests((2, 5, 20, 95, None), (4, 6, 10, 92, None))
    fetching = fetches((6, 12, 90, 15, "catalog", "downloaded"))
    assert found(asked, sleeps((5, 30, 91, 6)), fetching) == [(2, 30, 91, 6, 4, 0, "catalog")]


def test_waiting_for_ones_own_download_or_a_joined_one_is_no_lock() -> None:
    asked = requests((2, 5, 10, 95, 1), (4, 6, 10, 95, 1), (6, 7, 10, 95, 1))
    fetching = fetches(
        (5, 12, 90, 20, "chunk", "downloaded"),
        (6, 12, 90, None, "chunk", "joined"),
    )
    slept = sleeps((5, 14, 16, 6), (5, 21, 80, 19), (6, 14, 91, 5))
    assert found(asked, slept, fetching) == [(2, 14, 16, 6, 4, 1, "other")]
    assert lock_waits(asked, slept, fetching)["in_fetch"].to_list() == [True]


def test_who_waited_itself_was_not_the_holder() -> None:
    """6 and 7 wait for 5, which then lets 6 go on, and that one lets 7."""
    asked = requests((2, 5, 10, 52, 1), (4, 6, 12, 62, 1), (6, 7, 14, 72, 1))
    slept = sleeps((6, 20, 50, 5), (7, 25, 60, 6))
    assert found(asked, slept, fetches((5, 11, 49, 12, "chunk", "downloaded"))) == [
        (4, 20, 50, 5, 2, 0, "same_handle"),
        (6, 25, 50, 5, 2, 0, "same_handle"),
        (6, 50, 60, 6, 4, None, "same_handle"),
    ]


@pytest.mark.parametrize("ended", [(None, None), (91, 104), (91, 7)], ids=str)
def test_a_lock_that_is_never_handed_over_is_held_by_who_fetches_for_the_handle(
    ended: tuple[int | None, int | None],
) -> None:
    """Whoever ends the sleep: nobody, who killed the daemon, a thread of it that crashed; what the
    dying thread sleeps after that is no wait for a lock.
    """
    asked = requests((2, 5, 20, None, 1), (4, 6, 10, None, 1), (8, 7, 10, None, 2))
    fetching = fetches((6, 12, None, 15, "chunk", "failed"), unique=4)
    woken, _ = ended
    slept = sleeps((5, 30, *ended), *([(5, 93, 95, 7)] if woken else []))
    dying = slept.with_columns(
        off_reason=pl.when(pl.col("start_ns") > 90)
        .then(pl.lit("uninterruptible"))
        .otherwise(pl.lit("sleep"))
        .cast(OFF_REASON)
    )
    assert found(asked, dying, fetching) == [(2, 30, woken, 6, 4, 0, "same_handle")]


def test_who_is_interrupted_in_its_sleep_waits_on() -> None:
    """By a debugger, say. Where the wake was not seen, the sleep lasted until the thread ran."""
    asked = requests((2, 5, 20, 100, 1), (4, 6, 10, 92, 1))
    fetching = fetches((6, 12, 90, 15, "chunk", "downloaded"), unique=4)
    slept = sleeps((5, 30, 40, 104), (5, 45, None, None), (5, 61, 91, 6)).with_columns(
        end_ns=pl.when(start_ns=45).then(50).otherwise("end_ns")
    )
    assert found(asked, slept, fetching) == [
        (2, start, end, 6, 4, 0, "same_handle") for start, end in ((30, 40), (45, 50), (61, 91))
    ]


def test_a_lock_that_was_handed_over_was_held_by_who_did() -> None:
    asked = requests((2, 5, 20, None, 1), (4, 6, 10, 92, 1))
    fetching = fetches((6, 12, 90, 15, "chunk", "downloaded"), unique=4)
    slept = sleeps((5, 30, 91, 6), (5, 95, None, None))
    assert found(asked, slept, fetching) == [(2, 30, 91, 6, 4, 0, "same_handle")]


@pytest.mark.parametrize(
    "asked", [((2, 5, 20, None, 1),), ((2, 5, 20, 80, 1), (8, 5, 95, 99, 1))], ids=["last", "not"]
)
def test_a_wait_that_a_sibling_ended_was_for_that_one(
    asked: tuple[tuple[int, int, int, int | None, int | None], ...],
) -> None:
    """Although another one fetches for the handle: the thread goes on, or serves something else."""
    others = (4, 6, 10, 92, 1), (6, 7, 10, 92, 1)
    fetching = fetches((7, 12, 90, 15, "chunk", "downloaded"), unique=6)
    slept = sleeps((5, 30, 31, 6), (5, 96, 97, 109))
    assert found(requests(*asked, *others), slept, fetching) == [
        (2, 30, 31, 6, 4, None, "same_handle")
    ]


@pytest.mark.parametrize(
    "slept",
    [(5, 65, 70, 109), (6, 30, None, None), (7, 30, None, None)],
    ids=["after its answer", "in its own fetch", "after the other's answer"],
)
def test_a_sleep_for_no_lock(slept: tuple[int, int, int | None, int | None]) -> None:
    """A fetch whose end was not seen did not last longer than its request."""
    asked = requests(
        (2, 5, 20, 60, 1),
        (3, 8, 5, 15, 1),
        (4, 6, 10, None, 1),
        (6, 7, 25, None, 2),
        (8, 9, 5, 28, 2),
    )
    before = fetches((8, 6, 11, 7, "chunk", "downloaded"), unique=3)
    own = fetches((6, 12, None, 40, "chunk", "failed"), unique=4)
    unseen = fetches((9, 7, None, 8, "chunk", "failed"), unique=8)
    assert found(asked, sleeps(slept), pl.concat([before, own, unseen])) == []


def test_who_fetches_for_another_handle_does_not_hold_it() -> None:
    asked = requests((2, 5, 20, None, 1), (4, 6, 10, None, 2))
    fetching = fetches((6, 12, None, 15, "chunk", "failed"), unique=4)
    assert found(asked, sleeps((5, 30, None, None)), fetching) == []


HOLDER, WAITER = 6, 5
HELD = requests((2, WAITER, 20, 95, 1), (4, HOLDER, 10, 92, 1))


def holder(blocked: pl.DataFrame, asked: pl.DataFrame = HELD) -> list[tuple[Any, ...]]:
    return [row[:5] for row in found(asked, blocked, NO_FETCH)]


def test_a_wait_is_a_sleep_that_another_thread_of_the_daemon_ended() -> None:
    """Of a thread that serves; while it serves; of some length; with a wake that was seen."""
    slept = sleeps((WAITER, 30, 40, HOLDER))
    assert holder(slept) == [(2, 30, 40, HOLDER, 4)]
    preempted = slept.with_columns(off_reason=pl.lit("preempted", OFF_REASON))
    for other in (
        preempted,
        slept.with_columns(woken_ns=pl.lit(None, pl.Int64)),
        sleeps((WAITER, 30, 30, HOLDER)),
        sleeps((WAITER, 30, 40, WAITER)),
        sleeps((WAITER, 30, 40, 100)),
        sleeps((WAITER, 30, 40, None)),
        sleeps((WAITER, 19, 40, HOLDER)),
        sleeps((WAITER, 95, 99, HOLDER)),
        sleeps((8, 30, 40, HOLDER)),
    ):
        assert holder(other) == []
    assert holder(sleeps((WAITER, 20, 40, HOLDER))) == [(2, 20, 40, HOLDER, 4)]
    assert holder(sleeps((WAITER, 94, 99, HOLDER))) == [(2, 94, 99, HOLDER, None)]
    uninterruptible = slept.with_columns(off_reason=pl.lit("uninterruptible", OFF_REASON))
    assert holder(uninterruptible) == [(2, 30, 40, HOLDER, 4)]


def test_what_the_holder_served_when_the_wait_ended() -> None:
    """The last request that it took by then, if it had not answered it before the wait began."""
    slept = sleeps((WAITER, 30, 40, HOLDER))
    mine = (2, WAITER, 20, 95, 1)
    for others, unique in (
        (((4, HOLDER, 10, 30, 1),), 4),
        (((4, HOLDER, 10, 29, 1),), None),
        (((4, HOLDER, 10, 35, 1), (6, HOLDER, 40, 99, 1)), 6),
        (((4, HOLDER, 10, 35, 1), (6, HOLDER, 41, 99, 1)), 4),
        (((4, HOLDER, 10, None, 1),), 4),
    ):
        assert holder(slept, requests(mine, *others)) == [(2, 30, 40, HOLDER, unique)]


def test_the_thread_that_answered_served_where_the_taking_thread_is_unknown() -> None:
    asked = HELD.with_columns(end_tid=pl.col("served_tid"), served_tid=pl.lit(None, pl.Int32))
    assert holder(sleeps((WAITER, 30, 40, HOLDER)), asked) == [(2, 30, 40, HOLDER, 4)]
    untaken = asked.with_columns(served_ns=pl.lit(None, pl.Int64))
    assert holder(sleeps((WAITER, 30, 40, HOLDER)), untaken) == []


def kind(*fetching: Any, handles: tuple[int | None, int | None] = (1, 2)) -> tuple[Any, ...]:
    """The fetch of the holder and the kind of a wait from 30 to 40."""
    asked = requests((2, WAITER, 20, 95, handles[0]), (4, HOLDER, 10, 92, handles[1]))
    return found(asked, sleeps((WAITER, 30, 40, HOLDER)), fetches(*fetching))[0][-2:]


def test_what_the_holder_fetched_meanwhile() -> None:
    """Begun by the end of the wait, not ended before it began."""
    assert kind((HOLDER, 40, 99, 40, "chunk", "downloaded")) == (0, "collision")
    assert kind((HOLDER, 41, 99, 41, "chunk", "downloaded")) == (None, "other")
    assert kind((HOLDER, 10, 31, 11, "chunk", "downloaded")) == (0, "collision")
    assert kind((HOLDER, 10, 30, 11, "chunk", "downloaded")) == (None, "other")
    assert kind((HOLDER, 10, None, 11, "chunk", "downloaded")) == (0, "collision")
    assert kind((7, 10, 99, 11, "chunk", "downloaded")) == (None, "other")


def test_which_lock_it_was() -> None:
    """In a fetch of its own a thread waits for another kind of lock."""
    chunk, catalog = ((HOLDER, 10, 50, 11, kind_, "downloaded") for kind_ in ("chunk", "catalog"))
    own = (WAITER, 25, 50, 45, "chunk", "downloaded")
    assert kind(chunk, handles=(1, 1)) == (0, "same_handle")
    assert kind(catalog, handles=(1, 1)) == (0, "catalog")
    assert kind(catalog, handles=(None, None)) == (0, "catalog")
    assert kind(chunk, handles=(None, 1)) == (0, "other")
    assert kind(chunk, own) == kind(chunk, own, handles=(1, 1)) == (0, "other")
    assert kind(catalog, own) == (0, "other")


@pytest.mark.parametrize(
    ("fetch", "waits"),
    [
        ((30, 50, 30, "downloaded"), False), ((30, 50, 31, "downloaded"), True),
        ((29, 50, None, "downloaded"), False), ((31, 50, 31, "downloaded"), True),
        ((20, 30, 20, "downloaded"), True), ((20, 31, 20, "downloaded"), False),
        ((20, None, 20, None), False), ((25, 50, 45, "joined"), False),
    ],
    ids=str,
)  # fmt: skip
def test_a_sleep_from_the_queueing_to_the_end_of_an_own_fetch_is_no_wait_for_a_lock(
    fetch: tuple[int, int | None, int | None, str | None], waits: bool
) -> None:
    start, end, queued, outcome = fetch
    own: Any = (WAITER, start, end, queued, "chunk", outcome)
    assert bool(found(HELD, sleeps((WAITER, 30, 40, HOLDER)), fetches(own))) == waits


def test_no_wait_gets_lost_behind_many_that_wait() -> None:
    """Ten threads wake each other in turn: whoever is named, each waited from 20 to its wake."""
    threads = range(1, 12)
    asked = requests(*((2 * tid, tid, 10, 999, 1) for tid in threads))
    slept = sleeps(*((tid, 20, 30 + 10 * tid, tid - 1) for tid in threads if tid > 1))
    waits = found(asked, slept, NO_FETCH)
    waited = {tid: sum(row[2] - row[1] for row in waits if row[0] == 2 * tid) for tid in threads}
    assert waited == {1: 0, **{tid: 10 + 10 * tid for tid in threads if tid > 1}}


def test_threads_that_wait_for_each_other_wait() -> None:
    asked = requests((2, 5, 10, 99, 1), (4, 6, 10, 99, 1))
    waits = found(asked, sleeps((5, 20, 30, 6), (6, 25, 40, 5)), NO_FETCH)
    assert [row[:4] for row in waits] == [
        (2, 20, 25, 6), (2, 25, 30, 6), (4, 25, 30, 5), (4, 30, 40, 5),
    ]  # fmt: skip


def kept(
    fetch: tuple[int, int | None], *slept: tuple[int, int, int | None, int | None],
    asked: pl.DataFrame | None = None,
) -> list[tuple[Any, ...]]:  # fmt: skip
    """Waits of the waiter's last request, while the holder fetches for the same handle."""
    start, end = fetch
    fetching = fetches((HOLDER, start, end, start, "chunk", "downloaded"), unique=4)
    served = requests((2, WAITER, 20, None, 1), (4, HOLDER, 10, None, 1))
    return [row[:4] for row in found(served if asked is None else asked, sleeps(*slept), fetching)]


def test_a_sleep_is_for_a_lock_that_is_kept_while_the_other_fetches() -> None:
    """Begun by the end of the sleep, going on after it."""
    woken = (WAITER, 30, 40, 109)
    assert kept((12, 41), woken) == [(2, 30, 40, HOLDER)]
    assert kept((12, 40), woken) == []
    assert kept((40, 50), woken) == [(2, 30, 40, HOLDER)]
    assert kept((41, 50), woken) == []
    assert kept((12, None), (WAITER, 30, None, None)) == [(2, 30, None, HOLDER)]
    assert kept((12, 99), (WAITER, 30, None, None)) == []
    assert kept((12, None), (WAITER, 20, None, None)) == []
    assert kept((12, None), (WAITER, 21, None, None)) == [(2, 21, None, HOLDER)]


def test_what_is_no_sleep_for_a_kept_lock() -> None:
    """Of an earlier request; of one already answered; for a fetch whose request was answered; of a
    request without a handle.
    """
    woken = (WAITER, 30, 40, 109)
    held = (4, HOLDER, 10, None, 1)
    for waiter, other in (
        (((2, WAITER, 20, 29, 1), (6, WAITER, 45, None, 1)), held),
        (((2, WAITER, 20, 30, 1),), held),
        (((2, WAITER, 20, None, 1),), (4, HOLDER, 10, 30, 1)),
        (((2, WAITER, 20, None, None),), (4, HOLDER, 10, None, None)),
        (((2, WAITER, 20, None, 1),), (4, HOLDER, 10, None, 2)),
    ):
        assert kept((12, 90), woken, asked=requests(*waiter, other)) == []
    assert kept((12, 90), woken, asked=requests((2, WAITER, 20, 31, 1), held)) == [
        (2, 30, 40, HOLDER)
    ]


def test_a_sibling_that_ends_a_kept_sleep_before_the_last_did_hand_over() -> None:
    """Sleeps of a dying thread are none, until the holders fetch has ended."""
    assert kept((12, 90), (WAITER, 30, 40, 7), (WAITER, 50, 60, 109)) == [
        (2, 30, 40, 7), (2, 50, 60, HOLDER),
    ]  # fmt: skip
    dying = (WAITER, 50, 60, 109)
    assert kept((12, 90), dying, (WAITER, 70, 80, 7)) == [(2, 50, 60, HOLDER), (2, 70, 80, HOLDER)]
    assert kept((12, 75), dying, (WAITER, 70, 80, 7)) == [(2, 50, 60, HOLDER), (2, 70, 80, 7)]


def test_only_the_last_request_of_a_thread_waits_for_a_lock_that_is_kept() -> None:
    """The one that it took last, in whichever order they were queued."""
    holder_s, waits = (4, HOLDER, 10, None, 1), (2, WAITER, 20, None, 1)
    woken, ended = (WAITER, 30, 40, 109), (2, WAITER, 20, 60, 1)
    assert kept((12, 99), woken, asked=requests(ended, holder_s)) == [(2, 30, 40, HOLDER)]
    assert kept((12, 99), woken, asked=requests(ended, (8, WAITER, 65, None, 9), holder_s)) == []
    before = requests(waits, (8, WAITER, 5, 15, 9), holder_s)
    assert kept((12, 99), woken, asked=before) == [(2, 30, 40, HOLDER)]


def test_the_last_sleep_of_each_thread_may_end_by_the_one_that_crashed() -> None:
    """8 ends both sleeps: that it let them go on shows only where they slept again."""
    asked = requests(
        (2, WAITER, 20, None, 1), (6, 7, 20, None, 1), (4, HOLDER, 10, None, 1), (8, 8, 5, None, 9)
    )
    slept = (WAITER, 30, 40, 8), (7, 35, 45, 8)
    both = [(2, 30, 40, HOLDER), (6, 35, 45, HOLDER)]
    assert kept((12, 99), *slept, asked=asked) == both
    again = (7, 50, 55, 8)
    assert kept((12, 99), *slept, again, asked=asked) == [
        both[0], (6, 35, 45, 8), (6, 50, 55, HOLDER),
    ]  # fmt: skip


def test_a_request_that_nobody_was_seen_to_take_keeps_no_lock() -> None:
    asked = requests((2, WAITER, 20, None, 1), (4, HOLDER, 10, None, 1))
    untaken = asked.with_columns(served_ns=pl.when(unique=2).then("served_ns"))
    assert kept((12, 99), (WAITER, 30, 40, 109), asked=untaken) == []


def test_waits_are_in_order_of_their_start_then_thread() -> None:
    asked = requests(*((2 * tid, tid, 10, 99, tid) for tid in (5, 6, 7, 9)))
    slept = sleeps(*((tid, at, end, 9) for tid, at, end in
                     ((7, 20, 60), (6, 30, 50), (5, 30, 55))))  # fmt: skip
    assert [row[:3] for row in found(asked, slept, NO_FETCH)] == [
        (14, 20, 60), (10, 30, 55), (12, 30, 50),
    ]  # fmt: skip


def test_what_a_thread_sleeps_while_another_keeps_its_lock_is_no_wait_for_who_ended_it() -> None:
    """From its first such sleep until the last fetch for the handle ended."""
    stranger, sibling = 109, 8
    woken = [(WAITER, 30, 40, stranger), (WAITER, 75, 80, stranger), (WAITER, 92, 95, stranger)]
    asked = requests((2, WAITER, 20, None, 1), (4, HOLDER, 10, None, 1), (8, sibling, 5, None, 9))
    fetching = fetches(
        (HOLDER, 12, 70, 12, "chunk", "downloaded"), (HOLDER, 72, 90, 72, "chunk", "downloaded"),
        unique=4,
    )  # fmt: skip
    of_holder = [(2, 30, 40, HOLDER), (2, 75, 80, HOLDER)]
    for start, end, real in ((42, 44, 0), (82, 89, 0), (82, 90, 1), (22, 25, 1)):
        waits = found(asked, sleeps(*woken, (WAITER, start, end, sibling)), fetching)
        own = [(2, start, end, sibling)] * real
        assert [row[:4] for row in waits] == sorted([*own, *of_holder])
