"""Reloads, remounts, evictions, last calls and cache managers, on frames made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from cvmprof.probes.events import CACHE_FILE, CALL, DAEMON_FUNCTIONS, TASK
from cvmprof.profiler.client.cache_managers import cache_managers
from cvmprof.profiler.health.evictions import CacheOwners, evictions
from cvmprof.profiler.health.incidents import last_calls
from cvmprof.profiler.health.remounts import reloads, remounts
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.tables import conform, empty

SECOND = 1_000_000_000
HASH, ROOT = "ab" + "0" * 38, "cd" + "1" * 38
UNLINK = 3


def mounts(**more: Any) -> pl.DataFrame:
    row = {
        "mount_id": [0],
        "device": ["0:50"],
        "mountpoint": ["/m"],
        "daemon_pid": [9],
        "start_ns": [100],
        **more,
    }
    return conform("mounts", pl.DataFrame(row))


def said(kind: str, revision: int, root: str = ROOT) -> dict[str, Any]:
    attributes = {
        "user.revision": str(revision), "user.root_hash": root, "user.version": "2.11.5.0",
    }  # fmt: skip
    return {
        "kind": kind,
        "time_ns": 5000,
        "device": "0:50",
        "mountpoint": "/m",
        "attributes": attributes,
    }


def test_code_loaded_by_a_daemon_that_serves_is_a_reload() -> None:
    loaded = [
        {"kind": "library", "pid": pid, "path": "/lib/x.so", "opened_ns": time_ns}
        for pid, time_ns in [(9, 50), (8, 900), (9, 2 * SECOND), (9, 2 * SECOND + 5)]
    ]
    journal = Journal((*loaded, said("attributes_before", 3), said("attributes", 4)))
    assert reloads(journal, mounts()).select("time_ns", "pid", "mount_id", "detail").rows() == [
        (
            2 * SECOND,
            9,
            0,
            "daemon 9 loaded its code again from /lib/x.so: client 2.11.5.0 before "
            "and after, revision 3 before, 4 after",
        ),
    ]


def manifests(*rows: tuple[int, str, int]) -> pl.DataFrame:
    """Manifests of mount 0: time_ns, root hash, revision."""
    schema = {"time_ns": pl.Int64, "root_hash": pl.String, "revision": pl.Int64}
    frame = pl.DataFrame(list(rows), schema=schema, orient="row")
    return frame.with_columns(mount_id=pl.lit(0, pl.Int32))


LOOKED = pl.DataFrame(
    {"mount_id": [0, 0, 0], "object_hash": [HASH, ROOT, ROOT], "start_ns": [700, 800, 900]},
    schema_overrides={"mount_id": pl.Int32},
)


def revisions(journal: Journal, looked: pl.DataFrame, *rows: tuple[int, str, int]) -> list[Any]:
    found = remounts(journal, mounts(), looked, manifests(*rows))
    return found.select("time_ns", "detail").rows()


def test_a_new_revision_is_dated_by_the_first_look_for_its_root() -> None:
    journal = Journal((said("attributes_before", 3, HASH), said("attributes", 4)))
    assert revisions(journal, LOOKED) == [(800, "/m: revision 3 before, 4 after")]
    assert revisions(journal, LOOKED.head(1)) == [
        (5000, "/m: revision 3 before, 4 after; the time of the change was not seen")
    ]
    same = Journal((said("attributes_before", 4), said("attributes", 4)))
    assert revisions(same, LOOKED) == []


def test_each_of_several_revisions_is_told_by_its_manifest() -> None:
    """One whose root the client never looked for was not taken; the same one again is no news."""
    journal = Journal((said("attributes_before", 2), said("attributes", 4)))
    seen = [(600, HASH, 3), (650, HASH, 3), (750, "ef" * 20, 9), (790, ROOT, 4)]
    assert revisions(journal, LOOKED, *seen) == [
        (700, "/m: revision 2 before, 3 after"),
        (800, "/m: revision 3 before, 4 after"),
    ]


def test_the_first_manifest_of_a_mount_made_meanwhile_is_no_change() -> None:
    journal = Journal((said("attributes", 4),))
    seen = [(600, HASH, 3), (790, ROOT, 4)]
    assert revisions(journal, LOOKED, *seen) == [(800, "/m: revision 3 before, 4 after")]
    assert revisions(journal, LOOKED, (600, HASH, 4)) == []


def removal(pid: int, end_ns: int, path: str, result: int = 0) -> dict[str, Any]:
    return {
        "start_ns": 1,
        "end_ns": end_ns,
        "result": result,
        "pid": pid,
        "tid": pid,
        "syscall": UNLINK,
        "path": path.encode(),
    }


def test_removals_close_to_each_other_are_one_eviction(make_raw: Any) -> None:
    """By the manager of a shared cache, which names the cache; failed ones and others' apart."""
    other = "ef" + "0" * 38
    records = make_raw(
        CACHE_FILE,
        removal(7, SECOND, f"/c/ab/{HASH[2:]}"),
        removal(7, SECOND + 9, f"/c/ef/{other[2:]}"),
        removal(7, SECOND + 10, f"/c/ef/{other[2:]}", -2),
        removal(7, SECOND, f"/d/ab/{HASH[2:]}"),
        removal(7, 5 * SECOND, f"/c/ef/{other[2:]}"),
        removal(7, 5 * SECOND, "/c/txn/fetchAb"),
    )
    chunks = conform(
        "chunks",
        pl.DataFrame(
            {"file_id": 0, "index": 0, "object_hash": [HASH], "offset_bytes": 0, "size_bytes": 1}
        ),
    )
    found = evictions(records, CacheOwners(mounts(cache_path=["/c"]), {}, {}), chunks)
    assert found.select("time_ns", "kind", "mount_id").rows() == [
        (SECOND, "eviction", 0),
        (5 * SECOND, "eviction", 0),
    ]
    assert found["detail"].to_list() == [
        "2 objects were removed from the client's cache, 1 of them belong to files of this run",
        "1 objects were removed from the client's cache, 0 of them belong to files of this run",
    ]


def test_a_child_removes_by_names_of_its_daemons_directory(make_raw: Any) -> None:
    records = make_raw(CACHE_FILE, *(removal(pid, 5, f"./ab/{HASH[2:]}") for pid in (22, 33)))
    parents = {22: 21, 21: 9, 33: 44}
    owners = CacheOwners(mounts(cache_path=["/c"]), {9: "/c", 44: "/c"}, parents)
    found = evictions(records, owners, empty("chunks"))
    assert found.select("pid", "mount_id").rows() == [(22, 0)]
    elsewhere = replace(owners, directories={9: "/x"})
    nowhere = evictions(records, elsewhere, empty("chunks"))
    assert nowhere.is_empty()


def call(call_id: int, tid: int, start_ns: int, end_ns: int | None) -> dict[str, Any]:
    return {
        "call_id": call_id,
        "function": f"f{call_id}",
        "pid": 9,
        "tid": tid,
        "start_ns": start_ns,
        "end_ns": end_ns,
    }


@pytest.mark.parametrize(
    ("crashed", "told"),
    [
        (11, "in f1, begun 4.0 ms before"),
        (12, "while thread 11 was in f1, begun 4.0 ms before"),
    ],
)
def test_what_a_daemon_did_when_it_crashed(make_raw: Any, crashed: int, told: str) -> None:
    ms = 1_000_000
    signals = make_raw(
        TASK,
        {"time_ns": 10 * ms, "pid": 9, "tid": crashed, "kind": 5, "exit_code": 11},
        {"time_ns": 11 * ms, "pid": 9, "tid": 14, "kind": 5, "exit_code": 6},
    )
    rows = [
        call(0, 11, 1 * ms, 20 * ms),
        call(1, 11, 6 * ms, None),
        call(2, 13, 8 * ms, 9 * ms),
        call(3, 11, 12 * ms, None),
    ]
    calls = conform("daemon_calls", pl.DataFrame(rows))
    assert last_calls(signals, calls).rows() == [(9, 10 * ms, crashed, told)]
    idle = last_calls(signals, calls.filter(pl.col("call_id") == 2))
    assert idle["doing"].to_list() == ["after its last call f2, begun 2.0 ms before"]


OBJECT = f"/{HASH[:2]}/{HASH[2:]}"


@pytest.mark.parametrize(
    ("functions", "names", "manager", "path"),
    [
        (("CacheManager::Open",), ("/c/one/cachedb", "/c/one" + OBJECT), "posix", "/c/one"),
        ((), ("/c/shared" + OBJECT, "/w/cachemgr"), "posix shared", "/c/shared"),
        ((), ("/c/one" + OBJECT,), "posix unmanaged", "/c/one"),
        ((), ("/c/else" + OBJECT,), "posix alien", "/c/else"),
        (("CacheManager::Open",), (), "posix", None),
        (("RamCacheManager::Open",), (), "ram", None),
        (("ExternalCacheManager::Open",), (), "external", None),
        (
            ("TieredCacheManager::Open", "CacheManager::Open", "RamCacheManager::Open"),
            ("/c/one/cachedb",),
            "tiered (posix, ram)",
            "/c/one",
        ),
        (("StreamingCacheManager::Open",), ("/c/one/cachedb",), "streaming (posix)", "/c/one"),
        ((), (), None, None),
    ],
)
def test_which_cache_manager(
    make_raw: Any, functions: tuple[str, ...], names: tuple[str, ...], manager: str, path: str
) -> None:
    calls = make_raw(
        CALL, *({"pid": 9, "function": DAEMON_FUNCTIONS.index(name)} for name in functions)
    )
    daemons = pl.DataFrame(
        {"pid": [9], "mount_id": [0]}, schema={"pid": pl.Int32, "mount_id": pl.Int32}
    )
    repositories = daemons.select("mount_id", repository=pl.lit("one"))
    journal = Journal(({"kind": "cache", "pid": 9, "directory": "/w", "names": names},))
    found = cache_managers(calls, daemons, repositories, journal)
    assert found.rows() == [(0, manager, path)]
