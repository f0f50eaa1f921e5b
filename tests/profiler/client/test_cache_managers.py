"""Which cache a client keeps its objects in, by lookups and open files."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import CALL, DAEMON_FUNCTIONS
from cvmprof.profiler.client.cache_managers import cache_managers, working_directories
from cvmprof.profiler.run.journal import Journal
from cvmprof.tests.profiler.rows import frame

OBJECT = "/a1/" + "a1" * 19
DAEMONS = frame({"pid": pl.Int32, "mount_id": pl.Int32}, (8, 0), (9, 0), (7, 1))
REPOSITORIES = frame({"mount_id": pl.Int32, "repository": pl.String}, (1, "one"))


def opened(pid: int, *names: str) -> dict[str, Any]:
    return {"kind": "cache", "pid": pid, "directory": f"/w{pid}", "names": list(names)}


def found(make_raw: Any, *lines: dict[str, Any], calls: tuple[Any, ...] = ()) -> list[Any]:
    records = make_raw(
        CALL, *({"pid": pid, "function": DAEMON_FUNCTIONS.index(name)} for pid, name in calls)
    )
    return cache_managers(records, DAEMONS, REPOSITORIES, Journal(lines)).rows()


def test_a_mount_has_the_cache_of_the_first_of_its_daemons(make_raw: Any) -> None:
    """Also where its repository is not known; files that several lines name count all."""
    lines = (opened(8), opened(9, "/c/nine" + OBJECT), opened(8, "/c/eight" + OBJECT))
    assert found(make_raw, *lines) == [(0, "posix alien", "/c/eight"), (1, None, None)]


def test_lookups_count_for_the_process_that_made_them_and_other_calls_do_not(make_raw: Any) -> None:
    calls = ((7, "RamCacheManager::Open"), (8, "Fetcher::Fetch"), (9, "CacheManager::Open"))
    assert found(make_raw, calls=calls) == [(0, None, None), (1, "ram", None)]


def test_a_database_lies_in_the_cache_and_objects_two_levels_below(make_raw: Any) -> None:
    """A pipe or a database is no object; a manager's pipe makes the cache a shared one."""
    assert found(
        make_raw,
        opened(8, "/w/elsewhere" + OBJECT, "/c/db/cachedb"),
        opened(7, "/w/x/cachemgr", "/c/one" + OBJECT, "/c/later" + OBJECT),
    ) == [(0, "posix", "/c/db"), (1, "posix shared", "/c/one")]


def test_where_relative_names_of_a_daemon_begin() -> None:
    assert working_directories(Journal((opened(8), opened(9)))) == {8: "/w8", 9: "/w9"}
