"""Threads that are stopped: by a signal, by a tracer, by the freezer of their cgroup."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from cvmprof import open_run
from cvmprof.profiler.run.opened import Run
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import compute
from cvmprof.runners.lab.lab import Rule, Shaping, mount, order

from .conftest import CHUNK_BYTES, Trace, Truth, served_lab

LATENCY_S = 0.05
CHUNKS = 8
STOP_NS = 1_000_000_000
MS = 1_000_000

#: stops a child that computes, for 300 ms, and prints its number and four times: before it is
#: told to stop, when it has stopped, before it is told to go on, and after that. The child is in a
#: group of its own, with its parent outside: the kernel drops SIGTSTP to an orphaned group
#: (is_current_pgrp_orphaned in kernel/exit.c)
STOP = """
import json, os, signal, sys, time
how, place = sys.argv[1:3]
child = os.fork()
while not child:
    pass
os.setpgid(child, child)
def write(name, text):
    with open(os.path.join(place, name), "w") as file:
        file.write(text)
def await_frozen():
    name = "cgroup.events" if how == "2" else "freezer.state"
    while not {"frozen 1", "FROZEN"} & set(open(os.path.join(place, name)).read().split("\\n")):
        pass
times = [child, time.monotonic_ns()]
if how in "12":
    write("cgroup.procs", str(child))
    write("cgroup.freeze" if how == "2" else "freezer.state", "1" if how == "2" else "FROZEN")
    await_frozen()
else:
    os.kill(child, int(getattr(signal, how)))
    os.waitpid(child, os.WUNTRACED)
times.append(time.monotonic_ns())
time.sleep(0.3)
times.append(time.monotonic_ns())
if how in "12":
    write("cgroup.freeze" if how == "2" else "freezer.state", "0" if how == "2" else "THAWED")
else:
    os.kill(child, signal.SIGCONT)
times.append(time.monotonic_ns())
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
with open(sys.argv[3], "w") as file:
    json.dump(times, file)
"""


def hierarchy(version: str) -> Path:
    """Where the cgroups of this version with a freezer are mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup2" and version == "2":
            return Path(place)
        if kind == "cgroup" and version == "1" and "freezer" in options.split(","):
            return Path(place)
    pytest.skip(f"no cgroups of version {version} with a freezer are mounted here")


def stopped_ns(run: Run, pid: int) -> int:
    """How long the threads of a process were stopped."""
    segments = run.tables["segments"].filter(pid=pid, cause="stopped")
    return int((segments["end_ns"] - segments["start_ns"]).sum())


def assert_stopped(run: Run, times: list[int]) -> None:
    """For as long as the program says, by its own clock; nothing of that is `blocked`."""
    child, told, has_stopped, goes_on, told_to_go_on = times
    assert goes_on - has_stopped <= stopped_ns(run, child) <= told_to_go_on - told
    segments = run.tables["segments"].filter(pid=child)
    assert set(segments["cause"]) <= {"cpu", "runqueue", "stopped"}
    assert run.tables["blocked"].filter(pid=child, off_reason="stopped").height == 1
    assert stopped_ns(run, run.tables["tasks"].filter(pid=child)["parent_pid"].item()) == 0


@pytest.mark.parametrize("name", ["SIGSTOP", "SIGTSTP"])
def test_a_child_that_a_signal_stops(trace: Trace, tmp_path: Path, name: str) -> None:
    answers = tmp_path / "times.json"
    run = trace(STOP, name, tmp_path, answers)
    assert_stopped(run, json.loads(answers.read_text()))


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_child_that_its_cgroup_freezes(trace: Trace, tmp_path: Path, version: str) -> None:
    place = hierarchy(version) / f"cvmprof-test-{os.getpid()}"
    answers = tmp_path / "times.json"
    place.mkdir()
    try:
        run = trace(STOP, version, place, answers)
    finally:
        with contextlib.suppress(OSError):
            place.rmdir()
    assert_stopped(run, json.loads(answers.read_text()))


def test_a_program_that_a_debugger_stops(tmp_path: Path) -> None:
    """Each of its system calls stops it at least once."""
    where, log = tmp_path / "run.cvmprof", tmp_path / "strace.log"
    tool = [sys.executable, "-m", "cvmprof", "trace", "--no-report", "-o", str(where), "--"]
    command = ["strace", "-f", "-o", str(log), "sh", "-c", "exec true"]
    subprocess.run([*tool, *command], check=True, timeout=120)
    run = open_run(where)
    calls = len(log.read_text().splitlines())
    debugged = int(log.read_text().split()[0])
    stops = run.tables["blocked"].filter(pid=debugged, off_reason="stopped")
    assert stops.height >= calls > 20
    assert stopped_ns(run, debugged) > 0


#: reads a large file, then a small one; so long after it began that, a child stops the client of
#: the mount for a second, and writes four times as above
READ_BESIDE_A_STOP = """
import json, os, signal, sys, time
place, pause_s, answers = sys.argv[1], float(sys.argv[2]), sys.argv[3]
client = int(os.getxattr(place, "user.pid"))
def read(name):
    with open(os.path.join(place, name), "rb") as file:
        file.read()
def states():
    for task in os.listdir(f"/proc/{client}/task"):
        yield open(f"/proc/{client}/task/{task}/stat").read().rpartition(")")[2].split()[0]
read("large.bin")
os.stat(os.path.join(place, "small.bin"))
if not os.fork():
    time.sleep(pause_s)
    times = [time.monotonic_ns()]
    os.kill(client, signal.SIGSTOP)
    while set(states()) != {"T"}:
        pass
    times.append(time.monotonic_ns())
    time.sleep(1)
    times.append(time.monotonic_ns())
    os.kill(client, signal.SIGCONT)
    times.append(time.monotonic_ns())
    with open(answers, "w") as file:
        json.dump(times, file)
    os._exit(0)
read("small.bin")
os.wait()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    """A lab with a file of several chunks and one of a single chunk."""
    root, seeded = tmp_path_factory.mktemp("stopped"), random.Random(20261129)
    files = {"large.bin": CHUNKS * CHUNK_BYTES, "small.bin": 4096}
    contents = {name: seeded.randbytes(size) for name, size in files.items()}
    with served_lab(root, contents, LATENCY_S) as lab:
        yield Truth(lab, mount(lab), root)


def delay(library: Truth, name: str, delay_s: float) -> str:
    """The hash of the object of a file, whose first byte the server delays so long from now on."""
    since = library.cool()
    library.path(name).read_bytes()
    (*_, found) = library.served_hashes(since)
    library.cool()
    rule = Rule("delay", f"{found[:2]}/{found[2:]}", delay_s=delay_s - LATENCY_S)
    order(library.lab, Shaping(latency_s=LATENCY_S, rules=(rule,)))
    return found


def spent_ns(run: Run, object_hash: str) -> dict[str, int]:
    """How long the command waited for the fetch of an object, by cause."""
    (number,) = run.tables["fetches"].filter(object_hash=object_hash)["fetch_id"]
    lasted = (pl.col("end_ns") - pl.col("start_ns")).sum()
    waits = run.tables["segments"].filter(fetch_id=number)
    return dict(waits.group_by(pl.col("cause").cast(pl.String)).agg(ns=lasted).iter_rows())


@pytest.mark.parametrize(
    ("delay_s", "pause_s"), [(2.0, 0.5), (0.4, 0.2)], ids=["longer than the stop", "shorter"]
)
def test_a_client_that_is_stopped_in_a_fetch(
    library: Truth, trace: Trace, tmp_path: Path, delay_s: float, pause_s: float
) -> None:
    """The server's delay has the rest of the time, and none that the client was stopped."""
    late = delay(library, "small.bin", delay_s)
    answers = tmp_path / "times.json"
    run = trace(READ_BESIDE_A_STOP, library.mountpoint, pause_s, answers)
    told, has_stopped, goes_on, told_to_go_on = json.loads(answers.read_text())
    spent = spent_ns(run, late)
    assert STOP_NS <= goes_on - has_stopped <= spent["stopped"] <= told_to_go_on - told
    (download,) = run.tables["downloads"].filter(object_hash=late).to_dicts()
    took_ns = download["first_byte_ns"] - download["sent_ns"]
    assert abs(spent["first_byte"] - (took_ns - spent["stopped"])) < 10 * MS
    in_server_ns = max(delay_s * 1e9 - spent["stopped"], told - download["sent_ns"])
    assert abs(spent["first_byte"] - in_server_ns) < 50 * MS


def test_a_stop_says_nothing_of_the_server(library: Truth, trace: Trace, tmp_path: Path) -> None:
    late = delay(library, "small.bin", 0.4)
    run = trace(READ_BESIDE_A_STOP, library.mountpoint, 0.2, tmp_path / "times.json")
    statistics = compute(gather(run))
    waits, time = statistics.waits, statistics.command_time
    assert spent_ns(run, late)["stopped"] >= STOP_NS
    assert time.cvmfs_causes_ns["stopped"] >= STOP_NS
    assert waits.first_byte_ns < STOP_NS < waits.total_ns
    assert waits.slowest is not None and waits.slowest.waited_ns < STOP_NS / 2
    assert 0 < time.gains["first_byte"].most_ns < STOP_NS
    assert statistics.network.answer_ns < STOP_NS
    said = [each.headline for each in findings(statistics)]
    assert not [each for each in said if "downloads: " in each]
