"""The daemons' calls, and what their system calls on cache files say."""

from __future__ import annotations

import os
from typing import Any

import polars as pl

from cvmprof.probes.events import CACHE_FILE, CACHE_SYSCALLS, CALL, DAEMON_FUNCTIONS
from cvmprof.profiler.client.daemon_calls import (
    cache_directories,
    cache_lookups,
    commits,
    daemon_calls,
    transactions,
    with_hashes,
)
from cvmprof.tests.profiler.conftest import digest
from cvmprof.tests.profiler.rows import frame, rows

A, B = "a1" * 20, "b2" * 20
DAEMONS = frame({"pid": pl.Int32, "mount_id": pl.Int32}, (200, 3), (201, 4))
FUNCTION = {name: number for number, name in enumerate(DAEMON_FUNCTIONS)}
READ, FETCH, LOOKUP = (FUNCTION[n] for n in ("cvmfs_read", "Fetcher::Fetch", "CacheManager::Open"))
CREATE = os.O_CREAT | os.O_EXCL


def test_a_call_is_inside_the_one_of_its_thread_that_it_names(make_raw: Any) -> None:
    """By thread, function and start; two functions may begin in the same nanosecond."""
    inside = {"parent_start_ns": 10, "parent_function": READ}
    found = daemon_calls(
        make_raw(
            CALL,
            {"start_ns": 20, "tid": 1, "pid": 200, "function": FETCH, **inside},
            {"start_ns": 21, "tid": 2, "pid": 201, "function": FETCH, **inside},
            {"start_ns": 22, "tid": 1, "pid": 9, "function": FETCH, **inside, "parent_function": 0},
            {"start_ns": 10, "tid": 1, "pid": 200, "function": READ, "unique": 6},
            {"start_ns": 10, "tid": 1, "pid": 200, "function": READ, "unique": 6},
        ),
        DAEMONS,
    )
    names = ("call_id", "parent_id", "mount_id", "start_ns", "unique")
    assert found.height == 5
    first = found["parent_id"][2]
    assert first in (0, 1)
    assert found.select(names).rows() == [
        (0, None, 3, 10, 6),
        (1, None, 3, 10, 6),
        (2, first, 3, 20, None),
        (3, None, 4, 21, None),
        (4, None, None, 22, None),
    ]


def test_results_are_the_low_half_and_only_of_what_returns_one(make_raw: Any) -> None:
    returned = {"end_ns": 9, "result": 0xFFFFFFFE, "pid": 200}
    found = daemon_calls(
        make_raw(
            CALL,
            {**returned, "start_ns": 1, "function": READ},
            {**returned, "start_ns": 2, "function": FETCH},
            {**returned, "start_ns": 3, "function": LOOKUP},
            {**returned, "start_ns": 4, "function": FUNCTION["DownloadManager::Fetch"]},
            {**returned, "start_ns": 5, "function": FETCH, "end_ns": 0},
        ),
        DAEMONS,
    )
    assert found.select("result", "end_ns").rows() == [
        (None, 9), (-2, 9), (-2, 9), (-2, 9), (None, None),
    ]  # fmt: skip


def test_the_outermost_lookup_is_called_the_same_by_every_cache_manager(make_raw: Any) -> None:
    inner, outer = (FUNCTION[n] for n in ("CacheManager::Open", "TieredCacheManager::Open"))
    found = daemon_calls(
        make_raw(
            CALL,
            {"start_ns": 1, "function": outer},
            {"start_ns": 2, "function": inner, "parent_start_ns": 1, "parent_function": outer},
            {"start_ns": 3, "function": outer, "parent_start_ns": 1, "parent_function": inner},
            {"start_ns": 4, "function": 250},
        ),
        DAEMONS,
    )
    assert found["function"].to_list() == [
        "CacheManager::Open", "PosixCacheManager::Open", "TieredCacheManager::Open", "?",
    ]  # fmt: skip


def file(start: int, name: str, path: str, **values: Any) -> dict[str, Any]:
    return {
        "start_ns": start, "end_ns": start + 2, "pid": 200, "tid": 1, "path": path.encode(),
        "syscall": CACHE_SYSCALLS.index(name), **values,
    }  # fmt: skip


def cached(text: str) -> str:
    return f"/cache/{text[:2]}/{text[2:]}"


NO_CALLS = rows("daemon_calls")


def test_lookups_are_ended_calls_and_opens_of_daemons_without_calls(make_raw: Any) -> None:
    """No lookup: another call, one without an object, one that makes the file."""
    call = {"pid": 201, "tid": 5, "function": "CacheManager::Open", "object_hash": A}
    calls = rows(
        "daemon_calls",
        {**call, "call_id": 0, "start_ns": 9, "end_ns": 10, "result": 0, "mount_id": 4},
        {**call, "call_id": 1, "start_ns": 8, "end_ns": 10, "result": -2},
        {**call, "call_id": 2, "start_ns": 11},
        {**call, "call_id": 3, "start_ns": 11, "end_ns": 12, "function": "Fetcher::Fetch"},
        {**call, "call_id": 4, "start_ns": 11, "end_ns": 12, "object_hash": None},
    )
    files = with_hashes(
        make_raw(
            CACHE_FILE,
            file(3, "openat", cached(A), result=-2),
            file(1, "openat", cached(B), result=0),
            file(4, "openat", cached(B), open_flags=CREATE),
            file(5, "unlink", cached(B)),
            file(6, "openat", "/cache/lock"),
            file(7, "openat", cached(B), pid=201),
        ),
        DAEMONS,
    )
    names = ("call_id", "mount_id", "start_ns", "end_ns", "object_hash", "hit")
    assert cache_lookups(calls, files).select(names).rows() == [
        (None, 3, 1, 3, B, True),
        (None, 3, 3, 5, A, False),
        (1, None, 8, 10, A, False),
        (0, 4, 9, 10, A, True),
    ]


def test_of_a_process_of_no_known_mount_the_files_are_kept(make_raw: Any) -> None:
    new = cached(B).encode()
    files = with_hashes(
        make_raw(
            CACHE_FILE,
            file(5, "rename", cached(A), pid=9, new_path=new),
            file(1, "openat", "/t", end_ns=0),
        ),
        DAEMONS,
    )
    names = ("pid", "mount_id", "end_ns", "path", "path_hash", "new_path", "new_hash")
    assert files.select(names).rows() == [
        (9, None, 7, cached(A), A, cached(B), B),
        (200, 3, None, "/t", None, "", None),
    ]


def test_only_renames_into_the_cache_that_succeeded_commit(make_raw: Any) -> None:
    new = {"new_path": cached(A).encode()}
    files = with_hashes(
        make_raw(
            CACHE_FILE,
            file(1, "rename", "/t", **new),
            file(2, "rename", "/t", **new, result=-2),
            file(3, "rename", "/t", new_path=b"/elsewhere"),
            file(4, "openat", "/t", **new),
        ),
        DAEMONS,
    )
    assert commits(files).rows() == [(200, 1, 1, 3, "/t", A)]


def test_transactions_are_files_made_for_fetches_by_daemons_without_calls(make_raw: Any) -> None:
    path = "/cache/txn/fetchABC"
    files = with_hashes(
        make_raw(
            CACHE_FILE,
            file(1, "openat", path, open_flags=CREATE, result=0),
            file(2, "openat", path, open_flags=CREATE, result=-17),
            file(3, "openat", path),
            file(4, "openat", "/cache/txn/other", open_flags=CREATE),
            file(5, "unlink", path, open_flags=CREATE),
            file(6, "openat", path, open_flags=CREATE, pid=201),
        ),
        DAEMONS,
    )
    calls = rows("daemon_calls", {"pid": 201}, {"pid": 201, "call_id": 1})
    assert transactions(files, calls).rows() == [(200, 1, 3, 1, 3, path)]
    assert transactions(files, NO_CALLS)["start_ns"].to_list() == [1, 6]


def test_a_cache_is_where_the_first_whole_absolute_name_of_an_object_lies(make_raw: Any) -> None:
    """A name of 127 bytes may be cut; what is renamed lies elsewhere."""
    deep = "/" + "d" * (127 - 1 - 42)
    files = with_hashes(
        make_raw(
            CACHE_FILE,
            file(1, "openat", cached(A)[1:]),
            file(2, "openat", f"{deep}/{A[:2]}/{A[2:]}"),
            file(3, "openat", "/cache/nothing"),
            file(4, "rename", "/txn/fetch", new_path=f"/first/{A[:2]}/{A[2:]}".encode()),
            file(5, "openat", cached(A)),
            file(6, "openat", f"{deep[:-1]}/{A[:2]}/{A[2:]}", pid=201),
            file(7, "openat", cached(A), pid=9),
        ),
        DAEMONS,
    )
    assert cache_directories(files).rows() == [(3, "/first"), (4, deep[:-1])]


def test_an_object_is_named_by_its_digest(make_raw: Any) -> None:
    call = {"start_ns": 1, "function": FETCH, "object": digest(A, suffix=b"P")}
    found = daemon_calls(make_raw(CALL, call), DAEMONS)
    assert found.select("object_hash", "object_suffix").rows() == [(A, "P")]
