"""What the library that CUDA's driver loads wrote in each process, as it stands in the spool.

The command's user may have written anything there: nothing but plain files is read, and no more of
them than a recording holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl

from ...probes.events import GPU_RECORD
from .decode import plain_frame
from .journal import Line, json_lines
from .plain_files import open_plain

MOST_PROCESSES = 4096
#: of all processes together: names of 65,536 kernels, 1 kB long
MOST_LINE_BYTES = 64 << 20
#: of all processes together; each takes 64 bytes of memory
MOST_RECORDS = 32_000_000
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class GpuProcess:
    """What one process wrote: GPU_RECORD records, and lines about them (`probes/injection`).

    ``unread``: how many more records there are.
    """

    records: pl.DataFrame
    lines: tuple[Line, ...]
    unread: int = 0

    def of(self, kind: str) -> list[Line]:
        """The lines of one kind."""
        return [line for line in self.lines if line.get("kind") == kind]


def gpu_processes(directory: Path) -> list[GpuProcess]:
    """The processes that wrote anything, by the names of their files."""
    processes = list[GpuProcess]()
    records_left, bytes_left = MOST_RECORDS, MOST_LINE_BYTES
    for path in _record_files(directory):
        content, size = _content(path, records_left * GPU_RECORD.size)
        text, _ = _content(path.with_suffix(".lines"), bytes_left)
        records = plain_frame(content, GPU_RECORD)
        unread = max(0, size // GPU_RECORD.size - records.height)
        processes.append(GpuProcess(records, tuple(json_lines(text)), unread))
        records_left, bytes_left = records_left - records.height, bytes_left - len(text)
    return processes


def _record_files(directory: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    ending = ".records"
    found = [name for name in names if name.endswith(ending)][:MOST_PROCESSES]
    yield from (directory / name for name in found)


def _content(path: Path, most_bytes: int) -> tuple[bytes, int]:
    """A plain file's bytes, up to ``most_bytes``, and its size; nothing of anything else."""
    try:
        file = open_plain(path)
    except OSError:
        file = None
    if file is None:
        return b"", 0
    with file:
        pieces = iter(partial(file.read, _PIECE_BYTES), b"")
        content = b"".join(islice(pieces, -(-most_bytes // _PIECE_BYTES)))[:most_bytes]
        return content, os.fstat(file.fileno()).st_size
