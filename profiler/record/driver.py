"""The CUDA driver in the processes that are traced: finding its libraries, and probing them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable

from ...probes import events
from . import attach, driver_files
from .driver_probes import DriverProbes
from .launch_budget import LaunchBudget
from .launch_watch import LaunchWatch
from .uprobe_cost import Cost
from .uprobes import Uprobes

#: how long a library that a process maps is looked for
_PATIENCE_NS = 10_000_000_000


@dataclass(frozen=True)
class DriverOptions:
    """``percent`` of the run time may be spent on watching launches; ``search_path`` is the
    command's ``LD_LIBRARY_PATH``.
    """

    percent: float
    search_path: str

    @classmethod
    def of(cls, options: dict[str, Any]) -> DriverOptions | None:
        """From a session's options; None if calls of the driver are not to be probed."""
        if options.get("gpu") != "api":
            return None
        return cls(float(options.get("gpu_budget", 1)), str(options.get("search_path", "")))


class Driver:
    """The driver's libraries under one recorder. ``note`` adds a line to the journal."""

    def __init__(
        self, uprobes: Uprobes, cost: Cost, options: DriverOptions, note: Callable[..., None]
    ) -> None:
        self._note = note
        self._options = options
        self._probes = DriverProbes(uprobes)
        self._budget = LaunchBudget(options.percent, cost.hit_ns, time.monotonic_ns())
        self._watch = LaunchWatch(self._probes, self._budget, note)
        self._waiting: dict[int, int] = {}  # process -> give up at
        note("uprobe_cost", hit_ns=cost.hit_ns, reason=cost.reason)

    def attach_installed(self) -> None:
        """Probe the libraries that the command may load."""
        for path in driver_files.installed(self._options.search_path):
            self._attach(path)

    def handle(self, ring: str, span: memoryview) -> None:
        """Take new records of a ring: libraries that were mapped, launches that were counted."""
        if ring == events.GPU_LIBRARY.name:
            self._handle_libraries(span)
        elif ring == events.GPU_LAUNCHES.name:
            for record in events.GPU_LAUNCHES.records(span):
                self._budget.count(*events.GPU_LAUNCHES.read(record, "pid", "count"))

    def _handle_libraries(self, span: memoryview) -> None:
        for record in events.GPU_LIBRARY.records(span):
            pid, mapped_ns = events.GPU_LIBRARY.read(record, "pid", "time_ns")
            self._note("driver", pid=pid, mapped_ns=mapped_ns)
            self._waiting[pid] = time.monotonic_ns() + _PATIENCE_NS

    def step(self) -> None:
        """Probe the libraries that were mapped, and keep to the budget."""
        now_ns = time.monotonic_ns()
        for pid, deadline_ns in list(self._waiting.items()):
            paths = driver_files.mapped(pid)
            for path in paths:
                self._attach(path)
            if paths or now_ns > deadline_ns:
                del self._waiting[pid]
        self._watch.step(now_ns)

    def stop(self) -> None:
        """Say for how long launches were not watched."""
        self._watch.stop(time.monotonic_ns())

    def _attach(self, path: str) -> None:
        new = self._probes.attach(path)
        if new:
            self._note("probes", rows=attach.rows(new))
