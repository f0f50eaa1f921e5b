"""Phases of children, however they came to be: each is there, of its process, with its own wait."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.attribution.causes import phase_causes
from cvmprof.profiler.run.opened import Run

from .conftest import LATENCY_S, MODEL_BYTES, Trace, Truth

WORKERS = 4
#: reads a page of the file in a phase, and tells when by its own clock
WORKER = """
import json, os, sys, time
from cvmprof import phase
def load(job):
    path, offset, facts = job
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    before_ns = time.monotonic_ns()
    with phase("load"):
        os.pread(file, 4096, offset)
    after_ns = time.monotonic_ns()
    with open(facts, "a") as told:
        told.write(json.dumps([os.getpid(), offset, before_ns, after_ns]) + "\\n")
if __name__ == "__main__":
    in_turn = sys.argv[4:]
    if in_turn:
        print("ready", flush=True)
        sys.stdin.readline()
    load((sys.argv[1], int(sys.argv[2]), sys.argv[3]))
    if in_turn:
        print("done", flush=True)
        sys.stdin.readline()
"""
PARENT = """
import multiprocessing, os, subprocess, sys
directory, how, path, facts, *offsets = sys.argv[1:]
sys.path.insert(0, directory)
from worker import load
jobs = [(path, int(offset), facts) for offset in offsets]
def executed(job):
    return [sys.executable, directory + "/worker.py", *map(str, job)]
def daemon(job):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(3, 4096)
            load(job)
            os._exit(0)
        os._exit(0)
if __name__ == "__main__":
    if how in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(how)
        started = [context.Process(target=load, args=[job]) for job in jobs]
        for each in started: each.start()
        for each in started: each.join()
    elif how == "subprocess":
        started = [subprocess.Popen(executed(job)) for job in jobs]
        for each in started: assert each.wait() == 0
    elif how == "exec":
        for job in jobs:
            if os.fork() == 0:
                os.execv(sys.executable, executed(job))
        for job in jobs: assert os.wait()[1] == 0
    elif how == "pid namespace":
        enter = ["unshare", "--pid", "--fork"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = lambda job: enter + executed(job) + ["in turn"]
        started = [subprocess.Popen(command(job), **pipes) for job in jobs]
        for each in started:  # they are there at once, and each is 1 in its namespace
            assert each.stdout.readline() == "ready\\n"
            (child,) = open(f"/proc/{each.pid}/task/{each.pid}/children").read().split()
            while open(f"/proc/{child}/stat").read().rsplit(")")[1].split()[0] != "S":
                pass
        for each in started:
            each.stdin.write("go\\n"), each.stdin.flush()
            assert each.stdout.readline() == "done\\n"
        for each in started:
            each.communicate()
            assert each.returncode == 0
    elif how == "daemon":
        import ctypes
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans are waited for here
        for job in jobs:
            daemon(job)
        for _ in range(2 * len(jobs)): os.wait()
"""
KINDS = ("fork", "spawn", "forkserver", "subprocess", "exec", "daemon", "pid namespace")


@pytest.mark.parametrize("how", KINDS)
def test_each_childs_phase_has_its_own_wait(
    trace: Trace, truth: Truth, tmp_path: Path, how: str
) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    model, facts = truth.path("model.bin"), tmp_path / "facts"
    offsets = [number * MODEL_BYTES // WORKERS for number in range(WORKERS)]
    before = truth.cool()
    run = trace(PARENT, tmp_path, how, model, facts, *offsets)
    told = sorted(json.loads(line) for line in facts.read_text().splitlines())
    assert [offset for _, offset, *_ in sorted(told, key=lambda each: each[1])] == offsets
    served = truth.served_hashes(before)
    assert len(served) == len(set(served)) == WORKERS
    _assert_as_told(run.tables["phases"], told, same_ids=how != "pid namespace")
    _assert_waited(run)


def _assert_as_told(phases: pl.DataFrame, told: list[list[int]], *, same_ids: bool) -> None:
    """One phase in each process, between the times that it read from its clock."""
    rows: list[dict[str, Any]] = phases.sort("start_ns").to_dicts()
    assert [row["name"] for row in rows] == ["load"] * WORKERS
    assert len({row["pid"] for row in rows}) == WORKERS
    assert all(row["pid"] == row["tid"] for row in rows)
    for row in rows:
        by_clock = [
            pid
            for pid, _, before, after in told
            if before < row["start_ns"] < row["end_ns"] < after
        ]
        assert by_clock and (row["pid"] in by_clock) == same_ids


def _assert_waited(run: Run) -> None:
    """Each phase is tiled, and waited for one chunk, which no other waited for."""
    phases, segments = run.tables["phases"], run.tables["segments"]
    summed = phase_causes(segments, phases)
    whole = summed.group_by("phase").agg(pl.col("ns").sum()).sort("phase")["ns"].to_list()
    assert whole == (phases["end_ns"] - phases["start_ns"]).to_list()
    data = run.tables["fetches"].filter(pl.col("object_kind") == "chunk").select("fetch_id")
    within = phases.select("tid", from_ns="start_ns", until_ns="end_ns")
    waits = segments.join(data, on="fetch_id").join(within, on="tid")
    waits = waits.filter(
        pl.col("start_ns") >= pl.col("from_ns"), pl.col("end_ns") <= pl.col("until_ns")
    )
    waited = waits.group_by("tid").agg(
        pl.col("fetch_id").unique(), ns=(pl.col("end_ns") - pl.col("start_ns")).sum()
    )
    assert waited.height == waited["fetch_id"].explode().n_unique() == WORKERS
    assert (waited["ns"] >= LATENCY_S * 1e9).all()


def test_a_phase_ends_with_the_process_that_is_killed_in_it(trace: Trace, tmp_path: Path) -> None:
    program = """
    import os, signal, sys, time
    from cvmprof import phase
    if not os.fork():
        with phase("cut off"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    killed_ns = time.monotonic_ns()
    time.sleep(0.2)
    with phase("left open"):
        open(sys.argv[1], "w").write(f"{killed_ns} {os.getpid()}")
        os.execv("/bin/true", ["true"])
    """
    facts = tmp_path / "facts"
    run = trace("\n".join(line[4:] for line in program.splitlines()), facts)
    killed_ns, parent = map(int, facts.read_text().split())
    cut, left = run.tables["phases"].sort("start_ns").to_dicts()
    assert cut["name"] == "cut off" and cut["start_ns"] < cut["end_ns"] < killed_ns
    task = run.tables["tasks"].filter(tid=parent).row(0, named=True)
    assert (left["name"], left["end_ns"]) == ("left open", task["end_ns"])


def test_a_child_whose_own_log_has_the_number_keeps_it_clean(trace: Trace, tmp_path: Path) -> None:
    program = """
import os, subprocess, sys
import cvmprof
with cvmprof.phase("parent"):
    pass
code = '''
import os, sys
log = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
for number in range(3, 200):
    os.dup2(log, number)
import cvmprof
with cvmprof.phase("child"):
    os.write(64, b"own")
'''
subprocess.run([sys.executable, "-c", code, sys.argv[1]], check=True)
subprocess.run([sys.executable, sys.argv[2]], check=True)
"""
    example = Path(__file__).parents[2] / "docs/examples/phases_without_cvmprof.py"
    run = trace(program, tmp_path / "log", example)
    assert (tmp_path / "log").read_bytes() == b"own"
    assert run.tables["phases"]["name"].to_list() == ["parent", "child", "load"]


def test_the_command_has_the_descriptors_that_it_has_untraced(trace: Trace, tmp_path: Path) -> None:
    program = """
import os, sys
numbers = sorted(map(int, os.listdir("/proc/self/fd")))
opened = [each for each in numbers if os.path.exists(f"/proc/self/fd/{each}")]
open(sys.argv[1], "w").write(" ".join(map(str, opened)))
"""
    trace(program, tmp_path / "traced")
    assert (tmp_path / "traced").read_text() == "0 1 2"
