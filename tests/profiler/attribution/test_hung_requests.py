"""Which request an operation that never ended waits for."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.attribution.hung_requests import with_hung_requests
from cvmprof.profiler.attribution.segments import Evidence
from cvmprof.tests.profiler.rows import rows

BYTES = {"file_id": 5, "offset_bytes": 100, "size_bytes": 100}
HUNG = {**BYTES, "op_id": 0, "tid": 1, "start_ns": 50}
#: of another thread, for the bytes of the operation that hangs
READ = {
    "mount_id": 3, "unique": 7, "node_id": 70, "offset_bytes": 100, "size_bytes": 100,
    "tid": 2, "op_id": 1, "queued_ns": 40,
}  # fmt: skip
OTHER = {**BYTES, "op_id": 1, "tid": 2, "start_ns": 30, "end_ns": 90}
SLEEP = {"tid": 1, "start_ns": 60, "off_reason": "uninterruptible"}
ALIVE = {"tid": 1, "start_ns": 50}


def waits(
    *requests: dict[str, Any],
    operations: tuple[dict[str, Any], ...] = (HUNG, OTHER),
    sleeps: tuple[dict[str, Any], ...] = (SLEEP,),
    tasks: tuple[dict[str, Any], ...] = (ALIVE,),
) -> list[int | None]:
    """The request of each sleep."""
    evidence = Evidence(
        rows("operations", *operations),
        rows("blocked", *sleeps, on_disk=pl.Boolean, mount_id=pl.Int32, unique=pl.UInt64),
        rows("tasks", *tasks),
        rows("fuse_requests", *requests),
    )
    found = with_hung_requests(evidence)
    assert found.columns == evidence.blocked.columns
    assert found["start_ns"].to_list() == [sleep["start_ns"] for sleep in sleeps]
    assert set(found.filter(pl.col("unique") >= 7)["mount_id"]) <= {3}
    return found["unique"].to_list()


@pytest.mark.parametrize(
    ("change", "waited_for"),
    [
        ({}, 7),
        ({"end_ns": 99}, None),
        ({"offset_bytes": 0, "size_bytes": 100}, None),
        ({"offset_bytes": 0, "size_bytes": 101}, 7),
        ({"offset_bytes": 199, "size_bytes": 9}, 7),
        ({"offset_bytes": 200, "size_bytes": 9}, None),
        ({"offset_bytes": None}, None),
    ],
    ids=str,
)
def test_a_read_in_flight_for_the_bytes(change: dict[str, Any], waited_for: int | None) -> None:
    known = {**READ, "unique": 2, "end_ns": 41}
    assert waits(known, {**READ, **change, "op_id": None}) == [waited_for]


def test_the_file_of_a_request_is_that_of_any_operation_that_read_there() -> None:
    """Its node and mount; a request of no operation, or of one without a file, shows nothing."""
    elsewhere = {**READ, "unique": 9, "op_id": None}
    assert waits(READ, {**elsewhere, "offset_bytes": 50}) == [9]
    assert waits(READ, {**elsewhere, "offset_bytes": 150}) == [7]
    assert waits({**READ, "end_ns": 41}, {**elsewhere, "node_id": 71}) == [None]
    assert waits({**READ, "end_ns": 41}, {**elsewhere, "mount_id": 4}) == [None]
    assert waits(elsewhere) == [None]
    assert waits(READ, operations=(HUNG, {**OTHER, "file_id": None})) == [None]
    assert waits(READ, operations=(HUNG, {**OTHER, "file_id": 6})) == [None]
    assert waits(READ, operations=({**HUNG, "file_id": None}, {**OTHER, "file_id": None})) == [None]
    assert waits(READ, operations=({**HUNG, "end_ns": 99}, OTHER)) == [None]


def test_its_own_request_counts_where_none_is_for_its_bytes() -> None:
    own = {**READ, "unique": 8, "op_id": 0, "offset_bytes": None}
    assert waits(own) == [8]
    assert waits(own, READ) == [7]
    assert waits({**own, "end_ns": 99}) == [None]


@pytest.mark.parametrize(
    ("request_", "lives", "waited_for"),
    [
        ({}, [(0, 49)], None),
        ({}, [(0, 50)], 7),
        ({"served_ns": 41}, [(0, 49)], 7),
        ({}, [(40, 49)], None),
        ({}, [(0, 40)], None),
        ({}, [(41, 49)], 7),
        ({}, [(0, 39)], 7),
        ({}, [(0, None)], 7),
        ({}, [(0, 30), (31, 60)], 7),
        ({}, [(0, 30), (31, 45)], None),
    ],
    ids=str,
)
def test_a_request_that_nobody_took_is_gone_with_its_sender(
    request_: dict[str, Any], lives: list[tuple[int, int | None]], waited_for: int | None
) -> None:
    """If that ended before the operation began."""
    senders = ({"tid": 2, "start_ns": born, "end_ns": died} for born, died in lives)
    own = {**READ, "unique": 2, "end_ns": 45}
    assert waits(own, {**READ, **request_, "op_id": None}, tasks=(ALIVE, *senders)) == [waited_for]


@pytest.mark.parametrize(
    ("sleep", "died", "waited_for"),
    [
        ({"start_ns": 50}, None, 7),
        ({"start_ns": 49}, None, None),
        ({"end_ns": 70}, None, None),
        ({"end_ns": 70}, 70, 7),
        ({"start_ns": 70}, 70, 7),
        ({"start_ns": 71}, 70, None),
        ({"off_reason": "preempted"}, None, None),
        ({"tid": 9}, None, None),
        ({"unique": 4, "mount_id": 1}, None, 4),
    ],
    ids=str,
)
def test_a_sleep_inside_the_operation_until_the_thread_died(
    sleep: dict[str, Any], died: int | None, waited_for: int | None
) -> None:
    task = {**ALIVE, "end_ns": died}
    assert waits(READ, sleeps=({**SLEEP, **sleep},), tasks=(task,)) == [waited_for]


@pytest.mark.parametrize(("answered_ns", "waited_for"), [(None, 7), (71, 7), (70, None)])
@pytest.mark.parametrize("change", [{}, {"op_id": 0, "offset_bytes": None}], ids=["bytes", "own"])
def test_a_request_that_was_answered_after_the_thread_died(
    change: dict[str, Any], answered_ns: int | None, waited_for: int | None
) -> None:
    """A thread that was killed no longer waits, and the client answers all the same."""
    request = {**READ, "unique": 7, **change, "end_ns": answered_ns}
    died = {**ALIVE, "end_ns": 70}
    known = {**READ, "unique": 2, "end_ns": 41}
    assert waits(known, request, sleeps=({**SLEEP, "end_ns": 70},), tasks=(died,)) == [waited_for]


def test_the_last_sleep_of_the_operations_own_life() -> None:
    """A preemption is no sleep; a thread of that number that lived before or later is another."""
    preempted = {**SLEEP, "start_ns": 80, "off_reason": "preempted"}
    sleeps = ({**SLEEP, "start_ns": 70}, SLEEP, preempted)
    assert waits(READ, sleeps=sleeps) == [7, None, None]
    for task in ({**ALIVE, "start_ns": 51}, {**ALIVE, "start_ns": 0, "end_ns": 49}):
        assert waits(READ, tasks=(task,)) == [None]
    at_death = {**ALIVE, "end_ns": 50}
    assert waits(READ, sleeps=({**SLEEP, "start_ns": 50},), tasks=(at_death,)) == [7]


def test_of_nested_operations_the_innermost_waits() -> None:
    inner = {"op_id": 2, "tid": 1, "start_ns": 55, "kind": "fault"}
    own = {**READ, "unique": 8, "op_id": 2, "offset_bytes": None}
    assert waits(READ, own, operations=(inner, HUNG, OTHER)) == [8]
    assert waits(READ, own, operations=(HUNG, OTHER, inner)) == [8]
