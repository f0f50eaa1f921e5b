"""Table `phases`, and what phases named ``run`` tell of a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from .journal import Line
from .tables import conform

#: the runner's name for one inference: without a GPU these calls stand for the device
RUN_PHASE = "run"
RUNNER_DEVICE = "runner"


def phases(lines: Sequence[Line]) -> pl.DataFrame:
    """Pair begins and ends: per thread the innermost open phase of the name ends. An end alone is
    dropped.
    """
    rows: list[dict[str, Any]] = []
    unended: dict[tuple[int, int, str], list[int]] = {}
    for line in lines:
        if not _is_mark(line):
            continue
        stack = unended.setdefault((line["pid"], line["tid"], line["name"]), [])
        if line["event"] == "begin":
            stack.append(len(rows))
            rows.append({"name": line["name"], "start_ns": line["time_ns"], "end_ns": None,
                         "pid": line["pid"], "tid": line["tid"]})  # fmt: skip
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
            "start_ns", "end_ns", "pid", "tid",
            device=pl.lit(RUNNER_DEVICE), kind=pl.lit(RUN_PHASE), source=pl.lit("runner"),
        ),
    )  # fmt: skip
