"""Which mounts are the command's own, and which of their requests, fetches and downloads."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.attribution.own import own_fetches, own_requests, own_tables
from cvmprof.profiler.tables import TABLES
from cvmprof.tests.profiler.rows import rows

COMMAND, OTHER = 10, 20
OF_OTHER = {"mount_id": 0, "unique": 2, "pid": OTHER}
TARGET = {"pid": COMMAND, "tid": COMMAND, "role": "target"}


def tables(**given: list[dict[str, Any]]) -> dict[str, pl.DataFrame]:
    """A run of one process of the command, and these rows."""
    made = {"tasks": [TARGET], **given}
    return {each.name: rows(each.name, *made.get(each.name, [])) for each in TABLES}


def of(**given: list[dict[str, Any]]) -> list[int]:
    return sorted(own_fetches(tables(**given))["fetch_id"])


def test_requests_that_the_command_queued() -> None:
    asked = [{"mount_id": 0, "unique": 1, "pid": COMMAND}, OF_OTHER]
    assert own_requests(tables(fuse_requests=asked)).rows() == [(0, 1)]
    asked[1] = {**OF_OTHER, "op_id": 5}  # by a thread of the kernel, in its operation
    assert sorted(own_requests(tables(fuse_requests=asked)).rows()) == [(0, 1), (0, 2)]


def test_a_request_that_the_command_waited_for_is_its_own_whoever_queued_it() -> None:
    waited = {"op_id": 5, "mount_id": 0, "unique": 2}
    found = own_requests(tables(fuse_requests=[OF_OTHER], waits=[waited, waited]))
    assert found.rows() == [(0, 2)]


def test_daemons_are_no_processes_of_the_command() -> None:
    daemon = {"pid": OTHER, "tid": OTHER, "role": "daemon"}
    assert own_requests(tables(tasks=[TARGET, daemon], fuse_requests=[OF_OTHER])).is_empty()


FETCH: dict[str, Any] = {"fetch_id": 0, "mount_id": 0, "unique": 1}
ASKED: dict[str, Any] = {"mount_id": 0, "unique": 1, "pid": COMMAND}


def test_fetches_for_its_requests() -> None:
    """Of the same mount; neither others' nor what the client fetches for itself."""
    others = [
        {**FETCH, "fetch_id": 1, "unique": 2}, {**FETCH, "fetch_id": 2, "mount_id": 1},
        {**FETCH, "fetch_id": 3, "unique": None},
    ]  # fmt: skip
    assert of(fuse_requests=[ASKED, OF_OTHER], fetches=[FETCH, *others]) == [0]


def test_fetches_that_its_threads_waited_for() -> None:
    other = {**FETCH, "fetch_id": 4, "unique": 2}
    segments: list[dict[str, Any]] = [{"fetch_id": 4}, {"fetch_id": None}]
    assert of(fuse_requests=[OF_OTHER], fetches=[other], segments=segments) == [4]


def test_a_download_that_one_of_its_fetches_joined() -> None:
    """But not one that another's joined."""
    begun = {**FETCH, "fetch_id": 5, "unique": 2}
    joins = {**FETCH, "fetch_id": 6, "joined_fetch_id": 5}
    requests = [ASKED, OF_OTHER]
    assert of(fuse_requests=requests, fetches=[begun, joins]) == [5, 6]
    own_begun, other_joins = {**begun, "unique": 1}, {**joins, "unique": 2}
    assert of(fuse_requests=requests, fetches=[own_begun, other_joins]) == [5]


def test_all_attempts_of_its_fetches() -> None:
    downloads = [
        {"download_id": 0, "fetch_id": 0}, {"download_id": 1, "fetch_id": 0},
        {"download_id": 2, "fetch_id": 1}, {"download_id": 3}, {"download_id": 4},
    ]  # fmt: skip
    fetches = [{**FETCH, "download_id": 1}, {**FETCH, "fetch_id": 7, "download_id": 4}]
    found = own_tables(tables(fuse_requests=[ASKED], fetches=fetches, downloads=downloads))
    assert found["downloads"]["download_id"].to_list() == [0, 1, 4]


def test_lookups_and_lock_waits_of_its_requests() -> None:
    calls = [
        {"call_id": 0, "mount_id": 0, "unique": 1}, {"call_id": 1, "mount_id": 0, "unique": 2},
    ]  # fmt: skip
    lookups: list[dict[str, Any]] = [{"call_id": 0}, {"call_id": 1}, {"call_id": None}]
    waited = [{"mount_id": 0, "unique": 1, "tid": 1}, {"mount_id": 0, "unique": 2, "tid": 2}]
    found = own_tables(
        tables(
            fuse_requests=[ASKED, OF_OTHER], daemon_calls=calls, cache_lookups=lookups,
            lock_waits=waited,
        )
    )  # fmt: skip
    assert found["cache_lookups"]["call_id"].to_list() == [0]
    assert found["lock_waits"]["tid"].to_list() == [1]
    assert found["fuse_requests"]["unique"].to_list() == [1]


@pytest.mark.parametrize("tasks", [[], [{"pid": 1, "tid": 1, "role": "daemon"}]])
def test_a_log_that_names_no_process_of_a_command_stays_as_it_is(tasks: list[Any]) -> None:
    given = tables(tasks=tasks, fuse_requests=[OF_OTHER], fetches=[FETCH])
    assert own_tables(given) == given


MOUNTS: list[dict[str, Any]] = [{"mount_id": 0}, {"mount_id": 1}]
FILE: dict[str, Any] = {"file_id": 5, "mount_id": 1}


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"fuse_requests": [{**ASKED, "mount_id": 1}]}, [1]),
        ({"fuse_requests": [ASKED, {**OF_OTHER, "mount_id": 1}]}, [0]),
        ({"hits": [{"file_id": 5, "pid": COMMAND}], "files": [FILE]}, [1]),
        ({"operations": [{"file_id": 5, "pid": COMMAND}], "files": [FILE]}, [1]),
        ({"operations": [{"file_id": None, "pid": COMMAND}], "files": [FILE]}, []),
        ({"failed_operations": [{"op_id": 0, "mount_id": 1}]}, [1]),
        ({"files": [FILE]}, []),
    ],
)
def test_a_mount_is_used_by_a_request_a_file_or_a_failure(
    given: dict[str, list[dict[str, Any]]], used: list[int]
) -> None:
    found = own_tables(tables(mounts=MOUNTS, **given))
    assert found["mounts"]["mount_id"].to_list() == used
