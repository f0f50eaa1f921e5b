"""Which calls and system calls of a daemon are fetches, how they ended, which ones joined."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from cvmprof.probes.events import CACHE_FILE, CALL, DAEMON_FUNCTIONS
from cvmprof.profiler.client import daemon_calls as work
from cvmprof.profiler.client.fetches import fetches_by_call, fetches_by_name, numbered
from cvmprof.tests.profiler.conftest import digest
from cvmprof.tests.profiler.rows import frame, rows

FUNCTION = {name: number for number, name in enumerate(DAEMON_FUNCTIONS)}
FETCH, LOOKUP, DOWNLOADING = (
    FUNCTION[name] for name in ("Fetcher::Fetch", "CacheManager::Open", "DownloadManager::Fetch")
)
A, B = "a1" * 20, "b2" * 20
DAEMONS = pl.DataFrame(
    {"pid": [200], "mount_id": [3]}, schema={"pid": pl.Int32, "mount_id": pl.Int32}
)


def fetching(
    tid: int, start: int, end: int, looked: int | None, took: tuple[int, int] | None, **values: Any
) -> list[dict[str, Any]]:
    """Records of a Fetcher::Fetch: its lookup's result, its download's times."""
    nested = {"pid": 200, "tid": tid, "parent_start_ns": start, "parent_function": FETCH}
    whole = {"pid": 200, "tid": tid, "start_ns": start, "end_ns": end, "function": FETCH,
             "object": digest(A), "result": 4, **values}  # fmt: skip
    rows = [whole]
    if looked is not None:
        rows += [
            {
                **nested,
                "start_ns": start + 1,
                "end_ns": start + 2,
                "function": LOOKUP,
                "object": digest(A),
                "result": looked,
            },
            {
                **nested,
                "start_ns": start + 8,
                "end_ns": start + 9,
                "function": LOOKUP,
                "object": digest(A),
                "result": 5,
            },
        ]
    if took is not None:
        rows += [{**nested, "start_ns": took[0], "end_ns": took[1], "function": DOWNLOADING}]
    return rows


def test_which_fetches_are_waits_and_how_they_ended(make_raw: Any) -> None:
    rows = [
        *fetching(1, 100, 200, -2, (110, 190), unique=2),
        *fetching(2, 120, 195, -2, None),
        *fetching(3, 300, 310, 7, None),
        *fetching(4, 400, 450, -2, (410, 440), result=-5 & 0xFFFFFFFF),
        *fetching(5, 500, 0, -2, (510, 0)),
        *fetching(6, 600, 610, None, None),
    ]
    calls = work.daemon_calls(make_raw(CALL, *rows), DAEMONS)
    found = numbered(fetches_by_call(calls))
    wanted = ("tid", "outcome", "joined_fetch_id", "queued_ns", "returned_ns", "unique")
    assert found.select(wanted).rows() == [
        (1, "downloaded", None, 110, 190, 2),
        (2, "joined", 0, None, None, None),
        (4, "failed", None, 410, 440, None),
        (5, None, None, 510, None, None),
    ]
    lookups = work.cache_lookups(calls, work.with_hashes(make_raw(CACHE_FILE), DAEMONS))
    assert lookups.filter(tid=1)["hit"].to_list() == [False, True]


def cache_file(
    start: int, tid: int, syscall: str, path: str, result: int = 0, flags: int = 0, new: str = ""
) -> dict[str, Any]:
    number = ("none", "openat", "rename", "unlink").index(syscall)
    return {
        "start_ns": start,
        "end_ns": start + 2,
        "pid": 200,
        "tid": tid,
        "syscall": number,
        "path": path.encode(),
        "new_path": new.encode(),
        "result": result,
        "open_flags": flags,
    }


CACHED = f"/cache/{A[:2]}/{A[2:]}"
BY_NAME = (
    cache_file(100, 1, "openat", CACHED, -2),
    cache_file(105, 1, "openat", CACHED, -2),
    cache_file(108, 2, "openat", CACHED, -2),
    cache_file(110, 1, "openat", "/cache/txn/fetchAAAAAA", 9, os.O_CREAT | os.O_EXCL),
    cache_file(190, 1, "rename", "/cache/txn/fetchAAAAAA", new=CACHED),
    cache_file(195, 2, "openat", CACHED, 11),
    cache_file(300, 3, "openat", CACHED, 12),
    cache_file(400, 4, "openat", f"/cache/{B[:2]}/{B[2:]}", -2),
    cache_file(410, 4, "openat", "/cache/txn/fetchBBBBBB", 9, os.O_CREAT | os.O_EXCL),
)


def test_a_daemon_without_symbols_tells_the_same_by_its_cache_files(make_raw: Any) -> None:
    files = work.with_hashes(make_raw(CACHE_FILE, *BY_NAME), DAEMONS)
    calls = work.daemon_calls(make_raw(CALL), DAEMONS)
    lookups = work.cache_lookups(calls, files)
    assert lookups.select("start_ns", "tid", "hit").rows() == [
        (100, 1, False),
        (105, 1, False),
        (108, 2, False),
        (195, 2, True),
        (300, 3, True),
        (400, 4, False),
    ]
    requests = served_requests((2, 1, 90, 250), (4, 2, 95, None), (6, 4, 300, 350))
    found = numbered(
        fetches_by_name(lookups, work.transactions(files, calls), work.commits(files), requests)
    )
    wanted = ("tid", "start_ns", "end_ns", "object_hash", "outcome", "joined_fetch_id", "unique")
    assert found.select(wanted).rows() == [
        (1, 100, 192, A, "downloaded", None, 2),
        (2, 108, 197, A, "joined", 0, 4),
        (4, 400, None, B, None, None, None),
    ]
    assert work.cache_directories(files).rows() == [(3, "/cache")]


def served_requests(*rows: tuple[int, int, int, int | None]) -> pl.DataFrame:
    """Requests (unique, served_tid, served_ns, end_ns)."""
    schema = {
        "unique": pl.UInt64,
        "served_tid": pl.Int32,
        "served_ns": pl.Int64,
        "end_ns": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        mount_id=pl.lit(3, pl.Int32)
    )


def test_cache_files_of_a_daemon_with_calls_add_only_commits(make_raw: Any) -> None:
    files = work.with_hashes(make_raw(CACHE_FILE, *BY_NAME), DAEMONS)
    calls = work.daemon_calls(make_raw(CALL, *fetching(1, 100, 200, -2, (110, 190))), DAEMONS)
    assert work.cache_lookups(calls, files)["call_id"].null_count() == 0
    assert work.transactions(files, calls).height == 0
    assert work.commits(files).select("object_hash", "end_ns").rows() == [(A, 192)]


def test_without_symbols_a_miss_alone_waits_for_whoever_downloads(make_raw: Any) -> None:
    """Thread 2 misses while 1 downloads, and then serves another object; 3 misses later."""
    other = f"/cache/{B[:2]}/{B[2:]}"
    files = work.with_hashes(
        make_raw(
            CACHE_FILE,
            *BY_NAME[:2],
            *BY_NAME[3:5],
            cache_file(120, 2, "openat", CACHED, -2),
            cache_file(250, 2, "openat", other, 12),
            cache_file(195, 3, "openat", CACHED, -2),
        ),
        DAEMONS,
    )
    calls = work.daemon_calls(make_raw(CALL), DAEMONS)
    lookups = work.cache_lookups(calls, files)
    requests = served_requests((2, 1, 90, 250), (4, 2, 95, 240))
    found = numbered(
        fetches_by_name(lookups, work.transactions(files, calls), work.commits(files), requests)
    )
    wanted = ("tid", "start_ns", "end_ns", "queued_ns", "outcome", "joined_fetch_id", "unique")
    assert found.select(wanted).rows() == [
        (1, 100, 192, 112, "downloaded", None, 2),
        (2, 120, 192, None, "joined", 0, 4),
    ]


def test_without_symbols_who_misses_first_may_be_second_to_begin(make_raw: Any) -> None:
    """Thread 2 misses before 1 does, and waits; 3 has answered its request before 1 begins."""
    files = work.with_hashes(
        make_raw(
            CACHE_FILE,
            *BY_NAME[:2],
            *BY_NAME[3:5],
            cache_file(98, 2, "openat", CACHED, -2),
            cache_file(91, 3, "openat", CACHED, -2),
        ),
        DAEMONS,
    )
    calls = work.daemon_calls(make_raw(CALL), DAEMONS)
    lookups = work.cache_lookups(calls, files)
    requests = served_requests((2, 1, 90, 250), (4, 2, 95, 240), (6, 3, 90, 96))
    found = numbered(
        fetches_by_name(lookups, work.transactions(files, calls), work.commits(files), requests)
    )
    wanted = ("tid", "start_ns", "end_ns", "outcome", "joined_fetch_id", "unique")
    assert found.select(wanted).rows() == [
        (2, 98, 192, "joined", 1, 4),
        (1, 100, 192, "downloaded", None, 2),
    ]


CALL_EXTRA = {"object_suffix": pl.String}
FETCHED = {
    "pid": 200, "tid": 1, "function": "Fetcher::Fetch", "object_hash": A, "mount_id": 3,
    "start_ns": 100, "end_ns": 200,
}  # fmt: skip
LOOKED = {**FETCHED, "function": "CacheManager::Open"}
LOADED = {**FETCHED, "function": "DownloadManager::Fetch"}


def fetches_of(*calls: dict[str, Any]) -> list[tuple[Any, ...]]:
    found = fetches_by_call(rows("daemon_calls", *calls, **CALL_EXTRA))
    return found.select("call_id", "outcome", "queued_ns", "returned_ns").rows()


def test_the_first_lookup_decides_whether_a_call_is_a_fetch() -> None:
    """Not another call inside it, nor a lookup outside any call."""
    missed = {**FETCHED, "call_id": 0, "result": 5}
    lookups: list[dict[str, Any]] = [
        {**LOOKED, "call_id": 1, "parent_id": 0, "start_ns": 120, "result": 0},
        {**LOOKED, "call_id": 2, "parent_id": 0, "start_ns": 110, "result": -2},
        {**LOOKED, "call_id": 3, "start_ns": 90, "result": -2},
    ]
    other = {**LOOKED, "call_id": 4, "parent_id": 0, "start_ns": 105, "function": "cvmfs_open"}
    lookups.append({**other, "result": 0})
    assert fetches_of(missed, *lookups) == [(0, "joined", None, None)]
    swapped = [{**each, "start_ns": 300 - each["start_ns"]} for each in lookups]
    assert fetches_of(missed, *swapped) == []
    assert fetches_of({**missed, "result": 0}) == []


def test_a_fetch_is_from_the_first_queueing_to_the_last_return() -> None:
    """Only of downloads inside it: another one is a fetch of its own."""
    inside = {**LOADED, "parent_id": 0}
    assert fetches_of(
        {**FETCHED, "call_id": 0, "result": 0},
        {**inside, "call_id": 1, "start_ns": 130, "end_ns": 140},
        {**inside, "call_id": 2, "start_ns": 110, "end_ns": 120},
        {**LOADED, "call_id": 3, "start_ns": 90, "end_ns": 95, "result": 0},
        {**LOADED, "call_id": 4, "parent_id": 9, "start_ns": 96, "end_ns": 97, "result": 1},
        {**LOADED, "call_id": 5, "start_ns": 98, "end_ns": None},
        {**FETCHED, "call_id": 6, "result": -5, "object_hash": None},
        {**FETCHED, "call_id": 9, "function": "cvmfs_lookup"},
    ) == [
        (0, "downloaded", 110, 140),
        (3, "downloaded", 90, 95),
        (4, "failed", 96, 97),
        (5, None, 98, None),
    ]


def test_a_fetch_that_failed_is_one_although_it_looked_up_nothing() -> None:
    assert fetches_of({**FETCHED, "call_id": 0, "result": -1}) == [(0, "failed", None, None)]
    assert fetches_of({**FETCHED, "call_id": 0, "end_ns": None}) == []


def joined_to(*fetches: dict[str, Any]) -> list[int | None]:
    found = numbered(rows("fetches", *fetches).drop("joined_fetch_id"))
    assert found["fetch_id"].to_list() == list(range(len(fetches)))
    return found["joined_fetch_id"].to_list()


def test_a_fetch_joins_the_latest_download_of_its_object_that_it_meets() -> None:
    """Of its own process, and not one that touches it at an end only."""
    load: dict[str, Any] = {"pid": 1, "object_hash": A, "outcome": "downloaded", "tid": 1}
    joins = {**load, "outcome": "joined", "start_ns": 50, "end_ns": 90, "tid": 9}
    early, late = {**load, "start_ns": 10, "end_ns": 60}, {**load, "start_ns": 40, "end_ns": 70}
    assert joined_to(joins, late, early) == [None, None, 1]
    assert joined_to(joins, {**late, "end_ns": 50}) == [None, None]
    assert joined_to(joins, {**late, "end_ns": 51}) == [None, 0]
    assert joined_to(joins, {**late, "end_ns": None, "outcome": None}) == [None, 0]
    assert joined_to(joins, {**late, "start_ns": 90}) == [None, None]
    assert joined_to(joins, {**late, "start_ns": 89}) == [1, None]
    assert joined_to(joins, {**late, "pid": 2}) == [None, None]
    assert joined_to(joins, {**late, "object_hash": B}) == [None, None]
    assert joined_to(joins, {**joins, "start_ns": 55}) == [None, None]


def test_fetches_of_the_same_start_are_numbered_by_thread() -> None:
    unnumbered = rows("fetches", *({"start_ns": 5, "tid": tid} for tid in (3, 1, 2)))
    found = numbered(unnumbered.drop("joined_fetch_id"))
    assert found["tid"].to_list() == [1, 2, 3]


BEGUN = {
    "pid": pl.Int32, "tid": pl.Int32, "mount_id": pl.Int32, "start_ns": pl.Int64,
    "end_ns": pl.Int64, "path": pl.String,
}  # fmt: skip
COMMITTED = {
    "pid": pl.Int32, "tid": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64,
    "path": pl.String, "object_hash": pl.String,
}  # fmt: skip
MISSED = {"pid": 200, "mount_id": 3, "object_hash": A, "hit": False}


def named(
    lookups: Sequence[dict[str, Any]],
    begun: Sequence[tuple[Any, ...]] = (),
    committed: Sequence[tuple[Any, ...]] = (),
    asked: pl.DataFrame | None = None,
) -> list[tuple[Any, ...]]:
    """Fetches by system calls: tid, start, end, object, outcome, queued."""
    looked = [{**MISSED, "end_ns": each["start_ns"] + 1, **each} for each in lookups]
    found = fetches_by_name(
        rows("cache_lookups", *looked),
        frame(BEGUN, *begun),
        frame(COMMITTED, *committed),
        served_requests() if asked is None else asked,
    )
    names = ("tid", "start_ns", "end_ns", "object_hash", "outcome", "queued_ns")
    return sorted(found.select(names).rows())


def test_a_transaction_begins_with_the_first_miss_before_it_and_ends_with_its_rename() -> None:
    """Of its own thread and process; the rename of the same path that comes next."""
    looked: list[dict[str, Any]] = [
        {"tid": 1, "start_ns": 10}, {"tid": 1, "start_ns": 12},
        {"tid": 2, "start_ns": 15, "object_hash": B},
    ]  # fmt: skip
    begun = [(200, 1, 3, 20, 22, "/t")]
    renames = [
        (200, 1, 90, 95, "/t", B), (200, 1, 30, 35, "/t", A), (200, 1, 19, 19, "/t", B),
        (200, 1, 25, 26, "/other", B), (201, 1, 24, 26, "/t", B),
    ]  # fmt: skip
    assert named(looked, begun, renames) == [(1, 10, 35, A, "downloaded", 22)]
    assert named(looked, begun) == [(1, 10, None, A, None, 22)]
    assert named([], begun, renames) == [(1, 20, 35, A, "downloaded", 22)]
    assert named([], begun) == []


@pytest.mark.parametrize("before", [{"object_hash": B}, {"hit": True}, {"tid": 2}, {"pid": 201}])
def test_only_a_miss_of_the_same_object_just_before_belongs_to_a_miss(
    before: dict[str, Any],
) -> None:
    looked = [{"tid": 1, "start_ns": 10, **before}, {"tid": 1, "start_ns": 15}]
    found = named(looked, [(200, 1, 3, 20, 22, "/t")])
    assert found == [(1, 15, None, A, None, 22)]


def test_a_miss_and_then_a_hit_waited_for_another_thread() -> None:
    """Of the same object on the same thread, with nothing between them; the last miss counts."""
    hit = {"tid": 1, "start_ns": 50, "hit": True}
    assert named([{"tid": 1, "start_ns": 10}, hit]) == [(1, 10, 51, A, "joined", None)]
    assert named([{"tid": 2, "start_ns": 10}, hit]) == []
    assert named([{"tid": 1, "start_ns": 10, "object_hash": B}, hit]) == []
    assert named([{"tid": 1, "start_ns": 10, "hit": True}, hit]) == []
    assert named([{"tid": 1, "start_ns": 10, "pid": 201}, hit]) == []


@pytest.mark.parametrize(
    ("miss", "joins"),
    [
        ({"start_ns": 10}, True),
        ({"start_ns": 9}, False),
        ({"start_ns": 34}, True),
        ({"start_ns": 35}, False),
        ({"start_ns": 20, "pid": 201}, False),
        ({"start_ns": 20, "object_hash": B}, False),
    ],
    ids=str,
)
def test_a_miss_alone_joins_a_download_that_was_in_progress(
    miss: dict[str, Any], joins: bool
) -> None:
    """Thread 1 downloads from 10 to 35."""
    looked = [{"tid": 1, "start_ns": 10}, {"tid": 2, **miss}]
    begun, renames = [(200, 1, 3, 20, 22, "/t")], [(200, 1, 30, 35, "/t", A)]
    own = (1, 10, 35, A, "downloaded", 22)
    joined = (2, miss["start_ns"], 35, A, "joined", None)
    assert named(looked, begun, renames) == [own, joined][: 1 + joins]


def test_of_several_downloads_a_miss_joins_the_one_that_ends_first() -> None:
    looked = [{"tid": tid, "start_ns": 10 + tid} for tid in (1, 2, 3, 4)]
    begun = [(200, tid, 3, 20, 22, f"/t{tid}") for tid in (1, 2, 3)]
    renames = [(200, 1, 40, 45, "/t1", A), (200, 2, 30, 35, "/t2", A)]
    found = named(looked, begun, renames)
    assert found[-1] == (4, 14, 35, A, "joined", None)
    assert named(looked, begun)[-1] == (4, 14, None, A, None, None)


@pytest.mark.parametrize(("answered", "joins"), [(35, True), (34, False), (None, False)])
def test_who_looked_first_joins_a_download_that_ends_within_its_request(
    answered: int | None, joins: bool
) -> None:
    looked = [{"tid": 1, "start_ns": 10}, {"tid": 2, "start_ns": 5}]
    begun, renames = [(200, 1, 3, 20, 22, "/t")], [(200, 1, 30, 35, "/t", A)]
    asked = served_requests((4, 2, 1, answered))
    own, joined = (1, 10, 35, A, "downloaded", 22), (2, 5, 35, A, "joined", None)
    assert named(looked, begun, renames, asked) == [own, joined][: 1 + joins]


def test_a_thread_that_goes_on_with_its_object_joined_nobody() -> None:
    """It looks again, or begins a transaction; another object or nothing is no going on."""
    holder: list[dict[str, Any]] = [{"tid": 1, "start_ns": 10}]
    begun, renames = [(200, 1, 3, 20, 22, "/t")], [(200, 1, 30, 35, "/t", A)]
    again = [{"tid": 2, "start_ns": 12}, {"tid": 2, "start_ns": 14}]
    assert [row[0] for row in named([*holder, *again], begun, renames)] == [1]
    later: list[dict[str, Any]] = [
        {"tid": 2, "start_ns": 12},
        {"tid": 2, "start_ns": 14, "object_hash": B},
    ]
    assert [row[0] for row in named([*holder, *later], begun, renames)] == [1, 2]
    own = [*begun, (200, 2, 3, 13, 16, "/u")]
    for looked in (later[:1], later):
        assert named([*holder, *looked], own, renames) == [
            (1, 10, 35, A, "downloaded", 22), (2, 12, None, A, None, 16),
        ]  # fmt: skip
