"""Reads of which no program on their system call saw the entry, or the end: what a kernel that
preempts programs may do to a few is done to all. The function that serves the reads must tell them.

Runs in a guest: a recorder in this process that lacks one attach point.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cvmprof.probes import catalog, events
from cvmprof.profiler.record import recorder

#: what is read: offsets, and one byte more at each
OFFSETS = tuple(range(0, 11 * 8192, 8192))
POINTS = ("sys_enter", "sys_exit")


def reads_without(skipped: str, file: Path, directory: Path) -> dict[str, Any]:
    """The reads, as offset, size and result, that were recorded without a point, and the losses."""
    directory.mkdir(parents=True)
    names = (recorder.JOURNAL, *recorder.spool_files())
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
    with _events_without(skipped):
        files = {name: os.open(directory / name, flags) for name in names}
        recording = recorder.Recorder({"every_read": True}, files)
        recording.trace(os.getpid())
        reader = threading.Thread(target=_read, args=(file,))  # known from its beginning
        reader.start()
        reader.join()
        ended = recording.stop(was_asked=True)
    return {"reads": _recorded(directory), "losses": ended["losses"]}


@contextmanager
def _events_without(skipped: str) -> Generator[None]:
    changed: Any = catalog
    every = catalog.EVENTS
    points = (each for each in every[0].alternatives[0] if each.target != skipped)
    changed.EVENTS = (replace(every[0], alternatives=(tuple(points),)), *every[1:])
    try:
        yield
    finally:
        changed.EVENTS = every


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
