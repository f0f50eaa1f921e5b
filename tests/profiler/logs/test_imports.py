"""Runs made from a client's logs: the same tables, with nothing in them that is not in the log."""

from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from cvmprof.errors import CvmprofError
from cvmprof.profiler.logs import log_blocks
from cvmprof.profiler.logs.imports import import_log
from cvmprof.profiler.run.opened import Run
from cvmprof.profiler.tables import TABLES

from .client_logs import HOST, REPOSITORY, DebugLogWriter, object_hash, trace_line

SECOND = 1_000_000_000
MIB = 1 << 20
PATH, INODE = "/models/model.bin", 259


@pytest.fixture
def log() -> DebugLogWriter:
    writer = DebugLogWriter()
    writer.begin()
    writer.know(INODE, PATH)
    return writer


def imported(text: str | bytes, directory: Path, timezone: str | None = None) -> Run:
    path = directory / "client.log"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_log(path, directory / "run.cvmprof", "1.2.3", timezone)


def seconds(run: Run, table: str, column: str) -> list[float | None]:
    return [None if ns is None else ns / SECOND for ns in run.tables[table][column]]


def test_a_cold_read_is_in_order(log: DebugLogWriter, tmp_path: Path) -> None:
    log.call(f"open on inode: {INODE}")
    for number in range(17):
        log.read(INODE, MIB, number * MIB)
        log.fetch(number, PATH, took_s=number % 3)
    run = imported(log.text(), tmp_path)
    hashes = [object_hash(number) for number in range(17)]
    fetches, downloads = run.tables["fetches"], run.tables["downloads"]
    assert fetches["object_hash"].to_list() == downloads["object_hash"].to_list() == hashes
    assert set(fetches["object_kind"]) == {"chunk"}
    assert set(fetches["outcome"]) == {"downloaded"}
    assert fetches["download_id"].to_list() == downloads["download_id"].to_list()
    assert set(downloads["status"]) == {200}
    assert set(downloads["host"]) == {HOST}
    assert downloads["url_path"][0].startswith(f"/cvmfs/{REPOSITORY}/data/")
    assert downloads["proxy"].null_count() == 17
    lookups = run.tables["cache_lookups"]
    assert lookups["object_hash"].to_list() == [each for each in hashes for _ in range(2)]
    assert not lookups["hit"].any()
    assert run.tables["daemon_calls"]["function"].to_list() == ["cvmfs_open", *["cvmfs_read"] * 17]
    assert set(run.tables["daemon_calls"]["file_id"]) == set(fetches["file_id"])


def test_columns_that_the_log_lacks_are_null(log: DebugLogWriter, tmp_path: Path) -> None:
    log.read(INODE, MIB, 0)
    log.fetch(1, PATH)
    run = imported(log.text(), tmp_path)
    downloads, calls = run.tables["downloads"].row(0, named=True), run.tables["daemon_calls"]
    unknown = ("connection_id", "reused", "queued_ns", "connect_ns", "first_byte_ns", "wire_bytes")
    assert all(downloads[name] is None for name in unknown)
    assert calls["end_ns"].null_count() == calls["unique"].null_count() == 1
    assert run.tables["fetches"].select("call_id", "offset_bytes", "unpacked_bytes").row(0) == (
        None,
        None,
        None,
    )
    empty = {"operations", "hits", "fuse_requests", "waits", "tasks", "blocked", "segments"}
    assert {table.name for table in TABLES if run.tables[table.name].is_empty()} >= empty


def test_meta_has_the_log_that_the_run_was_made_from(log: DebugLogWriter, tmp_path: Path) -> None:
    log.wait(7)
    log.call(f"open on inode: {INODE}")
    run = imported(log.text(), tmp_path)
    assert run.meta["imported"] == {
        "kind": "debug log",
        "file": "client.log",
        "precision_ns": SECOND,
        "lines": 7,
        "bad_lines": 0,
    }
    assert run.is_complete
    begin = 1772366398  # 2026-03-01 11:59:58 UTC
    assert run.meta["utc_offset_ns"] == begin * SECOND
    assert seconds(run, "daemon_calls", "start_ns") == [7]
    assert run.meta["stop_ns"] == 8 * SECOND
    mount = run.tables["mounts"].row(0, named=True)
    assert (mount["repository"], mount["mountpoint"]) == (REPOSITORY, None)
    assert run.tables["files"].select("path", "inode").rows() == [(PATH, INODE)]


def test_times_are_whole_seconds(log: DebugLogWriter, tmp_path: Path) -> None:
    log.fetch(1, PATH, took_s=3)
    run = imported(log.text(), tmp_path)
    assert run.tables["fetches"].select("start_ns", "end_ns").row(0) == (0, 3 * SECOND)
    assert run.tables["downloads"].select("sent_ns", "last_byte_ns", "committed_ns").row(0) == (
        0,
        3 * SECOND,
        3 * SECOND,
    )


def test_fetches_of_several_threads_are_distinguished(log: DebugLogWriter, tmp_path: Path) -> None:
    for number in (1, 2):
        log.miss(number, PATH)
        log.ask(number)
        log.wait(1)
    log.answer(200)  # of which?
    log.verify(2)
    log.finish(2)
    log.wait(1)
    log.answer(200)  # of the first, but the log does not say so
    log.verify(1)
    log.finish(1)
    log.fetch(3, PATH)
    run = imported(log.text(), tmp_path)
    assert seconds(run, "fetches", "start_ns") == [0, 1, 3]
    assert seconds(run, "fetches", "end_ns") == [3, 2, 4]
    assert run.tables["downloads"]["status"].to_list() == [None, None, 200]


def test_attempts_failures_and_other_objects(log: DebugLogWriter, tmp_path: Path) -> None:
    log.miss(1, PATH)
    for host, error in (("a:1", 22), ("b:2", 0)):
        log.ask(1, host=host)
        log.answer(500 if error else 200)
        log.verify(1, error, proxy="http://squid:3128")
    log.finish(1)
    log.miss(2, PATH)
    log.ask(2)
    log.verify(2, error=28)
    log.fail(2, PATH)
    log.fetch(3, f"file catalog at {REPOSITORY}:/ (x)", suffix="C")
    log.fetch(4, "/whole.txt", suffix="")
    log.miss(5, PATH)
    run = imported(log.text(), tmp_path)
    fetches, downloads = run.tables["fetches"], run.tables["downloads"]
    outcomes = ["downloaded", "failed", "downloaded", "downloaded", None]
    assert fetches["outcome"].to_list() == outcomes
    assert fetches["object_kind"].to_list() == ["chunk", "chunk", "catalog", "file", "chunk"]
    assert fetches["download_id"].to_list() == [1, 2, 3, 4, None]
    assert downloads["attempt"].to_list() == [1, 2, 1, 1, 1]
    assert downloads["host"].to_list()[:3] == ["a:1", "b:2", HOST]
    assert downloads["status"].to_list() == [500, 200, None, 200, 200]
    assert downloads["proxy"].to_list()[:3] == ["http://squid:3128", "http://squid:3128", None]
    assert [ns is None for ns in downloads["committed_ns"]] == [True, False, True, False, False]
    paths = dict(run.tables["files"].select("file_id", "path").iter_rows())
    of_fetches = [paths.get(number) for number in fetches["file_id"]]
    assert of_fetches == [PATH, PATH, None, "/whole.txt", PATH]


def test_a_log_that_begins_in_the_middle(log: DebugLogWriter, tmp_path: Path) -> None:
    log.verify(1)
    log.finish(1)
    log.wait(1)
    log.fetch(1, PATH)
    run = imported(log.text(), tmp_path)
    assert seconds(run, "fetches", "end_ns") == [2]
    assert run.tables["downloads"].height == 1


def test_waits_for_another_threads_download_are_counted(
    log: DebugLogWriter, tmp_path: Path
) -> None:
    """The lines do not name the object: no fetch is made up."""
    log.fetch(1, PATH)
    log.say("cache", f"received from another thread fd 7 for {PATH}")
    run = imported(log.text(), tmp_path)
    assert run.tables["fetches"].height == 1
    (row,) = run.tables["losses"].rows()
    assert row == ("debug log", "a wait for an object that the log does not name", 1)


def test_reads_show_where_the_file_was_touched(log: DebugLogWriter, tmp_path: Path) -> None:
    for offset in (0, MIB // 2, 5 * MIB):
        log.read(INODE, MIB // 2, offset)
    log.wait(1)
    log.read(INODE, MIB // 2, 0)
    run = imported(log.text(), tmp_path)
    rows = run.tables["touches"].select("start_ns", "granule", "bytes_read").rows()
    assert rows == [(0, 0, MIB), (0, 5, MIB // 2), (SECOND, 0, MIB // 2)]


def test_offsets_that_lost_their_upper_half_are_left_out(
    log: DebugLogWriter, tmp_path: Path
) -> None:
    other = INODE + 1
    log.know(other, "/small.bin")
    for offset in range(0, 5 << 30, 1 << 30):
        log.read(INODE, MIB, offset)
    log.read(other, MIB, 0)
    run = imported(log.text(), tmp_path)
    (small,) = run.tables["files"].filter(path="/small.bin")["file_id"]
    assert run.tables["touches"]["file_id"].to_list() == [small]
    assert run.tables["daemon_calls"].height == 6


def test_evictions_are_incidents(log: DebugLogWriter, tmp_path: Path) -> None:
    log.say("quota", f"lru cleanup {object_hash(1)}, new gauge 12")
    (row,) = imported(log.text(), tmp_path).tables["incidents"].rows(named=True)
    assert row["kind"] == "eviction"
    assert object_hash(1) in row["detail"]


def test_bad_lines_are_counted_and_skipped(log: DebugLogWriter, tmp_path: Path) -> None:
    log.fetch(1, PATH)
    log.lines.append("no line of a log\n")
    log.lines.append("\udcff\udcfe\n".encode("utf-8", "surrogateescape").decode("latin-1"))
    log.say("cvmfs", f"cvmfs_open on inode: {INODE}")
    log.lines.append("(cvmfs) a line that is cut o\n")
    log.fetch(2, PATH)
    run = imported(log.text(), tmp_path)
    assert run.tables["fetches"].height == 2
    assert run.meta["imported"]["bad_lines"] == run.losses == 3
    assert run.tables["losses"]["cause"].to_list() == ["a line of unknown format"]


def test_a_log_in_many_blocks_is_the_same_log(
    log: DebugLogWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        log.read(INODE, MIB, number * MIB)
        log.fetch(number, PATH)
    whole = imported(log.text(), tmp_path)
    (tmp_path / "again").mkdir()
    small = partial(log_blocks.blocks, size=997)
    monkeypatch.setattr("cvmprof.profiler.logs.client_log.blocks", small)
    pieces = imported(log.text(), tmp_path / "again")
    assert dict(whole.meta) == dict(pieces.meta)
    for table in TABLES:
        assert whole.tables[table.name].equals(pieces.tables[table.name]), table.name


def test_an_ambiguous_time_zone_must_be_given(tmp_path: Path) -> None:
    log = DebugLogWriter(zone="CST")
    log.begin()
    log.call("open on inode: 7")
    with pytest.raises(CvmprofError, match="more than one time zone") as refused:
        imported(log.text(), tmp_path)
    assert "--timezone" in refused.value.help_text
    assert not (tmp_path / "run.cvmprof").exists()
    with pytest.raises(CvmprofError, match="no time zone is called Mars/Olympus"):
        imported(log.text(), tmp_path, "Mars/Olympus")
    run = imported(log.text(), tmp_path, "America/Chicago")
    assert run.meta["utc_offset_ns"] == (1772366398 + 6 * 3600) * SECOND


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is neither a debug log nor a trace file"),
        (b"root:x:0:0:root:/root:/bin/bash\n" * 9, "is neither a debug log nor a trace file"),
        (bytes(5000), "is neither a debug log nor a trace file"),
        (b'"a","b","c"\n', "is neither a debug log nor a trace file"),
        (gzip.compress(b"anything"), "is compressed"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, fact: str) -> None:
    with pytest.raises(CvmprofError, match=fact):
        imported(content, tmp_path)
    assert not (tmp_path / "run.cvmprof").exists()


def test_unreadable_logs_and_existing_runs_are_refused(log: DebugLogWriter, tmp_path: Path) -> None:
    with pytest.raises(CvmprofError, match="No such file"):
        import_log(tmp_path / "absent", tmp_path / "run.cvmprof", "1")
    with pytest.raises(CvmprofError, match="directory"):
        import_log(tmp_path, tmp_path / "run.cvmprof", "1")
    imported(log.text(), tmp_path)
    with pytest.raises(CvmprofError, match="exists already"):
        imported(log.text(), tmp_path)


# --- trace files ----------------------------------------------------------------------------------


def traced() -> str:
    lines = [
        ("1772366398123.456", -1, "Tracer", "begins"),
        ("1772366398123.999", 4, PATH, "lookup()"),
        ("1772366400000.001", 1, PATH, "open()"),
        ("1772366400000.500", 1, '/a "b", c', "open()"),
        ("1772366401000.000", 6, "", "getattr()"),
        ("1772366402000.000", -2, "Tracer", "ends"),
    ]
    return "".join(trace_line(*line) for line in lines)


def test_a_trace_file(tmp_path: Path) -> None:
    run = imported(traced(), tmp_path)
    calls = run.tables["daemon_calls"]
    assert calls["function"].to_list() == [
        "cvmfs_lookup",
        "cvmfs_open",
        "cvmfs_open",
        "cvmfs_getattr",
    ]
    assert calls["start_ns"].to_list() == [
        123_999_000,
        2_000_001_000,
        2_000_500_000,
        3 * SECOND,
    ]
    assert run.meta["utc_offset_ns"] == 1772366398 * SECOND
    paths = dict(run.tables["files"].select("file_id", "path").iter_rows())
    assert [paths[number] for number in calls["file_id"]] == [PATH, PATH, '/a "b", c', "/"]
    assert run.meta["imported"]["precision_ns"] == 1000
    assert run.tables["fetches"].is_empty() and run.losses == 0


def test_bad_lines_of_a_trace_file(tmp_path: Path) -> None:
    text = traced() + '"17723664","x","y"\r\nnonsense\r\n'
    text += trace_line("1772366403000.000", 99, "/", "?")
    run = imported(text + trace_line("1772366404000.000", 1, PATH, "open()"), tmp_path)
    assert run.tables["daemon_calls"].height == 5
    assert run.losses == run.meta["imported"]["bad_lines"] == 3


def test_a_line_without_an_end_needs_no_more_memory_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * (3 * log_blocks.LONGEST_LINE_BYTES) + b"\nend\n")
    with path.open("rb") as file:
        found = list(log_blocks.blocks(file, log_blocks.LONGEST_LINE_BYTES // 4))
    assert max(map(len, found)) <= 2 * log_blocks.LONGEST_LINE_BYTES
    assert b"".join(found) == path.read_bytes()


def test_the_run_is_plain_data(log: DebugLogWriter, tmp_path: Path) -> None:
    run = imported(log.text(), tmp_path)
    names = {path.name for path in run.path.iterdir()}
    assert names == {"meta.json", "tables"}
    assert json.loads((run.path / "meta.json").read_text())["version"] == "1.2.3"
    assert pl.read_parquet(run.path / "tables" / "files.parquet").height == 1
