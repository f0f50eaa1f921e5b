"""What is recorded equals what the client counts itself, whoever uses the mount."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.runners.lab.lab import Shaping, accesses, order

from .conftest import LATENCY_S, READ_ALL, Trace, Truth

GETATTR, GETXATTR = 3, 22
#: no server's headers are longer
HEAD_BYTES = 1000
#: opens a file, lets a bystander read, and reads: which file, and two FIFOs
TAKE_TURNS = """
import os, sys
path, begin, done = sys.argv[1:]
descriptor = os.open(path, os.O_RDONLY)
open(begin, "w").close()
open(done).read()
while os.read(descriptor, 1 << 20):
    pass
"""
#: lets a bystander read, then opens a file and reads: which file, and two FIFOs
AFTER_ANOTHER = """
import os, sys
path, begin, done = sys.argv[1:]
open(begin, "w").close()
open(done).read()
descriptor = os.open(path, os.O_RDONLY)
while os.read(descriptor, 1 << 20):
    pass
"""
#: reads a file and waits: which file, and two FIFOs
READ_AND_WAIT = """
import os, sys
path, begin, done = sys.argv[1:]
descriptor = os.open(path, os.O_RDONLY)
while os.read(descriptor, 1 << 20):
    pass
open(begin, "w").close()
open(done).read()
"""
#: reads a file once it may, says so when it has, and stays until its input ends
NEIGHBOUR = """
import os, sys
path, begin, done = sys.argv[1:]
open(begin).read()
descriptor = os.open(path, os.O_RDONLY)
while os.read(descriptor, 1 << 20):
    pass
open(done, "w").close()
sys.stdin.read()
"""
#: with so much latency a neighbour's 17 fetches take longer than is recorded
SLOW_S, RECORDED = 0.4, "4s"
BYSTANDER = 'read _ < "$1"; cat "$0" > /dev/null; : > "$2"'


def compared(run: Run) -> dict[str, dict[str, Any]]:
    """The comparison of the one mount that was used, by quantity."""
    rows = run.tables["reconciliation"].to_dicts()
    assert len({row["mount_id"] for row in rows}) == 1
    return {row["quantity"]: row for row in rows}


def assert_no_difference(run: Run, objects: int, body_bytes: int) -> None:
    """Everything was counted on both sides, and the server says the same."""
    rows = compared(run)
    assert {name: row["difference"] for name, row in rows.items()} == {
        "objects": 0,
        "body_bytes": 0,
        "chunks": 0,
    }
    assert rows["objects"]["recorded"] == rows["objects"]["counted"] == objects
    assert rows["body_bytes"]["recorded"] == body_bytes
    assert rows["objects"]["remark"] is rows["body_bytes"]["remark"] is None


def test_a_cold_read(truth: Truth, trace: Trace) -> None:
    since = truth.cool()
    run = trace(READ_ALL, 1 << 20, truth.path("model.bin"))
    served = accesses(truth.lab)[since:]
    assert_no_difference(run, 17, sum(access.bytes for access in served))
    assert compared(run)["chunks"]["recorded"] == 17
    said = subprocess.run(
        [sys.executable, "-m", "cvmprof", "summary", str(run.path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (line,) = (line for line in said.stdout.splitlines() if "client's counters" in line)
    assert line.split("counters")[1].strip() == "no difference in 3 numbers"


def test_a_warm_read(truth: Truth, trace: Trace) -> None:
    truth.path("model.bin").read_bytes()
    assert_no_difference(trace(READ_ALL, 1 << 20, truth.path("model.bin")), 0, 0)


def test_another_user_of_the_mount(truth: Truth, trace: Trace, tmp_path: Path) -> None:
    """Who reads meanwhile is no target; the client works for both, and both are counted."""
    since = truth.cool()
    begin, done = tmp_path / "begin", tmp_path / "done"
    os.mkfifo(begin)
    os.mkfifo(done)
    bystander = subprocess.Popen(["sh", "-c", BYSTANDER, truth.path("model.bin"), begin, done])
    run = trace(TAKE_TURNS, truth.path("twin-b.bin"), begin, done)
    assert bystander.wait() == 0
    served = truth.served(since)
    assert len(served) == 17 + 3
    rows = compared(run)
    assert (rows["objects"]["recorded"], rows["objects"]["difference"]) == (17 + 3, 0)
    assert rows["body_bytes"]["recorded"] == sum(access.bytes for access in served)
    assert rows["body_bytes"]["difference"] == 0


def test_another_user_before_the_command_is_no_difference(
    truth: Truth, trace: Trace, tmp_path: Path
) -> None:
    """What others do before the command first uses the mount is counted, but not recorded."""
    truth.cool()
    begin, done = tmp_path / "begin", tmp_path / "done"
    os.mkfifo(begin)
    os.mkfifo(done)
    bystander = subprocess.Popen(["sh", "-c", BYSTANDER, truth.path("model.bin"), begin, done])
    run = trace(AFTER_ANOTHER, truth.path("twin-b.bin"), begin, done)
    assert bystander.wait() == 0
    rows = compared(run)
    assert rows["objects"]["counted"] == 17 + 3
    assert 3 <= rows["objects"]["recorded"] < 17 + 3
    assert {name: row["difference"] for name, row in rows.items()} == {
        "objects": None, "body_bytes": None, "chunks": 0,
    }  # fmt: skip
    assert "before the command first used the mount" in rows["objects"]["remark"]


@pytest.fixture
def slow(truth: Truth) -> Iterator[None]:
    """A server with much latency, as long as the test lasts."""
    order(truth.lab, Shaping(SLOW_S))
    yield
    order(truth.lab, Shaping(LATENCY_S))


@pytest.fixture
def neighbour(truth: Truth, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Who reads another file when `begin` is opened, and opens `done` after that."""
    for name in ("begin", "done"):
        os.mkfifo(tmp_path / name)
    program = [sys.executable, "-I", "-c", NEIGHBOUR, truth.path("model.bin")]
    running = subprocess.Popen(
        [*map(str, program), tmp_path / "begin", tmp_path / "done"], stdin=subprocess.PIPE
    )
    yield running
    running.kill()
    running.communicate()


def test_a_neighbour_fetches_when_recording_ends(
    truth: Truth, trace: Trace, tmp_path: Path, slow: None, neighbour: subprocess.Popen[bytes]
) -> None:
    """While the command goes on: no difference, and what the neighbour fetched is its own."""
    since = truth.cool()
    fifos = (tmp_path / "begin", tmp_path / "done")
    duration = ("--duration", RECORDED)
    run = trace(READ_AND_WAIT, truth.path("twin-b.bin"), *fifos, options=duration)
    served = truth.served(since)
    own = sum(access.bytes for access in served[:3])
    rows = compared(run)
    assert {row["difference"] for row in rows.values()} == {0}
    recorded = int(rows["objects"]["recorded"])
    assert 3 < recorded < 3 + 17 == len(served)
    assert rows["chunks"]["recorded"] == 3
    said = _summary(run)
    assert said["fetches"]["chunks_downloaded"] == said["latency"]["downloads"] == 3
    assert own < said["bytes"]["over_http"] < own + 3 * HEAD_BYTES
    assert said["counts"]["downloads"] == 3
    mounts = said["of_mounts"]
    (other,) = (each for each in mounts["neighbours"] if each["fetches"])
    assert (other["pid"], other["name"][:6]) == (neighbour.pid, "python")
    assert recorded - 3 <= other["fetches"] <= recorded - 3 + 1
    assert other["wire_bytes"] == mounts["over_http"] - said["bytes"]["over_http"]
    headlines = [finding["headline"] for finding in said["findings"]]
    assert not [line for line in headlines if "than the client counted" in line]
    (told,) = (line for line in headlines if line.startswith("Others used the command's mounts"))
    assert f"(process {neighbour.pid})" in told


def test_a_command_that_sleeps_until_a_neighbour_has_read(
    truth: Truth, trace: Trace, tmp_path: Path, neighbour: subprocess.Popen[bytes]
) -> None:
    truth.cool()
    run = trace(READ_AND_WAIT, truth.path("twin-b.bin"), tmp_path / "begin", tmp_path / "done")
    said = _summary(run)
    found = said["awaited"]
    assert (found["pid"], found["name"][:6]) == (neighbour.pid, "python")
    assert 17 * LATENCY_S * 1e9 < found["requests_ns"] < found["slept_ns"]
    assert found["slept_ns"] < said["command_time"]["wall_ns"]
    (told,) = (each for each in said["findings"] if each["held_ns"] == found["requests_ns"])
    assert told["headline"].startswith("The command slept ")
    assert told["headline"].endswith(
        f" until {found['name']} (process {neighbour.pid}) woke it, which is none of its own."
    )


def _summary(run: Run) -> dict[str, Any]:
    said = subprocess.run(
        [sys.executable, "-m", "cvmprof", "summary", "--json", str(run.path)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    summary: dict[str, Any] = json.loads(said.stdout)
    return summary


def test_what_it_asks_for_itself_is_no_part_of_the_run(truth: Truth, trace: Trace) -> None:
    truth.cool()
    run = trace(READ_ALL, 1 << 20, truth.path("model.bin"))
    lines = [json.loads(line) for line in (run.path / "journal.jsonl").read_text().splitlines()]
    readers = {line["pid"] for line in lines if line["kind"] == "reader"}
    assert len(readers) == 4  # before, after, for the chunk lists, for the tensors
    assert run.meta["own_requests"] > 0
    requests = run.tables["fuse_requests"]
    assert not readers & set(requests["pid"])
    assert requests.filter(opcode=GETXATTR).is_empty()
    calls = run.tables["daemon_calls"]
    assert calls.filter(pl.col("function").is_in(["cvmfs_getxattr", "cvmfs_listxattr"])).is_empty()
    served = calls.filter(pl.col("unique").is_not_null() & (pl.col("function") == "cvmfs_getattr"))
    assert served.height == requests.filter(opcode=GETATTR).height
