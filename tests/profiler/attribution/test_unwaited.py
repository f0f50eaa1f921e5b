"""Fetches waited for by no sleep of their own: reads in flight, and locks whose holder fetches."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.attribution.unwaited import behind_fetches, in_flight
from cvmprof.tests.profiler.rows import rows

READ, EIOCBQUEUED = 15, -529


def tables(**given: list[dict[str, Any]]) -> dict[str, pl.DataFrame]:
    """A run of process 1, watched from 10 to 90, in which thread 2 queued request 7 at 20."""
    usual = {
        "segments": [{"pid": 1, "tid": 2, "start_ns": 10, "end_ns": 90, "cause": "blocked"}],
        "fuse_requests": [request()],
        "operations": [], "fetches": [], "downloads": [], "mounts": [], "blocked": [],
    }  # fmt: skip
    return {name: rows(name, *lines) for name, lines in {**usual, **given}.items()}


def request(**changes: Any) -> dict[str, Any]:
    read = {"unique": 7, "opcode": READ, "pid": 1, "tid": 2, "queued_ns": 20, "end_ns": 60}
    return {**read, **changes}


def fetch(start_ns: int, end_ns: int | None, **changes: Any) -> dict[str, Any]:
    made = {"fetch_id": 4, "mount_id": 0, "unique": 7, "start_ns": start_ns, "end_ns": end_ns}
    return {**made, **changes}


def flying(**given: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The rows: start, end, cause, fetch."""
    found = in_flight(tables(**given))
    assert (found["pid"] == 1).all() and (found["tid"] == 2).all() and (found["unique"] == 7).all()
    return found.select("start_ns", "end_ns", "cause", "fetch_id").sort("start_ns").rows()


def test_a_read_that_no_operation_queued_is_in_flight_until_it_ends() -> None:
    assert flying() == [(20, 60, "daemon", None)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"queued_ns": None}, (10, 60)),
        ({"queued_ns": 5}, (10, 60)),
        ({"end_ns": None}, (20, 90)),
        ({"end_ns": 200}, (20, 90)),
    ],
)
def test_while_its_process_was_watched(changes: dict[str, Any], expected: tuple[int, int]) -> None:
    assert flying(fuse_requests=[request(**changes)]) == [(*expected, "daemon", None)]


@pytest.mark.parametrize(
    "changes",
    [{"pid": 9}, {"opcode": 3}, {"op_id": 1}, {"op_id": 2}, {"queued_ns": 95, "end_ns": 99}],
)
def test_of_others_other_kinds_and_in_operations_none_is(changes: dict[str, Any]) -> None:
    done = {"op_id": 1, "result": 4096}
    assert flying(fuse_requests=[request(**changes)], operations=[done]) == []


def test_an_operation_that_goes_on_after_it_returned_has_its_read_in_flight() -> None:
    returned = {"op_id": 1, "result": EIOCBQUEUED}
    assert flying(fuse_requests=[request(op_id=1)], operations=[returned]) == [
        (20, 60, "daemon", None)
    ]


def test_what_it_fetched_and_the_steps_of_the_download() -> None:
    load = {"download_id": 3, "sent_ns": 28, "first_byte_ns": 40, "last_byte_ns": 52}
    assert flying(fetches=[fetch(25, 55, download_id=3)], downloads=[load]) == [
        (20, 60, "daemon", None), (25, 55, "fetch", 4), (28, 40, "first_byte", 4),
        (40, 52, "transfer", 4),
    ]  # fmt: skip


def test_a_download_that_hangs() -> None:
    load = {"download_id": 3, "sent_ns": 28, "first_byte_ns": None, "last_byte_ns": None}
    assert flying(
        fuse_requests=[request(end_ns=None)],
        fetches=[fetch(25, None, download_id=3)], downloads=[load],
    ) == [(20, 90, "daemon", None), (25, 90, "fetch", 4), (28, 90, "first_byte", 4)]  # fmt: skip


def test_the_fetch_of_another_mounts_request_is_not_its() -> None:
    assert flying(fetches=[fetch(25, 55, mount_id=1)]) == [(20, 60, "daemon", None)]


def held(*locks: dict[str, Any], fetches: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Of a wait of request 7 from 10 to 50: start, end, fetch."""
    request = {"tid": 2, "unique": 7, "mount_id": 0}
    waits = rows(
        "segments",
        {"tid": 2, "start_ns": 0, "end_ns": 10, "cause": "cpu"},
        {**request, "start_ns": 10, "end_ns": 50, "cause": "daemon_lock"},
        {**request, "start_ns": 50, "end_ns": 60, "cause": "first_byte", "fetch_id": 5},
    )
    made = [{"mount_id": 0, "unique": 7, **lock} for lock in locks]
    found = behind_fetches(waits, rows("lock_waits", *made), rows("fetches", *fetches))
    ordered = found.sort("start_ns")
    assert ordered.columns == waits.columns
    assert ordered["start_ns"].to_list() == [0, *ordered["end_ns"].to_list()[:-1]]
    assert ordered.row(0) == waits.row(0)
    assert ordered.row(-1) == waits.row(-1)
    return ordered[1:-1].select("start_ns", "end_ns", "cause", "fetch_id").rows()


def test_a_lock_whose_holder_fetched_waits_for_that_fetch() -> None:
    lock = {"start_ns": 10, "end_ns": 50, "holder_fetch_id": 4}
    assert held(lock, fetches=[fetch(20, 40)]) == [
        (10, 20, "daemon_lock", None), (20, 40, "daemon_lock", 4), (40, 50, "daemon_lock", None),
    ]  # fmt: skip


def test_one_holder_after_another() -> None:
    locks: list[dict[str, Any]] = [
        {"start_ns": 10, "end_ns": 30, "holder_fetch_id": 4},
        {"start_ns": 30, "end_ns": None, "holder_fetch_id": 6},
    ]
    assert held(*locks, fetches=[fetch(5, 30), fetch(30, None, fetch_id=6)]) == [
        (10, 30, "daemon_lock", 4), (30, 50, "daemon_lock", 6),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "lock",
    [
        {"holder_fetch_id": None},
        {"holder_fetch_id": 4, "unique": 8},
        {"holder_fetch_id": 4, "mount_id": 1},
    ],
)
def test_a_holder_that_fetched_nothing_or_held_up_another_request(lock: dict[str, Any]) -> None:
    lock = {"start_ns": 10, "end_ns": 50, **lock}
    assert held(lock, fetches=[fetch(10, 50)]) == [(10, 50, "daemon_lock", None)]


def test_a_read_in_flight_while_its_client_is_stopped_is_that_without_its_fetch() -> None:
    """Of one thread or of several; not while another mount's client is."""
    clients = [{"mount_id": number, "daemon_pid": 50 + number} for number in range(2)]
    stops = [
        {"pid": pid, "tid": tid, "start_ns": start, "woken_ns": end, "off_reason": "stopped"}
        for pid, tid, start, end in ((50, 50, 35, 40), (50, 51, 36, 45), (51, 52, 20, 60))
    ]
    found = flying(
        mounts=clients,
        blocked=stops,
        fetches=[fetch(25, 55, download_id=0)],
        downloads=[{"download_id": 0, "sent_ns": 30, "first_byte_ns": 50, "last_byte_ns": 55}],
    )
    assert [row for row in found if row[2] in ("stopped", "first_byte")] == [
        (30, 35, "first_byte", 4), (35, 45, "stopped", None), (45, 50, "first_byte", 4),
    ]  # fmt: skip
    assert [row[:2] for row in found if row[2] == "daemon"] == [(20, 35), (45, 60)]
    assert [row[:2] for row in found if row[2] == "fetch"] == [(25, 35), (45, 55)]
