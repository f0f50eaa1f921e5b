"""Runs that only poll, on both sides of each limit."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.attribution.polling import POLL_NS, polls
from cvmprof.tests.profiler.rows import rows

MS = 1_000_000
Step = tuple[str, int] | tuple[str, int, int]


def polling(*steps: Step, follow: pl.DataFrame | None = None) -> list[str]:
    """The causes of what polls, of a thread that does this (cause, ns, via?) one after another."""
    tiles = list[dict[str, Any]]()
    at = 0
    for cause, ns, *via in steps:
        tiles.append({"tid": 1, "start_ns": at, "end_ns": at + ns, "cause": cause,
                      "via_tid": via[0] if via else None})  # fmt: skip
        at += ns
    made = rows("segments", *tiles)
    every = made if follow is None else pl.concat([made, follow])
    return [f"{row['cause']} {row['ns']}" for row in every.with_columns(
        ns=pl.col("end_ns") - pl.col("start_ns")).filter(polls(every)).to_dicts()]  # fmt: skip


SLEEP: Step = ("blocked", 100 * MS)


def test_short_runs_between_sleeps_that_timers_end() -> None:
    assert polling(SLEEP, ("cpu", 1), SLEEP, ("cpu", 2), SLEEP) == ["cpu 1", "cpu 2"]


def test_at_most_ten_milliseconds_of_cpu() -> None:
    assert POLL_NS == 10 * MS
    long: Step = ("blocked", 1000 * MS)
    assert polling(long, ("cpu", POLL_NS), SLEEP) == [f"cpu {POLL_NS}"]
    assert polling(long, ("cpu", POLL_NS + 1), SLEEP) == []
    halves: list[Step] = [("cpu", POLL_NS // 2), ("runqueue", 50 * MS)]
    assert len(polling(long, *halves, ("cpu", POLL_NS // 2), SLEEP)) == 2
    assert polling(long, *halves, ("cpu", POLL_NS // 2 + 1), SLEEP) == []


def test_at_most_a_tenth_of_the_sleep_before() -> None:
    assert polling(("blocked", 1000), ("cpu", 100), SLEEP) == ["cpu 100"]
    assert polling(("blocked", 999), ("cpu", 100), SLEEP) == []
    assert polling(("blocked", 500), ("blocked", 500), ("cpu", 100), SLEEP) == ["cpu 100"]


def test_the_sleep_after_it_does_not_count() -> None:
    assert polling(("blocked", 1000), ("cpu", 100), ("blocked", 1)) == ["cpu 100"]


def test_the_first_run_and_the_last_do_something() -> None:
    assert polling(("cpu", 1), SLEEP, ("cpu", 2)) == []


def test_a_run_that_another_thread_woke_does_something() -> None:
    assert polling(("blocked", 100 * MS, 7), ("cpu", 1), SLEEP) == []


def test_short_sleeps_for_other_threads_are_part_of_a_run() -> None:
    """A thread of Python waits for the interpreter's lock between its timers."""
    held: Step = ("blocked", 5 * MS, 7)
    assert polling(SLEEP, ("cpu", 1), held, ("cpu", 2), SLEEP) == ["cpu 1", "cpu 2"]


@pytest.mark.parametrize("cause", ["copy", "disk", "unknown", "daemon", "driver"])
def test_a_run_with_an_operation_in_it_does_something(cause: str) -> None:
    assert polling(SLEEP, ("cpu", 1), (cause, 1), ("cpu", 1), SLEEP) == []


def test_a_sleep_in_an_operation_does_something() -> None:
    tiles = [{"tid": 1, "start_ns": at, "end_ns": at + ns, "cause": cause, **links}
             for at, ns, cause, links in ((0, 1000, "blocked", {}), (1000, 1, "cpu", {}),
                                          (1001, 1, "blocked", {"via_tid": 2, "op_id": 5}),
                                          (1002, 1000, "blocked", {}))]  # fmt: skip
    assert not polls(rows("segments", *tiles)).any()
    assert polls(rows("segments", *({**tile, "op_id": None} for tile in tiles))).any()


@pytest.mark.parametrize(("tid", "begins_ns"), [(1, 900 * MS), (2, 100 * MS)])
def test_another_life_begins_anew(tid: int, begins_ns: int) -> None:
    """Of the same thread's number or another's, which begins as this one ends."""
    ran_ns = begins_ns + 1
    later = rows(
        "segments",
        {"tid": tid, "start_ns": begins_ns, "end_ns": ran_ns, "cause": "cpu"},
        {"tid": tid, "start_ns": ran_ns, "end_ns": 1000 * MS, "cause": "blocked"},
    )
    assert polling(SLEEP, follow=later) == []


def test_nothing_polls_where_there_is_nothing() -> None:
    assert polling() == []
