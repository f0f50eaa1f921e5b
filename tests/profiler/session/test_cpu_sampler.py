"""Sampling quotas while a command runs: which processes, and what is written."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvmprof.probes.events import RING_HEADER_BYTES, ROLE_DAEMON, ROLE_TARGET, TASK
from cvmprof.profiler.session import cpu_sampler
from cvmprof.profiler.session.cgroups import CpuReader
from cvmprof.profiler.session.cpu_sampler import CpuSampler

PATIENCE_S = 30


class Reader(CpuReader):
    """Tells of each process its own number."""

    def cgroups(self, pid: int) -> Iterator[dict[str, Any]]:
        yield {"path": f"/{pid}", "quota_us": 1, "period_us": 2}

    def machine(self) -> dict[str, Any]:
        return {"used_ns": 3}


def task(pid: int, role: int) -> bytes:
    return bytes(RING_HEADER_BYTES) + TASK.pack(pid=pid, tid=pid, role=role)


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cpu_sampler, "INTERVAL_S", 0.01)
    monkeypatch.setattr(cpu_sampler, "running_daemons", tuple)
    path = tmp_path / "task.ring"
    path.touch()
    return path


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(path: Path, *pids: str) -> None:
    """Until a sample has these processes."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if any(set(line["processes"]) == set(pids) for line in written(path)[-1:]):
            return
        time.sleep(0.001)
    pytest.fail(f"no sample of {pids}")


def test_the_command_and_daemons_that_come_later_are_sampled(tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    samples = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sampler = CpuSampler(tasks, samples, Reader())
    sampler.watch(7)
    sampler.start()
    wait_for(out, "7")
    whole, torn = task(8, ROLE_TARGET) + task(9, ROLE_DAEMON), task(10, ROLE_DAEMON)
    with tasks.open("ab", buffering=0) as ring:
        ring.write(whole + torn[:30])
        wait_for(out, "7", "9")
        ring.write(torn[30:])
        wait_for(out, "7", "9", "10")
    assert sampler.stop() == sampler.stop() > 0
    last = written(out)[-1]
    assert last["machine"] == {"used_ns": 3}
    assert last["processes"]["9"] == [{"path": "/9", "quota_us": 1, "period_us": 2}]
    times = [line["time_ns"] for line in written(out)]
    assert times == sorted(set(times))
    os.close(samples)


def test_how_many_cpus_the_command_may_use(tasks: Path, tmp_path: Path) -> None:
    """As it was last seen: afterwards its process is gone."""
    out = tmp_path / "samples"
    samples = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sampler = CpuSampler(tasks, samples, Reader())
    command = subprocess.Popen(["sleep", "60"])
    os.sched_setaffinity(command.pid, {min(os.sched_getaffinity(0))})
    sampler.watch_command(command.pid)
    sampler.start()
    wait_for(out, str(command.pid))
    command.kill()
    command.wait()
    sampler.stop()
    assert sampler.allowed_cpus == 1
    os.close(samples)


def test_a_sampler_that_was_never_started_stops(tasks: Path) -> None:
    assert CpuSampler(tasks, -1, Reader()).stop() == 0


def test_samples_that_cannot_be_written_end_the_sampling(tasks: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        sampler = CpuSampler(tasks, full.fileno(), Reader())
        sampler.start()
        sampler.stop()
    gone = CpuSampler(tasks.with_name("gone"), -1, Reader())
    gone.start()
    gone.stop()
