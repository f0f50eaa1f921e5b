"""What a recording kept of devices, read from its spool without the tables: no polars is needed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvmprof.probes import events
from cvmprof.probes.gpu import GPU_RECORD_KINDS, call_kind
from cvmprof.profiler.record.names import ring_file
from cvmprof.profiler.run.directory import JOURNAL, SPOOL_DIRECTORY

from .activity import Activity, Operation

_KINDS = {"kernel": "kernel", "graph": "kernel", "memset": "memset",
          "copy_in": "copy", "copy_out": "copy", "copy_device": "copy"}  # fmt: skip


@dataclass(frozen=True)
class OfCupti:
    """What the injected library wrote, of all processes. ``calls`` are counted by what they do."""

    activity: Activity
    calls: Counter[str]
    dropped: int
    troubles: tuple[str, ...]
    processes: tuple[dict[str, Any], ...]


def read_cupti(run: Path) -> OfCupti:
    """The files of the injected library; empty if there are none."""
    directory = run / SPOOL_DIRECTORY / "gpu"
    lines = [line for path in sorted(directory.glob("*.lines")) for line in _lines(path)]
    operations, calls = list[Operation](), Counter[str]()
    for path in sorted(directory.glob("*.records")):
        names = {line["number"]: line["text"] for line in _lines(path.with_suffix(".lines"))
                 if line["kind"] == "name"}  # fmt: skip
        for kind, name, *rest in _records(path):
            if kind == "call":
                calls[call_kind(names.get(name, "")) or "other"] += 1
            else:
                operations.append(Operation(_KINDS[kind], *rest))
    return OfCupti(
        Activity(tuple(operations)),
        calls,
        sum(line["count"] for line in lines if line["kind"] == "dropped"),
        tuple(line["text"] for line in lines if line["kind"] == "trouble"),
        tuple(line for line in lines if line["kind"] == "process"),
    )


@dataclass(frozen=True)
class OfApi:
    """Calls that uprobes saw, by what they do; whether launches were watched all the time."""

    calls: Counter[str]
    watched: bool


def read_api(run: Path) -> OfApi:
    """The rings of the uprobes on libcuda."""
    calls = Counter[str]()
    for function, count in _in_ring(run, events.GPU_LAUNCHES, "function", "count"):
        calls[call_kind(events.GPU_FUNCTIONS[function]) or "other"] += count
    for (function,) in _in_ring(run, events.GPU_CALL, "function"):
        calls[call_kind(events.GPU_FUNCTIONS[function]) or "other"] += 1
    lines = _lines(run / JOURNAL)
    return OfApi(calls, all(line["watched"] for line in lines if line["kind"] == "launches"))


def _records(path: Path) -> Iterator[tuple[Any, ...]]:
    """Kind, number of the name, device, start_ns, end_ns, bytes."""
    layout, data = events.GPU_RECORD, memoryview(path.read_bytes())
    for start in range(0, len(data) - layout.size + 1, layout.size):
        record = data[start : start + layout.size]
        kind, *rest = layout.read(record, "kind", "name", "device", "start_ns", "end_ns", "bytes")
        yield (GPU_RECORD_KINDS[kind], *rest)


def _in_ring(run: Path, layout: events.Layout, *names: str) -> Iterator[tuple[int, ...]]:
    path = run / SPOOL_DIRECTORY / ring_file(layout)
    data = memoryview(path.read_bytes() if path.exists() else b"")
    return (layout.read(record, *names) for record in layout.records(data))


def _lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines; one that was cut off is left out."""
    lines = list[dict[str, Any]]()
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
