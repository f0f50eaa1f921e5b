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
