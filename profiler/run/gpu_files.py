"""What the library that CUDA's driver loads wrote in each process, as it stands in the spool.

The command's user may have written anything there: nothing but plain files is read, and no more of
them than a recording holds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ...probes.events import GPU_RECORD
from .decode import plain_frame
from .journal import Line, json_lines

MOST_PROCESSES = 4096
#: of one process: a name for each of 65,536 kernels, 1 kB long
MOST_LINE_BYTES = 64 << 20
#: of one process: 56 million records
MOST_RECORD_BYTES = 4 << 30


@dataclass(frozen=True)
class GpuProcess:
    """What one process wrote: GPU_RECORD records, and lines about them (`probes/injection`)."""

    records: pl.DataFrame
    lines: tuple[Line, ...]

    def of(self, kind: str) -> list[Line]:
        """The lines of one kind."""
        return [line for line in self.lines if line.get("kind") == kind]


def gpu_processes(directory: Path) -> list[GpuProcess]:
    """The processes that wrote anything, by the names of their files."""
    return [
        GpuProcess(
            plain_frame(_content(records, MOST_RECORD_BYTES), GPU_RECORD),
            tuple(json_lines(_content(records.with_suffix(".lines"), MOST_LINE_BYTES))),
        )
        for records in _record_files(directory)
    ]


def _record_files(directory: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    ending = ".records"
    found = [name for name in names if name.endswith(ending)][:MOST_PROCESSES]
    yield from (directory / name for name in found)


def _content(path: Path, most_bytes: int) -> bytes:
    """A plain file's bytes, up to ``most_bytes``; none of anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes)
    finally:
        os.close(descriptor)
