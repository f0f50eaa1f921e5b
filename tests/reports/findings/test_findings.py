from __future__ import annotations

from typing import Any

import pytest

from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import compute
from cvmprof.tests.reports.synthetic import (
    DAEMON,
    MODEL,
    MS,
    START,
    Rows,
    cold_run,
    run_of,
    sha1,
    tiny_rows,
    warm_run,
)


def of(rows: Rows, **changes: Any) -> list[Finding]:
    return findings(compute(gather(run_of(rows, **changes))))


def headlines(rows: Rows, **changes: Any) -> list[str]:
    return [finding.headline for finding in of(rows, **changes)]


def test_the_main_finding_says_how_much_waited_for_how_many_chunks_and_how() -> None:
    main = of(tiny_rows())[0]
    assert main.tone == "main"
    assert main.headline == "70 % of “load” waited for 2 chunks fetched one after another."
    assert main.meaning.startswith(
        "70.0 ms of 100 ms: first_byte 40.0 ms, transfer 30.0 ms, cpu 25.0 ms, unknown 5.00 ms."
    )


def test_time_in_the_page_cache_is_told_of_the_cpu_time() -> None:
    rows = tiny_rows()
    rows.rows["hits"][0] |= {"count": 312_000, "ns": 8 * MS, "end_ns": START + 55 * MS}
    meaning = of(rows)[0].meaning
    assert "cpu 25.0 ms (8.00 ms of it reading the page cache, 312,000 hits)," in meaning


def test_latency_and_bandwidth_are_told_apart() -> None:
    latency = (
        "Each chunk took 20.0 ms to its first byte and 15.0 ms to transfer (medians of 2), "
        "at 38.1 MiB/s."
    )
    (finding,) = [f for f in of(tiny_rows()) if f.headline == latency]
    assert finding.meaning == "Latency and bandwidth matter about equally."
    rows = tiny_rows()
    for download in rows.rows["downloads"]:
        download["last_byte_ns"] -= 10 * MS
    (finding,) = [f for f in of(rows) if "and 5.00 ms to transfer" in f.headline]
    assert finding.meaning.startswith("Latency, not bandwidth")
    rows = tiny_rows()
    for download in rows.rows["downloads"]:
        download["first_byte_ns"] -= 15 * MS
    (finding,) = [f for f in of(rows) if f.headline.startswith("Each chunk took 5.00 ms")]
    assert finding.meaning.startswith("Bandwidth more than latency")


def test_chunks_in_the_cache_at_start() -> None:
    assert "1 of 3 chunks was already in the client's cache at start." in headlines(tiny_rows())


def test_page_cache_explains_why_the_daemon_sees_so_little() -> None:
    rows = tiny_rows()
    rows.rows["operations"].clear()
    (finding,) = [f for f in of(rows) if "page cache" in f.headline]
    assert (
        finding.headline == "No read reached the daemon: all 98 came from the kernel's page cache."
    )
    assert "cvmfs_read seems to be called only once" in finding.meaning


def test_a_warm_run_says_that_nothing_waited_for_cvmfs() -> None:
    first = findings(compute(gather(warm_run())))[0]
    assert first.tone == "good"
    assert first.headline == "Nothing waited for CVMFS: no chunk had to be fetched."


def test_waits_for_fetches_that_bring_no_chunk_are_not_called_local() -> None:
    rows = tiny_rows()
    for fetch in rows.rows["fetches"]:
        fetch["outcome"] = "failed"
    expected = "70 % of “load” waited for CVMFS, mostly for fetches that brought no chunk."
    assert [line for line in headlines(rows) if line.startswith("70 %")] == [expected]


def test_waits_inside_the_daemon_are_not_waits_for_the_network() -> None:
    rows = tiny_rows()
    for segment in rows.rows["segments"]:
        if segment["cause"] == "first_byte":
            segment["cause"] = "cache_read"
    expected = "70 % of “load” waited for CVMFS, less than half of it for the network."
    assert headlines(rows)[0] == expected
    for segment in rows.rows["segments"]:
        if segment["cause"] == "transfer":
            segment["cause"] = "catalog"
    expected = "70 % of “load” waited for CVMFS, none of it for the network."
    assert headlines(rows)[0] == expected


def test_the_cold_run_of_the_example() -> None:
    first = findings(compute(gather(cold_run())))[0].headline
    assert first == "88 % of “load” waited for 17 chunks fetched one after another."


def test_overlapping_fetches_are_not_called_one_after_another() -> None:
    rows = tiny_rows()
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        start_ns=START + 10 * MS,
        end_ns=START + 95 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("other"),
        object_kind="chunk",
        outcome="downloaded",
    )
    rows.rows["segments"][4]["fetch_id"] = 2  # the load waits for it, too
    # 155 ms of fetching within 85 ms.
    assert (
        headlines(rows)[0] == "70 % of “load” waited for 3 chunks fetched 1.8 at a time on average."
    )


def test_what_limits_trust_comes_first() -> None:
    rows = tiny_rows()
    rows.add("losses", probe="operations", cause="ring full", count=1234)
    rows.add(
        "incidents",
        time_ns=START + 40 * MS,
        kind="crash",
        pid=DAEMON,
        signal=9,
        detail="cvmfs2 of models.example.org",
    )
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
    assert headlines(rows, complete=False, exit_status=3 << 8)[:5] == [
        "This run is incomplete: recording stopped before the command ended.",
        "1,234 events were lost.",
        "Process 900 died of signal 9, 40.0 ms after the start.",
        "1 file operation never ended.",
        "The command failed with exit code 3.",
    ]


@pytest.mark.parametrize(("share_ms", "said"), [(1, False), (5, True)])
def test_unknown_time_is_said_when_it_matters(share_ms: int, said: bool) -> None:
    rows = tiny_rows()
    rows.rows["segments"][-1]["start_ns"] += (5 - share_ms) * MS
    rows.rows["segments"][-2]["end_ns"] += (5 - share_ms) * MS
    found = f"{share_ms}.0 % of “load” could not be explained."
    assert (found in headlines(rows)) is said


def test_joined_and_failed_fetches_are_said() -> None:
    rows = tiny_rows()
    for number, outcome in ((2, "joined"), (3, "failed")):
        rows.add(
            "fetches",
            fetch_id=number,
            start_ns=START,
            end_ns=START + MS,
            pid=DAEMON,
            tid=DAEMON,
            object_hash=sha1("chunk 0"),
            object_kind="chunk",
            outcome=outcome,
        )
    found = headlines(rows)
    assert "1 fetch waited for a download that another thread had begun." in found
    failed = "1 fetch failed (unknown: 1), and 0 requests to servers brought no usable answer."
    assert failed in found


def test_an_empty_run_claims_nothing_about_time() -> None:
    assert headlines(Rows()) == []


def test_a_phase_answers_for_the_fetches_that_it_waited_for() -> None:
    rows = tiny_rows()
    # Another thread's download, which the load does not wait for.
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        start_ns=START + 10 * MS,
        end_ns=START + 95 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("other"),
        object_kind="chunk",
        outcome="downloaded",
    )
    expected = "70 % of “load” waited for 2 chunks fetched one after another."
    assert headlines(rows)[0] == expected


def test_a_wait_for_anothers_download_counts_as_that_download() -> None:
    rows = tiny_rows()
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        start_ns=START + 60 * MS,
        end_ns=START + 95 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("chunk 1"),
        object_kind="chunk",
        outcome="joined",
        joined_fetch_id=1,
    )
    for segment in rows.rows["segments"]:
        if segment.get("fetch_id") == 1:
            segment |= {"fetch_id": 2, "cause": "fetch_joined"}
    expected = "70 % of “load” waited for 2 chunks fetched one after another."
    assert headlines(rows)[0] == expected


def test_a_command_without_phases_is_one_phase() -> None:
    rows = tiny_rows()
    rows.rows["phases"].clear()
    expected = "70 % of “whole command” waited for 2 chunks fetched one after another."
    assert headlines(rows)[0] == expected


def test_what_was_not_observed_is_told_once_with_what_a_run_lacks() -> None:
    rows = tiny_rows()
    rows.rows["probes"].clear()
    for target in ("fuse_file_read_iter", "another"):
        rows.add(
            "probes",
            event="asynchronous read",
            family="none",
            target=target,
            hits=0,
            reason="this kernel is built without kprobes",
        )
    for family, target in (("none", "no symbol"), ("uprobe", "libcvmfs")):
        rows.add("probes", event="daemon call", family=family, target=target, hits=0, reason="x")
    (finding,) = [each for each in of(rows) if "could not be observed" in each.headline]
    assert finding.headline == "1 kind of event could not be observed here."
    assert finding.meaning.startswith(
        "asynchronous read: this kernel is built without kprobes; so reads by io_uring and AIO"
    )
    assert finding.meaning.endswith("cvmprof doctor says how to get them.")


def test_unrelated_files_that_share_a_lock_are_named() -> None:
    rows = tiny_rows()
    assert not [line for line in headlines(rows) if "lock" in line]
    rows.add("files", file_id=9, mount_id=0, inode=99, generation=0, path="/cvmfs/other")
    for unique, node in ((901, 17), (902, 99)):
        rows.add(
            "fuse_requests",
            mount_id=0,
            unique=unique,
            opcode=15,
            node_id=node,
            pid=1,
            tid=1,
            error=0,
        )
    waited = {"mount_id": 0, "unique": 901, "pid": DAEMON, "tid": 1, "holder_tid": 2}
    for start, end, kind in ((0, 30, "collision"), (30, 45, "collision"), (50, 60, "same_handle")):
        rows.add(
            "lock_waits",
            **waited,
            start_ns=START + start * MS,
            end_ns=START + end * MS,
            holder_unique=902,
            kind=kind,
        )
    (finding,) = [found for found in of(rows) if "lock" in found.headline]
    assert finding.headline == "1 read waited 45.0 ms for a lock that another open file held."
    assert finding.meaning.endswith(f"The longest: {MODEL} waited 30.0 ms for /cvmfs/other.")


def test_what_the_client_fetched_for_no_request_is_told() -> None:
    rows = tiny_rows()
    rows.rows["fetches"][0]["unique"] = None
    headline = "1 object was fetched by the client without a request."
    assert headline in headlines(rows)
    rows.rows["fetches"][0]["unique"] = 2
    assert headline not in headlines(rows)


@pytest.mark.parametrize("cause", ["daemon", "fetch"])
def test_time_that_stays_undivided_has_its_reason(cause: str) -> None:
    rows = tiny_rows()
    headline = f"of “load” counts as {cause}, not divided further."
    assert not [line for line in headlines(rows) if line.endswith(headline)]
    for segment in rows.rows["segments"]:
        if segment["cause"] == "transfer":
            segment["cause"] = cause
    (finding,) = [found for found in of(rows) if found.headline.endswith(headline)]
    assert finding.headline.startswith("30.0 ms") and finding.meaning
