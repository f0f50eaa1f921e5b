"""Tasks in pid namespaces: the host's pid and tid of what a task calls itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import polars as pl

from ...probes.events import ROLE_TARGET, TASK_KINDS
from ..tables import HORIZON_NS

_EXIT = TASK_KINDS.index("exit")


class Life(NamedTuple):
    """A thread by the host's ids; ``end_ns`` is the horizon where its end was not seen."""

    pid: int
    tid: int
    start_ns: int
    end_ns: int


class HostIds:
    """The host's pid and tid of target threads that wrote those of their pid namespace.

    ``events``: TASK records. ``blocked``: gives BLOCKED records, which are read where threads of
    several namespaces had the same ids at a time: one that was off the CPU wrote nothing. Of those
    that are left, the younger one is taken.
    """

    def __init__(
        self, events: pl.DataFrame | None, blocked: Callable[[], pl.DataFrame] | None = None
    ) -> None:
        self._lives: dict[tuple[int, int], list[Life]] = {}
        self._read_blocked = blocked
        self._off_cpu: dict[int, tuple[list[int], list[int]]] = {}
        if events is None:
            return
        death = pl.col("time_ns").filter(pl.col("kind") == _EXIT).max()
        lives = (
            events.filter(pl.col("role") == ROLE_TARGET)
            .group_by("pid", "tid", "start_ns", "namespace_pid", "namespace_tid")
            .agg(end_ns=death.fill_null(HORIZON_NS))
            .sort("start_ns")
        )
        for row in lives.iter_rows(named=True):
            life = Life(row["pid"], row["tid"], row["start_ns"], row["end_ns"])
            self._lives.setdefault((row["namespace_pid"], row["namespace_tid"]), []).append(life)

    def of(self, pid: int, tid: int, time_ns: int) -> tuple[int, int]:
        """The host's (pid, tid); as written where no thread alive at the time is known."""
        life = self.lives(pid, tid, time_ns)[0]
        return life.pid, life.tid

    def lives(self, pid: int, tid: int, time_ns: int) -> list[Life]:
        """The threads that may have written these at the time, the youngest first.

        One with the ids as written where none is known.
        """
        threads = reversed(self._lives.get((pid, tid), []))
        alive = [life for life in threads if life.start_ns <= time_ns <= life.end_ns]
        if len(alive) > 1 and self._read_blocked is not None:
            alive = [life for life in alive if not self._was_off_cpu(life.tid, time_ns)] or alive
        return alive or [Life(pid, tid, time_ns, HORIZON_NS)]

    def _was_off_cpu(self, tid: int, time_ns: int) -> bool:
        if tid not in self._off_cpu:
            own = self._blocked.filter(pl.col("tid") == tid).sort("start_ns")
            ends = own["end_ns"].replace(0, HORIZON_NS)  # 0: off it when recording stopped
            self._off_cpu[tid] = own["start_ns"].to_list(), ends.to_list()
        starts, ends_ns = self._off_cpu[tid]
        last = bisect_right(starts, time_ns) - 1
        return last >= 0 and time_ns < ends_ns[last]

    @cached_property
    def _blocked(self) -> pl.DataFrame:
        assert self._read_blocked is not None
        return self._read_blocked().select("tid", "start_ns", "end_ns")
