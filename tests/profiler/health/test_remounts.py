"""Reloads, remounts and cache managers, on frames made by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.probes.events import CALL, DAEMON_FUNCTIONS
from cvmprof.profiler.client.cache_managers import cache_managers
from cvmprof.profiler.health.remounts import reloads, remounts, revisions_at_start
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.tables import conform
from cvmprof.tests.profiler.rows import frame, rows

SECOND = 1_000_000_000
HASH, ROOT = "ab" + "0" * 38, "cd" + "1" * 38


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


def loaded(pid: int, time_ns: int) -> dict[str, Any]:
    return {"kind": "library", "pid": pid, "path": "/lib/x.so", "opened_ns": time_ns}


def test_code_is_loaded_again_by_a_daemon_whose_mount_was_there_before() -> None:
    """Once a second per daemon; for its latest mount; not with the mount itself."""
    mounted = rows(
        "mounts",
        {"mount_id": 0, "device": "0:50", "daemon_pid": 9},
        {"mount_id": 1, "device": "0:51", "daemon_pid": 9, "start_ns": 5 * SECOND},
        {"mount_id": 2, "device": "0:52", "daemon_pid": 8, "start_ns": 100},
        {"mount_id": 3, "device": "0:53", "start_ns": 1},
    )
    times = [
        (9, SECOND), (9, 2 * SECOND - 1), (9, 2 * SECOND), (9, 5 * SECOND), (9, 5 * SECOND + 1),
        (9, 6 * SECOND), (9, 7 * SECOND), (8, 100), (8, 101), (7, 500), (9, 0),
    ]  # fmt: skip
    found = reloads(Journal(tuple(loaded(*each) for each in times)), mounted)
    assert found.select("time_ns", "pid", "mount_id").rows() == [
        (SECOND, 9, 0),
        (2 * SECOND, 9, 0),
        (5 * SECOND, 9, 0),
        (6 * SECOND, 9, 1),
        (7 * SECOND, 9, 1),
        (101, 8, 2),
    ]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (said("attributes_before", 3), said("attributes", 3),
         ": client 2.11.5.0 before and after, revision 3 before and after"),
        (said("attributes_before", 3), {**said("attributes", 4), "mountpoint": None}, ""),
        ({**said("attributes_before", 3), "device": "0:9"}, said("attributes", 4), ""),
        ({**said("attributes_before", 3), "attributes": {}}, said("attributes", 4),
         ": client 2.11.5.0 before and after, revision 4 before and after"),
        (said("attributes_before", 3), {**said("attributes", 4), "attributes": {}}, ""),
    ],
)  # fmt: skip
def test_what_a_reload_changed(before: dict[str, Any], after: dict[str, Any], words: str) -> None:
    found = reloads(Journal((loaded(9, 900), before, after)), mounts())
    assert found["detail"].to_list() == [f"daemon 9 loaded its code again from /lib/x.so{words}"]


def test_attributes_are_of_the_last_mount_of_a_device_manifests_of_their_own() -> None:
    journal = Journal((said("attributes_before", 3), said("attributes", 4)))
    both = rows(
        "mounts",
        {"mount_id": 0, "device": "0:50", "mountpoint": "/m", "daemon_pid": 9},
        {"mount_id": 1, "device": "0:50", "mountpoint": "/n", "daemon_pid": 8},
    )
    looked = frame(dict(LOOKED.schema), (0, HASH, 700), (0, HASH, 650), (1, ROOT, 800))
    seen = manifests((690, HASH, 7), (600, ROOT, 6))
    found = remounts(journal, both, looked, seen)
    assert found.select("time_ns", "kind", "pid", "mount_id", "detail").rows() == [
        (700, "remount", 9, 0, "/m: revision 6 before, 7 after"),
        (800, "remount", 8, 1, "/n: revision 3 before, 4 after"),
    ]
    later = frame(dict(LOOKED.schema), (0, HASH, 690), (0, ROOT, 600), (1, HASH, 1))
    assert remounts(journal, both, later, seen).select("time_ns", "mount_id").rows() == [
        (690, 0), (5000, 1),
    ]  # fmt: skip


def test_a_root_counts_from_when_its_manifest_was_there() -> None:
    journal = Journal((said("attributes_before", 2), said("attributes", 3)))
    assert revisions(journal, LOOKED, (700, HASH, 3)) == [(700, "/m: revision 2 before, 3 after")]
    assert revisions(journal, LOOKED, (701, HASH, 3))[0][0] == 800
    assert revisions(journal, LOOKED.reverse(), (650, ROOT, 3))[0][0] == 800
    assert revisions(Journal((said("attributes_before", 2),)), LOOKED) == []
    assert revisions(Journal((said("attributes", 2),)), LOOKED) == []
    early = Journal((said("attributes_before", 2), {**said("attributes", 3), "time_ns": 1}))
    assert revisions(early, LOOKED.clear())[0][0] == 1


def test_the_last_lines_of_a_device_count() -> None:
    lines = (said("attributes_before", 1), said("attributes_before", 2), said("attributes", 9))
    again = (said("attributes", 2), {**said("attributes", 5), "device": "0:51"})
    assert revisions(Journal((*lines, *again)), LOOKED) == []


def test_revisions_at_the_start() -> None:
    lines = (
        said("attributes_before", 3),
        said("attributes_before", 4),
        {**said("attributes_before", 5), "device": "0:51"},
        {**said("attributes_before", 6), "device": "0:52", "attributes": {"user.revision": "x"}},
        said("attributes", 9),
    )
    found = revisions_at_start(Journal(lines)).sort("device")
    assert found.rows() == [("0:50", 4), ("0:51", 5)]
