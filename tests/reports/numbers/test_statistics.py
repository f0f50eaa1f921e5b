from __future__ import annotations

import json
from typing import Any

import pytest

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.failures import Failures
from cvmprof.reports.numbers.log import Imported
from cvmprof.reports.numbers.statistics import Outcome, compute
from cvmprof.tests.reports.rows import download, fetch, fetches, phase, quiet, statistics_of, tile
from cvmprof.tests.reports.synthetic import (
    MAIN,
    MS,
    PID,
    Rows,
    run_of,
    tiny_rows,
    warm_run,
)


def test_counts_and_chunks() -> None:
    statistics = statistics_of(tiny_rows())
    assert statistics.counts["operations_read"] == 2
    assert statistics.counts["page_cache_hits"] == 98
    assert statistics.counts["page_cache_ns"] == MS
    assert statistics.counts["target_threads"] == 4
    assert (statistics.chunks_known, statistics.objects_cached_at_start) == (3, 1)
    assert statistics.bytes.over_http == 1_200_000


def test_json_is_plain_and_keeps_the_names() -> None:
    written = json.loads(json.dumps(compute(gather(warm_run())).as_json()))
    assert {
        "command",
        "duration_ns",
        "outcome",
        "phases",
        "fetches",
        "bytes",
        "latency",
        "stalls",
        "losses",
        "lost",
        "counts",
        "chunks_known",
        "objects_cached_at_start",
    } <= set(written)
    assert written["phases"][0]["name"] == "load"
    assert written["fetches"]["mean_at_once"] == 0.0


def test_an_empty_run_has_statistics() -> None:
    statistics = statistics_of(Rows())
    assert statistics.phases == ()
    assert statistics.slowest_chunks == ()
    assert statistics.fetches.mean_at_once == 0.0


@pytest.mark.parametrize("command", [None, "python3", 7])
def test_a_command_that_is_not_told(command: object) -> None:
    run = run_of(tiny_rows())
    untold = type(run)({**run.meta, "command": command}, run.tables)
    assert compute(gather(untold)).command == ()


@pytest.mark.parametrize(("meta", "outcome"), [
    ({"exit_status": 0, "complete": True}, Outcome(0, None, complete=True)),
    ({"exit_status": 3 << 8, "complete": True}, Outcome(3, None, complete=True)),
    ({"exit_status": 1, "complete": True}, Outcome(None, 1, complete=True)),
    ({"exit_status": 9, "complete": True}, Outcome(None, 9, complete=True)),
    ({"exit_status": None, "complete": False}, Outcome(None, None, complete=False)),
])  # fmt: skip
def test_how_the_command_ended(meta: dict[str, Any], outcome: Outcome) -> None:
    assert compute(gather(run_of(Rows(), **meta))).outcome == outcome


def test_what_a_run_does_not_say() -> None:
    bare = type(run_of(Rows()))({}, Rows().frames())
    found = compute(gather(bare))
    assert found.outcome == Outcome(None, None, complete=False)
    assert (found.command, found.started_utc_ns, found.kernel) == ((), None, "")
    assert found.cvmprof_version == ""
    assert (found.start_ns, found.duration_ns) == (0, 1)


def test_when_it_started() -> None:
    rows = Rows()
    tile(rows, 100, 150, "cpu")
    found = compute(gather(run_of(rows, utc_offset_ns=1000)))
    assert (found.started_utc_ns, found.start_ns, found.duration_ns) == (1100, 100, 50)
    assert compute(gather(run_of(rows, utc_offset_ns=0))).started_utc_ns == 100


def test_chunks_by_what_their_first_lookup_found() -> None:
    rows = Rows()
    for index, cached in enumerate((True, False, False, None, None, None, None)):
        rows.add("chunks", file_id=0, index=index, object_hash=str(index), offset_bytes=0,
                 size_bytes=1, cached_at_start=cached)  # fmt: skip
    found = statistics_of(rows)
    assert found.chunks_known == 7
    assert (found.objects_looked_up, found.objects_cached_at_start) == (3, 1)


def test_files_with_the_same_content_are_one_object_of_their_mount() -> None:
    rows = Rows()
    for mount in (0, 1):
        for file in range(12 * mount, 12 * mount + 12):
            rows.add("files", file_id=file, mount_id=mount, inode=file, generation=0)
            rows.add("chunks", file_id=file, index=0, object_hash="a", offset_bytes=0,
                     size_bytes=1, cached_at_start=mount == 1)  # fmt: skip
    found = statistics_of(rows)
    assert found.chunks_known == 24
    assert (found.objects_looked_up, found.objects_cached_at_start) == (2, 1)


def test_bytes_of_a_run() -> None:
    rows = Rows()
    download(rows, 0, None, None, None, None)
    download(rows, 1, None, None, None, None)
    rows.rows["downloads"][1]["wire_bytes"] = None
    fetch(rows, 0, 1, unpacked_bytes=500)
    rows.add("hits", pid=PID, tid=MAIN, file_id=0, kind="read", start_ns=0, end_ns=1, count=1,
             bytes=9, ns=1, max_ns=1)  # fmt: skip
    found = statistics_of(rows).bytes
    assert (found.over_http, found.unpacked, found.by_source) == (77, 500, {"page cache": 9})


def test_a_hundred_incidents_the_first_ones() -> None:
    rows = Rows()
    for time in range(120, 0, -1):
        rows.add("incidents", time_ns=time, kind="mount", detail="")
    assert [each["time_ns"] for each in statistics_of(rows).incidents] == list(range(1, 101))


def test_only_what_was_lost_is_a_loss() -> None:
    rows = Rows()
    for probe, count in (("a", 0), ("b", 1), ("c", 4)):
        rows.add("losses", probe=probe, cause="full", count=count)
    found = statistics_of(rows)
    assert [loss["probe"] for loss in found.losses] == ["b", "c"]
    assert found.lost == 5


def test_other_tables_are_handed_on() -> None:
    rows = Rows()
    rows.add("probes", event="e", family="none", target="", hits=0)
    rows.add("mounts", mount_id=4, device="0:1")
    rows.add("reconciliation", mount_id=4, quantity="objects", in_flight=0,
             difference=2)  # fmt: skip
    fetch(rows, 0, 1, outcome="failed", unique=None)
    found = statistics_of(rows)
    assert [each["event"] for each in found.probes] == ["e"]
    assert [each["mount_id"] for each in found.mounts] == [4]
    assert [each["difference"] for each in found.reconciliation] == [2]
    assert found.failures == Failures({"unknown": 1}, {}, 0, 0, 0)
    assert found.fetched_for_no_request == 1


def test_of_an_imported_log_no_time_is_said() -> None:
    rows = Rows()
    fetch(rows, 0, 10)
    fetch(rows, 5, 10)
    found = compute(gather(run_of(rows, imported={"kind": "debug log"})))
    assert isinstance(found.imported, Imported)
    assert found.fetches == fetches(downloaded=2, chunks_downloaded=2, unsized=2)
    assert found.slowest_chunks == ()
    recorded = statistics_of(rows)
    assert (recorded.imported, recorded.fetches.summed_ns) == (None, 15)
    assert len(recorded.slowest_chunks) == 2


def test_json_has_what_is_derived() -> None:
    shown = quiet(
        fetches=fetches(summed_ns=30, busy_ns=20),
        phases=(phase("a", 10, transfer=3, cpu=4), phase("b", 10, daemon=5)),
        losses=({"probe": "p", "cause": "c", "count": 2}, {"probe": "q", "cause": "c", "count": 3}),
    )  # fmt: skip
    written = shown.as_json()
    assert (written["lost"], written["fetches"]["mean_at_once"]) == (5, 1.5)
    nested = (written["command_time"], *written["phases"], written["of_mounts"])
    assert [each["fetches"]["mean_at_once"] for each in nested] == [0.0] * 4
    assert [each["cvmfs_ns"] for each in written["phases"]] == [3, 5]
    assert [each["name"] for each in written["phases"]] == ["a", "b"]
