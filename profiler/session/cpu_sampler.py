"""Sample what limits the CPU time of the command and of the clients' daemons while a command runs.

A thread of the session reads, four times a second, the quotas of their cgroups and how often these
were throttled, what all CPUs of the machine did, and how many of them the command may use.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...probes.events import ROLE_DAEMON, TASK
from ..record.daemons import running_daemons
from .cgroups import CpuReader

INTERVAL_S = 0.25
#: processes whose cgroups are read, the newest
MAX_PROCESSES = 64


class CpuSampler:
    """A thread that samples from `start` to `stop`.

    ``tasks``: the spool file of the ring of tasks, read while it grows: daemons that come later are
    in it. ``samples``: a descriptor to append to, a line of JSON for each sample. ``allowed_cpus``:
    how many CPUs the command's first process may run on, when it was last seen; None: never.
    """

    def __init__(self, tasks: Path, samples: int, reader: CpuReader | None = None) -> None:
        self._tasks, self._samples = tasks, samples
        self._reader = reader or CpuReader()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="CPU sampler", daemon=True)
        self._pids = dict[int, None]()  # in the order in which they came
        self._read_bytes = self._cpu_ns = 0
        self._command: int | None = None
        self.allowed_cpus: int | None = None

    def watch_command(self, pid: int) -> None:
        """Sample the cgroups of the command's first process, and how many CPUs it may use."""
        self._command = pid
        self.watch(pid)

    def watch(self, pid: int) -> None:
        """Sample the cgroups of a process from now on."""
        self._pids[pid] = None

    def start(self) -> None:
        """Start. The thread inherits the signals that the caller has blocked."""
        self._thread.start()

    def stop(self) -> int:
        """Take a last sample and end; returns the CPU time used. May be called more than once."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        return self._cpu_ns

    def _run(self) -> None:
        before_ns = time.thread_time_ns()
        for daemon in running_daemons():
            self.watch(daemon.pid)
        try:
            with self._tasks.open("rb", buffering=0) as tasks:
                self._sample(tasks)
                while not self._ending.wait(INTERVAL_S):
                    self._sample(tasks)
                self._sample(tasks)
        except OSError:  # no space is left, or the run has gone: the recorder says so
            return
        finally:
            self._cpu_ns = time.thread_time_ns() - before_ns

    def _sample(self, tasks: Any) -> None:
        for pid in self._new_daemons(tasks):
            self.watch(pid)
        if self._command is not None:
            with suppress(OSError):  # it has ended
                self.allowed_cpus = len(os.sched_getaffinity(self._command))
        processes = list(self._pids)[-MAX_PROCESSES:]
        line = {
            "time_ns": time.monotonic_ns(),
            "machine": self._reader.machine(),
            "processes": {pid: list(self._reader.cgroups(pid)) for pid in processes},
        }
        os.write(self._samples, json.dumps(line).encode() + b"\n")

    def _new_daemons(self, tasks: Any) -> set[int]:
        """Daemons in the records written since the last call."""
        tasks.seek(self._read_bytes)
        span = tasks.read()
        whole = span[: len(span) - len(span) % TASK.stride]
        self._read_bytes += len(whole)
        named = (TASK.read(record, "pid", "role") for record in TASK.records(memoryview(whole)))
        return {pid for pid, role in named if role == ROLE_DAEMON}
