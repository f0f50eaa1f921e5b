"""For whom the command slept: woken by a neighbour that used CVMFS meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from cvmprof.reports.numbers.awaited import Awaited
from cvmprof.tests.reports.rows import asked, statistics_of, tile
from cvmprof.tests.reports.synthetic import MAIN, PID, START, Rows

OTHER, SECOND, CHILD = 71, 72, MAIN + 1


def asleep(until: int = 80, **row: Any) -> Rows:
    """The command sleeps from 10 to 80 ns and is woken; a neighbour has requests meanwhile."""
    rows = Rows()
    for pid, role in ((PID, "target"), (OTHER, "neighbour"), (SECOND, "neighbour")):
        rows.add("tasks", pid=pid, tid=pid, parent_pid=1, name=f"name {pid}", role=role,
                 start_ns=0)  # fmt: skip
    for begin, end, cause in ((0, 10, "cpu"), (10, until, "blocked"), (until, 100, "cpu")):
        tile(rows, START + begin, START + end, cause)
    woken = {"woken_by_pid": OTHER, "woken_by_tid": OTHER + 5, "off_reason": "sleep"}
    rows.add("blocked", pid=PID, tid=MAIN, start_ns=START + 10,
             **{"woken_ns": START + 80, "end_ns": START + 81, **woken, **row})  # fmt: skip
    for unique, (begin, end) in enumerate(((0, 30), (20, 50), (60, 70), (90, 95))):
        asked(rows, unique, OTHER, queued_ns=START + begin, end_ns=START + end)
    asked(rows, 9, SECOND, queued_ns=START, end_ns=START + 100)
    return rows


def test_the_process_that_woke_the_command_and_its_requests_meanwhile() -> None:
    assert statistics_of(asleep()).awaited == Awaited(OTHER, f"name {OTHER}", 70, 40 + 10)


@pytest.mark.parametrize(
    "row",
    [
        {"woken_by_pid": None}, {"woken_by_pid": PID}, {"woken_by_pid": 99},
        {"off_reason": "uninterruptible"}, {"woken_ns": None}, {"woken_ns": START + 60},
    ],
)  # fmt: skip
def test_who_did_not_end_a_sleep_is_not_named(row: dict[str, Any]) -> None:
    assert statistics_of(asleep(**row)).awaited is None


def test_a_sleep_while_another_thread_went_on_is_not_the_commands() -> None:
    rows = asleep()
    tile(rows, START + 5, START + 60, "cpu", tid=CHILD)
    tile(rows, START + 60, START + 85, "blocked", tid=CHILD)
    found = statistics_of(rows).awaited
    assert found is not None and (found.slept_ns, found.requests_ns) == (20, 10)
    tile(rows, START + 85, START + 95, "cpu", tid=CHILD)
    rows.rows["segments"][-2]["end_ns"] = START + 75
    rows.rows["segments"][-1]["start_ns"] = START + 75
    assert statistics_of(rows).awaited is None


def test_a_neighbour_without_a_request_meanwhile_is_not_named() -> None:
    rows = asleep()
    for request in rows.rows["fuse_requests"]:
        request["queued_ns"] = START + 80
        request["end_ns"] = START + 90
    assert statistics_of(rows).awaited is None
