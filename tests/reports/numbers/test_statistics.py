from __future__ import annotations

import json

import pytest

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import Statistics, compute
from cvmprof.tests.reports.synthetic import (
    DAEMON,
    MAIN,
    MIB,
    MODEL,
    MS,
    PID,
    START,
    Rows,
    run_of,
    sha1,
    tiny_rows,
    warm_run,
)


def of(rows: Rows) -> Statistics:
    return compute(gather(run_of(rows)))


def test_phase_is_its_threads_tiling() -> None:
    (load,) = of(tiny_rows()).phases
    assert load.name == "load"
    assert load.duration_ns == 100 * MS
    assert load.causes_ns == {
        "first_byte": 40 * MS,
        "transfer": 30 * MS,
        "cpu": 25 * MS,
        "unknown": 5 * MS,
    }
    assert load.cvmfs_ns == 70 * MS


def test_fetches_one_after_another() -> None:
    fetches = of(tiny_rows()).fetches
    assert (fetches.downloaded, fetches.chunks_downloaded, fetches.joined) == (2, 2, 0)
    assert (fetches.summed_ns, fetches.busy_ns, fetches.most_at_once) == (70 * MS, 70 * MS, 1)
    assert fetches.mean_at_once == 1.0
    assert fetches.unpacked_bytes == 2 * MIB


def test_overlapping_fetches() -> None:
    rows = tiny_rows()
    # A third, from 20 to 55 ms: with the first for 25 ms, alone for 10 ms.
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        start_ns=START + 20 * MS,
        end_ns=START + 55 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("other"),
        object_kind="chunk",
        outcome="downloaded",
        unpacked_bytes=MIB,
    )
    fetches = of(rows).fetches
    assert (fetches.summed_ns, fetches.busy_ns, fetches.most_at_once) == (105 * MS, 80 * MS, 2)


def test_a_fetch_that_begins_as_another_ends_does_not_overlap_it() -> None:
    rows = tiny_rows()
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        start_ns=START + 45 * MS,
        end_ns=START + 60 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("other"),
        object_kind="chunk",
        outcome="downloaded",
    )
    assert of(rows).fetches.most_at_once == 1


def test_joined_and_catalogue_fetches_are_not_downloaded_chunks() -> None:
    rows = tiny_rows()
    rows.add(
        "fetches",
        fetch_id=2,
        start_ns=START,
        end_ns=START + MS,
        pid=DAEMON,
        tid=DAEMON,
        object_hash=sha1("c"),
        object_kind="catalog",
        outcome="downloaded",
    )
    rows.add(
        "fetches",
        fetch_id=3,
        start_ns=START + 10 * MS,
        end_ns=START + 40 * MS,
        pid=DAEMON,
        tid=DAEMON,
        object_hash=sha1("chunk 0"),
        object_kind="chunk",
        outcome="joined",
        joined_fetch_id=0,
    )
    rows.add(
        "fetches",
        fetch_id=4,
        start_ns=START + 99 * MS,
        pid=DAEMON,
        tid=DAEMON,
        object_hash=sha1("chunk 9"),
        object_kind="chunk",
    )
    fetches = of(rows).fetches
    assert (fetches.downloaded, fetches.chunks_downloaded) == (3, 2)
    assert (fetches.joined, fetches.unfinished, fetches.failed) == (1, 1, 0)
    assert fetches.most_at_once == 1


def test_slowest_chunks_have_their_parts() -> None:
    rows = tiny_rows()
    rows.rows["fetches"][1]["end_ns"] += 2 * MS
    first, second = of(rows).slowest_chunks
    assert (first.fetch_id, second.fetch_id) == (1, 0)
    assert (first.path, first.offset_bytes, first.size_bytes) == (MODEL, MIB, MIB)
    assert first.object_hash == sha1("chunk 1")
    assert first.duration_ns == 37 * MS
    assert first.parts_ns == {"before_request": 0, "first_byte": 20 * MS, "transfer": 15 * MS}
    assert first.wire_bytes == 600_000


def test_latency_medians() -> None:
    latency = of(tiny_rows()).latency
    assert (latency.first_byte_ns, latency.transfer_ns) == (20 * MS, 15 * MS)
    assert latency.bytes_per_s == 40_000_000
    assert (latency.downloads, latency.reused_connections) == (2, 1)


def test_a_download_without_times_leaves_the_rate_unsaid() -> None:
    rows = tiny_rows()
    for download in rows.rows["downloads"]:
        download["last_byte_ns"] = download["first_byte_ns"]
    latency = of(rows).latency
    assert (latency.transfer_ns, latency.bytes_per_s) == (0, None)


def test_counts_and_chunks() -> None:
    statistics = of(tiny_rows())
    assert statistics.counts["operations_read"] == 2
    assert statistics.counts["page_cache_hits"] == 98
    assert statistics.counts["page_cache_ns"] == MS
    assert statistics.counts["target_threads"] == 4
    assert (statistics.chunks_known, statistics.chunks_cached_at_start) == (3, 1)
    assert statistics.bytes.over_http == 1_200_000


def test_operations_that_never_ended_are_named() -> None:
    rows = tiny_rows()
    rows.add(
        "operations",
        op_id=9,
        kind="read",
        start_ns=START + 97 * MS,
        pid=100,
        tid=101,
        file_id=0,
        offset_bytes=77,
        size_bytes=1,
        result=0,
    )
    assert of(rows).unfinished == (f"read of {MODEL} by thread 101 at offset 77",)


def test_stalls_lead_to_what_their_thread_waited_for() -> None:
    rows = tiny_rows()
    rows.add(
        "stalls",
        stall_id=0,
        device="cpu",
        start_ns=START + 20 * MS,
        end_ns=START + 50 * MS,
        waiting_tid=101,
    )
    stalls = of(rows).stalls
    assert (stalls.count, stalls.total_ns) == (1, 30 * MS)
    expected = {"transfer": 15 * MS, "first_byte": 10 * MS, "cpu": 5 * MS}
    assert stalls.causes_ns == expected
    assert stalls.longest[0].causes_ns == expected


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
        "chunks_cached_at_start",
    } <= set(written)
    assert written["phases"][0]["name"] == "load"
    assert written["fetches"]["mean_at_once"] == 0.0


def test_an_empty_run_has_statistics() -> None:
    statistics = of(Rows())
    assert statistics.phases == ()
    assert statistics.slowest_chunks == ()
    assert statistics.fetches.mean_at_once == 0.0


def test_many_phases_stand_together_by_name() -> None:
    rows = tiny_rows()
    rows.rows["phases"] = [
        {
            "name": "step",
            "start_ns": START + n * MS,
            "end_ns": START + (n + 1) * MS,
            "pid": 100,
            "tid": 101,
        }
        for n in range(100)
    ]
    (steps,) = of(rows).phases
    assert (steps.title, steps.times, steps.duration_ns) == ("step ×100", 100, 100 * MS)
    assert steps.causes_ns["transfer"] == 30 * MS
    assert steps.fetches.chunks_downloaded == 2


def test_page_cache_hits_within_the_cpu_time_of_a_phase() -> None:
    """Of a run of 10 ms from 55 to 65, half the time is on the CPU: at 60 a wait begins."""
    rows = tiny_rows()
    rows.add(
        "hits",
        pid=PID,
        tid=MAIN,
        file_id=0,
        kind="read",
        start_ns=START + 55 * MS,
        end_ns=START + 65 * MS,
        count=1000,
        bytes=1,
        ns=8 * MS,
        max_ns=MS,
    )
    rows.add(
        "hits",
        pid=PID,
        tid=MAIN,
        file_id=0,
        kind="read",
        start_ns=START + 2 * MS,
        end_ns=START + 4 * MS,
        count=10,
        bytes=1,
        ns=MS,
        max_ns=MS,
    )
    rows.add("phases", name="first", start_ns=START, end_ns=START + 3 * MS, pid=PID, tid=MAIN)
    phases = {phase.name: phase for phase in of(rows).phases}
    load, first = phases["load"], phases["first"]
    assert (load.page_cache_hits, load.page_cache_ns) == (1108, 6 * MS)
    assert (first.page_cache_hits, first.page_cache_ns) == (5, MS // 2)


@pytest.mark.parametrize("command", [None, "python3", 7])
def test_a_command_that_is_not_told(command: object) -> None:
    run = run_of(tiny_rows())
    untold = type(run)({**run.meta, "command": command}, run.tables)
    assert compute(gather(untold)).command == ()
