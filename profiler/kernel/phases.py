"""Table `phases`: the parts of the command that its threads named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from ..run.journal import Line
from ..tables import conform, table
from .host_ids import HostIds


def phases(lines: Sequence[Line], events: pl.DataFrame | None = None) -> pl.DataFrame:
    """Pair begins and ends; an end closes the innermost open phase of its name and thread.

    An end without a begin is dropped. So is a phase that was marked for a framework inside one of
    its name: the program had named that call itself.

    ``events``: TASK records. A thread in a pid namespace writes the pid and tid it has there; the
    table has those of the host. Where two threads had the same, the younger one is taken.
    """
    host_ids = HostIds(events)
    rows: list[dict[str, Any]] = []
    unended: dict[tuple[int, int, str], list[int | None]] = {}
    for line in lines:
        if not _is_mark(line):
            continue
        pid, tid = host_ids.of(line["pid"], line["tid"], line["time_ns"])
        stack = unended.setdefault((pid, tid, line["name"]), [])
        if line["event"] == "end":
            row = stack.pop() if stack else None
            if row is not None:
                rows[row]["end_ns"] = line["time_ns"]
        elif stack and line.get("framework") is not None:
            stack.append(None)
        else:
            stack.append(len(rows))
            rows.append(_begun(line, pid, tid))
    frame = pl.DataFrame(rows, schema=table("phases").schema(), orient="row")
    return conform("phases", frame.sort("start_ns"))


def _begun(line: Line, pid: int, tid: int) -> dict[str, Any]:
    return {
        "name": line["name"],
        "start_ns": line["time_ns"],
        "end_ns": None,
        "pid": pid,
        "tid": tid,
        "framework": line.get("framework"),
    }


def _is_mark(line: Line) -> bool:
    integers = (line.get("time_ns"), line.get("pid"), line.get("tid"))
    return (
        isinstance(line.get("name"), str)
        and isinstance(line.get("framework"), str | None)
        and line.get("event") in ("begin", "end")
        and all(isinstance(number, int) for number in integers)
    )
