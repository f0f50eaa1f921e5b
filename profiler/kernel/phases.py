"""Table `phases`: the parts of the command that its threads named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from ...probes.events import ROLE_TARGET, TASK_KINDS
from ..run.journal import Line
from ..tables import HORIZON_NS, conform


def phases(lines: Sequence[Line], events: pl.DataFrame | None = None) -> pl.DataFrame:
    """Pair begins and ends; an end closes the innermost open phase of its name and thread.

    An end without a begin is dropped. ``events``: TASK records. A thread in a pid namespace writes
    the pid and tid it has there; the table has those of the host. Where two threads had the same,
    the younger one is taken.
    """
    host_ids = _HostIds(events)
    rows: list[dict[str, Any]] = []
    unended: dict[tuple[int, int, str], list[int]] = {}
    for line in lines:
        if not _is_mark(line):
            continue
        pid, tid = host_ids.of(line)
        stack = unended.setdefault((pid, tid, line["name"]), [])
        if line["event"] == "begin":
            stack.append(len(rows))
            rows.append(
                {
                    "name": line["name"],
                    "start_ns": line["time_ns"],
                    "end_ns": None,
                    "pid": pid,
                    "tid": tid,
                }
            )
        elif stack:
            rows[stack.pop()]["end_ns"] = line["time_ns"]
    schema: dict[str, Any] = {
        "name": pl.String,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "pid": pl.Int32,
        "tid": pl.Int32,
    }
    return conform("phases", pl.DataFrame(rows, schema=schema, orient="row").sort("start_ns"))


class _HostIds:
    """The host's pid and tid of threads that wrote those of their pid namespace."""

    def __init__(self, events: pl.DataFrame | None) -> None:
        self._lives: dict[tuple[int, int], list[tuple[int, int, tuple[int, int]]]] = {}
        if events is None:
            return
        death = pl.col("time_ns").filter(pl.col("kind") == TASK_KINDS.index("exit")).max()
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

    def of(self, line: Line) -> tuple[int, int]:
        """The host's (pid, tid); as written where no thread alive at the time is known."""
        written = (line["pid"], line["tid"])
        for start_ns, end_ns, ids in reversed(self._lives.get(written, [])):
            if start_ns <= line["time_ns"] <= end_ns:
                return ids
        return written


def _is_mark(line: Line) -> bool:
    integers = (line.get("time_ns"), line.get("pid"), line.get("tid"))
    return (
        isinstance(line.get("name"), str)
        and line.get("event") in ("begin", "end")
        and all(isinstance(number, int) for number in integers)
    )
