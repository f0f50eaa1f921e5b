"""Threads that are stopped: by a signal, by a tracer, by the freezer of their cgroup."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cvmprof import open_run
from cvmprof.profiler.run.opened import Run

from .conftest import Trace

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
