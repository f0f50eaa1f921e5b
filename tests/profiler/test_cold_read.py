"""From a spool to tables: two threads read one cold chunk; every number is literal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from cvmprof.probes import events
from cvmprof.profiler.attribution.causes import operation_classes, read_causes
from cvmprof.profiler.finalise import finalise

if TYPE_CHECKING:
    from cvmprof.profiler.run.opened import Run
    from tests.profiler.conftest import SpoolWriter

CHUNK = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def run(cold_read: SpoolWriter) -> Run:
    return finalise(cold_read.run)


def test_a_request_in_the_ring_without_end_is_one_in_flight(cold_read: SpoolWriter) -> None:
    """As the recorder writes one whose place another took: the kernel dropped it silently."""
    cold_read.ring(
        events.REQUEST,
        queued_ns=2550,
        unique=6,
        node_id=7,
        size=4096,
        dev=50,
        pid=100,
        tid=101,
        op_start_ns=2400,
        opcode=15,
    )
    tables = finalise(cold_read.run).tables
    requests = tables["fuse_requests"].filter(pl.col("end_ns").is_null())
    assert requests.select("unique", "queued_ns", "served_ns", "end_ns", "op_id").rows() == [
        (6, 2550, None, None, 1)
    ]
    assert tables["waits"].select("op_id", "unique").rows() == [(0, 2), (1, 4)]


def segments_of(run: Run, tid: int) -> list[tuple[object, ...]]:
    rows = run.tables["segments"].filter(tid=tid).sort("start_ns")
    return rows.select("start_ns", "end_ns", "cause", "unique", "fetch_id", "via_tid").rows()


def test_tiling_of_the_thread_that_caused_the_fetch(run: Run) -> None:
    assert segments_of(run, 100) == [
        (1100, 2000, "cpu", None, None, None),
        (2000, 2200, "copy", None, None, None),
        (2200, 2500, "fuse_queue", 2, None, 201),
        (2500, 2700, "cache_read", 2, None, 201),
        (2700, 2720, "cache_read", 2, 0, 201),
        (2720, 2750, "cache_write", 2, 0, 201),
        (2750, 2800, "fetch_queue", 2, 0, 201),
        (2800, 3000, "connect", 2, 0, 201),
        (3000, 4000, "first_byte", 2, 0, 201),
        (4000, 6000, "transfer", 2, 0, 201),
        (6000, 6900, "decompress", 2, 0, 201),
        (6900, 7200, "cache_write", 2, 0, 201),
        (7200, 7500, "runqueue", 2, 0, 201),
        (7500, 7800, "cache_write", 2, 0, 201),
        (7800, 7900, "cache_read", 2, None, 201),
        (7900, 8000, "reply", 2, None, 201),
        (8000, 8100, "reply", 2, None, None),
        (8100, 9000, "copy", None, None, None),
        (9000, 30000, "cpu", None, None, None),
    ]


def test_tiling_of_the_thread_that_waits_for_the_others_fetch(run: Run) -> None:
    assert segments_of(run, 101) == [
        (1100, 2400, "cpu", None, None, None),
        (2400, 2600, "copy", None, None, None),
        (2600, 3500, "fuse_queue", 4, None, 202),
        (3500, 4000, "first_byte", 4, 0, 202),
        (4000, 6000, "transfer", 4, 0, 202),
        (6000, 6900, "decompress", 4, 0, 202),
        (6900, 7200, "cache_write", 4, 0, 202),
        (7200, 7500, "runqueue", 4, 0, 202),
        (7500, 7800, "cache_write", 4, 0, 202),
        (7800, 8150, "cache_read", 4, None, 202),
        (8150, 8200, "reply", 4, None, 202),
        (8200, 8300, "reply", 4, None, None),
        (8300, 8600, "copy", None, None, None),
        (8600, 20000, "cpu", None, None, None),
    ]


def test_the_fetch_leads_to_call_file_chunk_and_download(run: Run) -> None:
    fetch = run.tables["fetches"].row(0, named=True)
    call = run.tables["daemon_calls"].filter(call_id=fetch["call_id"]).row(0, named=True)
    assert (call["function"], call["unique"], call["result"]) == ("Fetcher::Fetch", 2, 33)
    assert (fetch["object_hash"], fetch["object_kind"], fetch["outcome"]) == (
        CHUNK,
        "chunk",
        "downloaded",
    )
    assert (fetch["offset_bytes"], fetch["unpacked_bytes"]) == (0, 6000)
    file = run.tables["files"].filter(file_id=fetch["file_id"]).row(0, named=True)
    assert file["path"] == "/cvmfs/models.lab.test/model.onnx"
    assert (file["size_bytes"], file["cached_bytes_at_start"]) == (8000, 0)


def test_the_download(run: Run) -> None:
    download = run.tables["downloads"].row(0, named=True)
    assert download == {
        "download_id": 0,
        "fetch_id": 0,
        "mount_id": 0,
        "object_hash": CHUNK,
        "url_path": f"/cvmfs/models.lab.test/data/01/{CHUNK[2:]}P",
        "host": "server:8000",
        "proxy": None,
        "connection_id": 0,
        "local": None,
        "remote": None,
        "encrypted": False,
        "reused": False,
        "attempt": 1,
        "status": 200,
        "queued_ns": 2750,
        "connect_ns": 2800,
        "sent_ns": 3000,
        "first_byte_ns": 4000,
        "last_byte_ns": 7000,
        "committed_ns": 7700,
        "closed_ns": None,
        "wire_bytes": 6200,
        "header_bytes": None,
    }


def test_requests_join_operations_and_daemon(run: Run) -> None:
    requests = run.tables["fuse_requests"]
    assert requests.select("unique", "op_id", "served_ns", "offset_bytes").rows() == [
        (2, 0, 2500, 0),
        (4, 1, 3500, 4096),
    ]
    waits = run.tables["waits"].sort("op_id")
    assert waits.rows() == [(0, 0, 2, 2200, 8100, "queued"), (1, 0, 4, 2600, 8300, "queued")]


def test_calls_nest(run: Run) -> None:
    calls = run.tables["daemon_calls"]
    assert calls.select("function", "parent_id", "result").rows() == [
        ("cvmfs_read", None, None),
        ("Fetcher::Fetch", 0, 33),
        ("CacheManager::Open", 1, -2),
        ("DownloadManager::Fetch", 1, 0),
        ("cvmfs_read", None, None),
    ]
    assert run.tables["cache_lookups"].select("object_hash", "hit").rows() == [(CHUNK, False)]


def test_chunks_know_what_the_cache_held(run: Run) -> None:
    chunks = run.tables["chunks"].sort("index")
    assert chunks.select("index", "offset_bytes", "size_bytes", "cached_at_start").rows() == [
        (0, 0, 6000, False),
        (1, 6000, 2000, None),
    ]


def test_the_mount_says_what_it_is(run: Run) -> None:
    mount = run.tables["mounts"].row(0, named=True)
    assert mount == {
        "mount_id": 0,
        "device": "0:50",
        "mountpoint": "/cvmfs/models.lab.test",
        "filesystem": "fuse",
        "repository": "models.lab.test",
        "revision": 3,
        "client_version": "2.12.0.0",
        "daemon_pid": 200,
        "revision_at_start": None,
        "cache_manager": "posix",
        "cache_path": "/cache",
        "start_ns": None,
        "end_ns": None,
    }


def test_causes_and_classes_of_the_reads(run: Run) -> None:
    tables = run.tables
    causes = read_causes(tables["segments"], tables["operations"])
    sums = causes.group_by("op_id").agg(pl.col("ns").sum()).sort("op_id")
    assert sums.rows() == [(0, 7000), (1, 6200)]
    assert causes.filter(op_id=0, cause="transfer")["ns"].to_list() == [2000]
    classes = operation_classes(tables["segments"], tables["operations"])
    assert classes.rows() == [(0, "http"), (1, "http")]


def test_meta(run: Run) -> None:
    assert run.is_complete
    assert (run.meta["start_ns"], run.meta["stop_ns"], run.meta["exit_status"]) == (1000, 30000, 0)
    assert (run.meta["utc_offset_ns"], run.meta["command"]) == (5, ["cat", "model"])
    assert run.meta["rows"]["segments"] == 33
