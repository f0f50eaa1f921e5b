"""Table `phases`, and what phases named ``run`` tell of a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from ...probes.events import ROLE_TARGET, TASK_KINDS
from ..run.journal import Line
from ..tables import conform

#: the runner's name for one inference: without a GPU these calls stand for the device
RUN_PHASE = "run"
RUNNER_DEVICE = "runner"
FOR_EVER_NS = (1 << 63) - 1


def phases(lines: Sequence[Line], events: pl.DataFrame | None = None) -> pl.DataFrame:
    """Pair begins and ends: per thread the innermost open phase of the name ends. An end alone is
    dropped.

    ``events``: TASK records. A thread in a pid namespace of its own writes the numbers that it has
    there; the table has the system's. Where two threads bear the same, the younger is meant.
    """
    numbers = _Numbers(events)
    rows: list[dict[str, Any]] = []
    unended: dict[tuple[int, int, str], list[int]] = {}
    for line in lines:
        if not _is_mark(line):
            continue
        pid, tid = numbers.of(line)
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


class _Numbers:
    """Which numbers the system gave to a thread that wrote those of its namespace."""

    def __init__(self, events: pl.DataFrame | None) -> None:
        self._lives: dict[tuple[int, int], list[tuple[int, int, tuple[int, int]]]] = {}
        if events is None:
            return
        death = pl.col("time_ns").filter(pl.col("kind") == TASK_KINDS.index("exit")).max()
        lives = (
            events.filter(pl.col("role") == ROLE_TARGET)
            .group_by("pid", "tid", "start_ns", "namespace_pid", "namespace_tid")
            .agg(end_ns=death.fill_null(FOR_EVER_NS))
            .sort("start_ns")
        )
        for life in lives.iter_rows(named=True):
            key = (life["namespace_pid"], life["namespace_tid"])
            span = (life["start_ns"], life["end_ns"], (life["pid"], life["tid"]))
            self._lives.setdefault(key, []).append(span)

    def of(self, line: Line) -> tuple[int, int]:
        """The system's (pid, tid); as written, where no thread that lived then is known."""
        written = (line["pid"], line["tid"])
        for start_ns, end_ns, numbers in reversed(self._lives.get(written, [])):
            if start_ns <= line["time_ns"] <= end_ns:
                return numbers
        return written


def _is_mark(line: Line) -> bool:
    numbers = (line.get("time_ns"), line.get("pid"), line.get("tid"))
    return (
        isinstance(line.get("name"), str)
        and line.get("event") in ("begin", "end")
        and all(isinstance(number, int) for number in numbers)
    )


def runner_operations(phased: pl.DataFrame) -> pl.DataFrame:
    """Table `gpu_ops` of a runner without a GPU: each ended phase ``run`` is an operation."""
    rows = phased.filter((pl.col("name") == RUN_PHASE) & pl.col("end_ns").is_not_null())
    return conform(
        "gpu_ops",
        rows.select(
            "start_ns",
            "end_ns",
            "pid",
            "tid",
            device=pl.lit(RUNNER_DEVICE),
            kind=pl.lit(RUN_PHASE),
            source=pl.lit("runner"),
        ),
    )
