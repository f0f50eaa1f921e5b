"""Reads of which no program on their system call saw the entry, or the end: what a kernel that
preempts programs may do to a few is done to all. The function that serves the reads must tell them.

Run in a guest by the recorder's interpreter: FILE DIRECTORY POINT. Leaves in DIRECTORY what was
recorded without POINT of reads of FILE. Python 3.9, standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from cvmprof.probes import catalog, events
from cvmprof.profiler.record import recorder
from cvmprof.profiler.record.names import JOURNAL, spool_files

#: what is read: offsets, and one byte more at each
OFFSETS = tuple(range(0, 11 * 8192, 8192))
POINTS = ("sys_enter", "sys_exit")


def main(file: Path, directory: Path, skipped: str) -> None:
    """Records in this very process."""
    directory.mkdir()
    names = (JOURNAL, *spool_files())
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
    files = {name: os.open(directory / name, flags) for name in names}
    _leave_out(skipped)
    recording = recorder.Recorder({"every_read": True}, files)
    recording.trace(os.getpid())
    reader = threading.Thread(target=_read, args=(file,))  # known from its beginning
    reader.start()
    reader.join()
    losses = recording.stop(was_asked=True)["losses"]
    result = {"reads": _recorded(directory), "losses": losses}
    (directory / "result.json").write_text(json.dumps(result))
    os._exit(0)  # as the recorder does: the kernel takes off what was attached


def _leave_out(point: str) -> None:
    changed: Any = catalog
    calls, *others = catalog.EVENTS
    points = tuple(each for each in calls.alternatives[0] if each.target != point)
    assert len(points) == len(calls.alternatives[0]) - 1, point
    changed.EVENTS = (replace(calls, alternatives=(points,)), *others)


def _read(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    for index, offset in enumerate(OFFSETS, 1):
        os.pread(descriptor, index, offset)
    os.close(descriptor)


def _recorded(directory: Path) -> list[list[int]]:
    blob = (directory / f"{events.OPERATION.name}.ring").read_bytes()
    starts = range(events.RING_HEADER_BYTES, len(blob), events.OPERATION.stride)
    kind = events.OPERATION_KINDS.index("read")
    reads = (blob[at:] for at in starts if blob[at + events.OPERATION.offset("kind")] == kind)
    return [[_s64(each, name) for name in ("offset", "size", "result")] for each in reads]


def _s64(record: bytes, name: str) -> int:
    at = events.OPERATION.offset(name)
    return int.from_bytes(record[at : at + 8], "little", signed=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
