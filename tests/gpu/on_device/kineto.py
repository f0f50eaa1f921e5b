"""What torch's profiler says that a device did: its trace is JSON in Chrome's format."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .activity import Activity, Operation

#: its categories of operations of a device
_KINDS = {"kernel": "kernel", "gpu_memcpy": "copy", "gpu_memset": "memset"}


def read_trace(path: Path) -> Activity:
    """The operations in a trace that torch exported. Raises ValueError if it is none."""
    events = json.loads(path.read_text())["traceEvents"]
    return Activity(tuple(_operations(events)))


def write_trace(path: Path, operations: Iterable[dict[str, Any]]) -> None:
    """What the stand-ins logged, as torch would export it: for a rehearsal."""
    categories = {"kernel": "kernel", "graph": "kernel", "memset": "gpu_memset"}
    events = (
        {
            "ph": "X",
            "cat": categories.get(each["kind"], "gpu_memcpy"),
            "name": each["name"],
            "ts": each["start_ns"] / 1000,
            "dur": (each["end_ns"] - each["start_ns"]) / 1000,
            "args": {"device": each["device"], "bytes": each["bytes"]},
        }
        for each in operations
        if each["kind"] != "call"
    )
    path.write_text(json.dumps({"traceEvents": list(events)}))


def _operations(events: list[dict[str, Any]]) -> Iterable[Operation]:
    for event in events:
        kind = _KINDS.get(str(event.get("cat", "")).lower())
        if kind and event.get("ph") == "X":
            start_ns = round(1000 * float(event["ts"]))
            end_ns = start_ns + round(1000 * float(event["dur"]))
            arguments = event.get("args", {})
            device = int(arguments.get("device", 0))
            yield Operation(kind, device, start_ns, end_ns, int(arguments.get("bytes", 0)))
