"""Tasks in pid namespaces: the host's pid and tid of what a task calls itself."""

from __future__ import annotations

import polars as pl

from ...probes.events import ROLE_TARGET, TASK_KINDS
from ..tables import HORIZON_NS

_EXIT = TASK_KINDS.index("exit")


class HostIds:
    """The host's pid and tid of target threads that wrote those of their pid namespace.

    ``events``: TASK records. Where two threads had the same ids at a time, the younger one is
    taken.
    """

    def __init__(self, events: pl.DataFrame | None) -> None:
        self._lives: dict[tuple[int, int], list[tuple[int, int, tuple[int, int]]]] = {}
        if events is None:
            return
        death = pl.col("time_ns").filter(pl.col("kind") == _EXIT).max()
        lives = (
            events.filter(pl.col("role") == ROLE_TARGET)
            .group_by("pid", "tid", "start_ns", "namespace_pid", "namespace_tid")
            .agg(end_ns=death.fill_null(HORIZON_NS))
            .sort("start_ns")
        )
        for life in lives.iter_rows(named=True):
            key = (life["namespace_pid"], life["namespace_tid"])
            span = (life["start_ns"], life["end_ns"], (life["pid"], life["tid"]))
            self._lives.setdefault(key, []).append(span)

    def of(self, pid: int, tid: int, time_ns: int) -> tuple[int, int]:
        """The host's (pid, tid); as written where no thread alive at the time is known."""
        return self.life(pid, tid, time_ns)[:2]

    def life(self, pid: int, tid: int, time_ns: int) -> tuple[int, int, int]:
        """The host's pid and tid as `of` has them, and when the thread ended or the horizon."""
        for start_ns, end_ns, ids in reversed(self._lives.get((pid, tid), [])):
            if start_ns <= time_ns <= end_ns:
                return (*ids, end_ns)
        return pid, tid, HORIZON_NS
