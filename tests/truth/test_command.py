"""What the command as a whole waited for, by its programs' own clocks and the server's log."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.command import CommandTime
from cvmprof.reports.numbers.statistics import Statistics, compute
from cvmprof.runners.lab.lab import mount

from . import asynchronous
from .conftest import CHUNK_BYTES, Trace, Truth, served_lab

LATENCY_S = 0.05
CHUNKS = 12
WORKERS = 8

#: reads a file and writes when it began and ended, and its thread's time on a CPU
LOAD = """
import json, sys, time
path, facts = sys.argv[1:]
begun_ns = time.monotonic_ns()
with open(path, "rb", buffering=0) as file:
    while file.read(65536):
        pass
times = [begun_ns, time.monotonic_ns(), time.thread_time_ns()]
with open(facts, "w") as file:
    json.dump(times, file)
"""
#: starts a loader for each file and looks ten times a second whether they are done
LAUNCH = """
import subprocess, sys, time
loader, facts, *paths = sys.argv[1:]
started = [
    subprocess.Popen([sys.executable, "-I", "-c", loader, path, f"{facts}{number}"])
    for number, path in enumerate(paths)
]
while any(process.poll() is None for process in started):
    time.sleep(0.1)
"""
#: the same in one thread, while another shows that it goes on
SHOW = """
import sys, threading
done = threading.Event()
def show():
    while not done.wait(0.1):
        print(".", end="", flush=True)
shown = threading.Thread(target=show)
shown.start()
loader = sys.argv.pop(1)
exec(loader)
done.set()
shown.join()
"""
#: a worker computes until all others, which load, are done
COMPUTE = """
import json, os, sys, time
loader, facts, *paths = sys.argv[1:]
going_on, held = os.pipe()
for number, path in enumerate(paths):
    if not os.fork():
        sys.argv[1:] = [path, f"{facts}{number}"]
        exec(loader)
        os._exit(0)
os.close(held)
if not os.fork():
    os.set_blocking(going_on, False)
    while True:
        try:
            if not os.read(going_on, 1):
                break
        except BlockingIOError:
            pass
    with open(f"{facts}-computed", "w") as file:
        json.dump(time.thread_time_ns(), file)
    os._exit(0)
for _ in range(len(paths) + 1):
    assert os.wait()[1] == 0
"""
#: threads that each read a page of another chunk of one file
READ_PAGES = """
import os, sys, threading
path, count, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
descriptor = os.open(path, os.O_RDONLY)
offsets = [n * step // 8 for n in range(count)]
threads = [threading.Thread(target=os.pread, args=(descriptor, 4096, at)) for at in offsets]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    """A lab whose server takes its time, with a file for each worker."""
    root = tmp_path_factory.mktemp("command")
    seeded = random.Random(20261128)
    files = {f"{n}.bin": seeded.randbytes(CHUNKS * CHUNK_BYTES) for n in range(WORKERS)}
    with served_lab(root, files, LATENCY_S) as lab:
        yield Truth(lab, mount(lab), root)


def numbers(run: Run) -> Statistics:
    return compute(gather(run))


def times(facts: Path, count: int) -> list[tuple[int, int, int]]:
    """What the loaders wrote: begun, ended, time on a CPU."""
    return [tuple(json.loads(Path(f"{facts}{n}").read_text())) for n in range(count)]


def check_sums(time: CommandTime) -> None:
    """Every way to divide the command's time sums to it."""
    assert sum(time.causes_ns.values()) == time.wall_ns
    assert sum(time.thread_causes_ns.values()) == time.threads_ns
    assert time.fetch_ns <= time.cvmfs_ns <= time.wall_ns <= time.threads_ns
    for process in time.processes:
        assert sum(process.causes_ns.values()) == process.wall_ns <= time.wall_ns
        assert process.cvmfs_ns <= process.wall_ns


def test_a_launcher_that_polls_does_not_hide_what_its_loaders_wait_for(
    truth: Truth, trace: Trace, tmp_path: Path
) -> None:
    truth.cool()
    paths = [truth.path(f"{n}.bin") for n in range(2)]
    found = numbers(trace(LAUNCH, LOAD, tmp_path / "facts", *paths))
    loaders = times(tmp_path / "facts", 2)
    loading_ns = max(ended for _, ended, _ in loaders) - min(begun for begun, _, _ in loaders)
    time = found.command_time
    check_sums(time)
    assert time.wall_ns > loading_ns >= CHUNKS * LATENCY_S * 1e9
    assert 0.7 * loading_ns <= time.cvmfs_ns <= loading_ns * 1.05
    assert 0.6 * loading_ns <= time.fetch_ns
    # by the launcher's own thread nothing waited
    (launcher,) = found.phases
    assert launcher.cvmfs_ns == 0
    assert {process.threads for process in time.processes} == {1}
    assert [process.cvmfs_ns > loading_ns / 2 for process in time.processes] == [False, True, True]
    assert 0 < time.polled_ns <= 0.1 * loading_ns


def test_a_thread_that_shows_progress_does_not_hide_the_wait(
    truth: Truth, trace: Trace, tmp_path: Path
) -> None:
    truth.cool()
    time = numbers(trace(SHOW, LOAD, truth.path("0.bin"), tmp_path / "facts0")).command_time
    ((begun_ns, ended_ns, _),) = times(tmp_path / "facts", 1)
    check_sums(time)
    assert 0.7 * (ended_ns - begun_ns) <= time.cvmfs_ns <= ended_ns - begun_ns
    assert time.processes[0].threads == 2
    assert 0 < time.polled_ns <= 0.1 * (ended_ns - begun_ns)


def test_one_worker_that_computes_hides_those_that_wait_from_the_wall_time_alone(
    truth: Truth, trace: Trace, tmp_path: Path
) -> None:
    truth.cool()
    paths = [truth.path(f"{n}.bin") for n in range(WORKERS - 1)]
    time = numbers(trace(COMPUTE, LOAD, tmp_path / "facts", *paths)).command_time
    loaders = times(tmp_path / "facts", WORKERS - 1)
    computed_ns = json.loads((tmp_path / "facts-computed").read_text())
    check_sums(time)
    assert 0.95 * computed_ns <= time.causes_ns["cpu"] + time.causes_ns["copy"]
    assert time.cvmfs_ns <= time.wall_ns - 0.95 * computed_ns
    waiting = [process for process in time.processes if process.cvmfs_ns > process.wall_ns / 2]
    assert len(waiting) == WORKERS - 1
    loading_ns = sum(ended - begun for begun, ended, _ in loaders)
    assert 0.7 * loading_ns <= time.thread_cvmfs_ns <= 1.05 * loading_ns


def test_threads_that_queue_behind_fetches_wait_for_them(truth: Truth, trace: Trace) -> None:
    """Most of them wait for the daemon or a lock; at nearly each instant some fetch goes on."""
    truth.cool()
    found = numbers(trace(READ_PAGES, truth.path("0.bin"), 8 * CHUNKS, CHUNK_BYTES))
    time = found.command_time
    check_sums(time)
    assert found.fetches.chunks_downloaded == CHUNKS
    assert time.thread_cvmfs_ns > 5 * time.cvmfs_ns
    assert 0.85 * found.fetches.busy_ns <= time.fetch_ns <= found.fetches.busy_ns


@pytest.mark.parametrize("way", ["direct aio", "direct polled", "direct uring", "uring"])
def test_reads_in_flight_are_waited_for_while_the_command_sleeps(
    truth: Truth, trace: Trace, way: str
) -> None:
    truth.cool()
    program = Path(asynchronous.__file__).read_text(encoding="utf-8")
    offsets = [n * CHUNK_BYTES for n in range(CHUNKS)]
    found = numbers(trace(program, way, truth.path("0.bin"), *offsets))
    time = found.command_time
    check_sums(time)
    assert found.fetches.chunks_downloaded == CHUNKS
    assert 0.85 * found.fetches.busy_ns <= time.fetch_ns <= found.fetches.busy_ns
    # on a busy machine the client lacks a CPU meanwhile
    network = ("first_byte", "transfer", "fetch", "fetch_queue", "connect", "runqueue")
    assert sum(time.cvmfs_causes_ns.get(cause, 0) for cause in network) >= 0.6 * time.fetch_ns


#: a group of the CPU controller, version 1 or 2
CONTROLLERS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))
PERIOD_US, QUOTA_US = 100_000, 2_000


@contextmanager
def throttled(pid: int) -> Generator[Path]:
    """Leaves a process 2 % of a CPU; yields its group."""
    root = next((each for each in CONTROLLERS if _limits_cpu(each)), None)
    if root is None:
        pytest.skip("no control group of this machine limits CPU time")
    group = root / f"cvmprof-test-{os.getpid()}"
    group.mkdir()
    try:
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{QUOTA_US} {PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(f"{PERIOD_US}")
            (group / "cpu.cfs_quota_us").write_text(f"{QUOTA_US}")
        (group / "cgroup.procs").write_text(f"{pid}")
        yield group
    finally:
        (root / "cgroup.procs").write_text(f"{pid}")
        group.rmdir()


def _limits_cpu(root: Path) -> bool:
    subtree = root / "cgroup.subtree_control"
    second = subtree.exists() and "cpu" in subtree.read_text().split()
    return second or (root / "cpu.cfs_quota_us").exists()


#: the same in a phase
LOAD_IN_PHASE = """
import sys
from cvmprof import phase
loader = sys.argv.pop(1)
with phase("load"):
    exec(loader)
"""


def test_a_daemon_without_a_cpu_is_waited_for(truth: Truth, trace: Trace, tmp_path: Path) -> None:
    """Whatever the cause is called: most of it is the client's threads that have no CPU."""
    truth.cool()
    daemon = int(os.getxattr(truth.mountpoint, "user.pid"))
    with throttled(daemon) as group:
        found = numbers(trace(LOAD_IN_PHASE, LOAD, truth.path("0.bin"), tmp_path / "facts0"))
        facts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    assert int(facts["nr_throttled"]) >= 5
    ((begun_ns, ended_ns, cpu_ns),) = times(tmp_path / "facts", 1)
    (load,) = found.phases
    assert load.cvmfs_ns >= 0.9 * (ended_ns - begun_ns - cpu_ns)
    assert load.causes_ns["runqueue"] >= 0.05 * load.duration_ns
    assert load.fetch_ns >= 0.5 * load.duration_ns
    check_sums(found.command_time)
    assert found.command_time.cvmfs_ns >= load.cvmfs_ns * 0.99
