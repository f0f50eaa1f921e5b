"""Evictions: which removals are one cleanup, of which cache, by whom."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import CACHE_FILE
from cvmprof.profiler.health.evictions import CacheOwners, evictions
from cvmprof.tests.profiler.rows import rows

SECOND = 1_000_000_000
A, B = "ab" + "0" * 38, "cd" + "1" * 38


def path(cache: str, name: str = A) -> str:
    return f"{cache}/{name[:2]}/{name[2:]}"


def removed(make_raw: Any, *given: tuple[int, int, str]) -> pl.DataFrame:
    """Removals: process, time, file name."""
    frame: pl.DataFrame = make_raw(
        CACHE_FILE,
        *(
            {"pid": pid, "end_ns": at, "path": name.encode(), "syscall": 3}
            for pid, at, name in given
        ),
    )
    return frame


def mount(number: int, cache: str | None, daemon: int | None = None) -> dict[str, Any]:
    return {"mount_id": number, "cache_path": cache, "daemon_pid": daemon}


def found(removals: pl.DataFrame, owners: CacheOwners, *used: str) -> list[tuple[Any, ...]]:
    chunks = rows("chunks", *({"object_hash": name} for name in used))
    table = evictions(removals, owners, chunks)
    counts = table["detail"].str.extract_all(r"\d+").list.eval(pl.element().cast(pl.Int64))
    assert set(table["kind"]) <= {"eviction"}
    return list(zip(*table.select("mount_id", "time_ns", "pid"), counts.to_list(), strict=True))


def test_removals_more_than_a_second_apart_are_two_cleanups(make_raw: Any) -> None:
    """Of each cache by itself; the first removal dates it and names who removes."""
    owners = CacheOwners(rows("mounts", mount(0, "/c"), mount(1, "/d")), {}, {})
    removals = removed(
        make_raw,
        (8, 3 * SECOND, path("/c")),
        (7, 2 * SECOND, path("/c")),
        (9, 4 * SECOND + 1, path("/c")),
        (9, 2 * SECOND + 5, path("/d", B)),
        (9, 5, "/c/cachedb"),
        (9, 6, path("/elsewhere")),
        (9, 7, "/c/ab/no object"),
    )
    assert found(removals, owners, A) == [
        (0, 2 * SECOND, 7, [2, 2]),
        (0, 4 * SECOND + 1, 9, [1, 1]),
        (1, 2 * SECOND + 5, 9, [1, 0]),
    ]


def test_a_cache_that_mounts_share_counts_for_the_last(make_raw: Any) -> None:
    owners = CacheOwners(
        rows("mounts", mount(0, "/c"), mount(1, "/c"), mount(2, None), mount(3, None)), {}, {}
    )
    assert found(removed(make_raw, (7, 5, path("/c"))), owners) == [(1, 5, 7, [1, 0])]


def test_relative_names_lie_in_the_directory_of_a_daemon_or_of_its_ancestor(make_raw: Any) -> None:
    """If that is its mount's cache; processes that are each other's parents have none."""
    mounts = rows(
        "mounts", mount(0, "/c", 9), mount(1, "/d", 8), mount(2, None, 6), mount(3, "/e"),
        mount(4, None, 5),
    )  # fmt: skip
    owners = CacheOwners(mounts, {9: "/c", 8: "/x", 6: "/f"}, {20: 9, 21: 8, 30: 31, 31: 30})
    removals = removed(
        make_raw,
        *((pid, pid, path(".")) for pid in (9, 20, 21, 30, 8, 6, 5, 40)),
        (20, 50, path("./sub")),
        (9, 60, path(".", B)),
    )
    assert found(removals, owners) == [(0, 9, 9, [3, 0])]


def test_a_child_removes_by_names_of_its_daemons_directory(make_raw: Any) -> None:
    removals = removed(make_raw, (22, 5, path(".")), (33, 5, path(".")))
    mounts, parents = rows("mounts", mount(0, "/c", 9)), {22: 21, 21: 9, 33: 44}
    owners = CacheOwners(mounts, {9: "/c", 44: "/c"}, parents)
    assert found(removals, owners) == [(0, 5, 22, [1, 0])]
    assert found(removals, CacheOwners(mounts, {9: "/x"}, parents)) == []


def test_a_removal_that_failed_removed_nothing(make_raw: Any) -> None:
    owners = CacheOwners(rows("mounts", mount(0, "/c")), {}, {})
    both = removed(make_raw, (7, 5, path("/c")), (7, 6, path("/c", B)))
    failed = both.with_columns(result=pl.Series([0, -2], dtype=both.schema["result"]))
    table = evictions(failed, owners, rows("chunks", {"object_hash": A}))
    assert table["detail"].to_list() == [
        "1 objects were removed from the client's cache, 1 of them belong to files of this run"
    ]
