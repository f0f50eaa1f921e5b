"""Table `phases`: the parts of the command that its threads named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from ..run.journal import Line
from ..tables import conform
from .host_ids import HostIds


def phases(lines: Sequence[Line], events: pl.DataFrame | None = None) -> pl.DataFrame:
    """Pair begins and ends; an end closes the innermost open phase of its name and thread.

    An end without a begin is dropped. ``events``: TASK records. A thread in a pid namespace writes
    the pid and tid it has there; the table has those of the host. Where two threads had the same,
    the younger one is taken.
    """
    host_ids = HostIds(events)
    rows: list[dict[str, Any]] = []
    unended: dict[tuple[int, int, str], list[int]] = {}
    for line in lines:
        if not _is_mark(line):
            continue
        pid, tid = host_ids.of(line["pid"], line["tid"], line["time_ns"])
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


def _is_mark(line: Line) -> bool:
    integers = (line.get("time_ns"), line.get("pid"), line.get("tid"))
    return (
        isinstance(line.get("name"), str)
        and line.get("event") in ("begin", "end")
        and all(isinstance(number, int) for number in integers)
    )
