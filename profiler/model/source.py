"""A model file, read in small pieces at offsets; every read is checked against the file's end.

Read with pread, not mmap: truncating a mapped file raises SIGBUS.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Literal

#: the longest piece read at once; a header of 100,000 tensors has 12 MiB
MAX_PIECE_BYTES = 16 << 20
_WINDOW_BYTES = 16 << 10

Order = Literal["<", ">"]


class Unreadable(Exception):
    """A header cannot be read; why, in words that follow the file's path."""


class Source:
    """A file that is open for reading; ``size_bytes`` is its size when it was opened."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self.size_bytes = size_bytes
        self._window = b""
        self._window_start = 0

    def piece(self, offset: int, size: int) -> bytes:
        """The bytes at an offset. Raises Unreadable where the file ends before, or for too many."""
        if offset + size > self.size_bytes:
            raise Unreadable(f"ends before byte {offset + size:,}, which its header needs")
        if size > MAX_PIECE_BYTES:
            raise Unreadable(f"has a header of {size:,} bytes: over {MAX_PIECE_BYTES >> 20} MiB")
        start = offset - self._window_start
        if start < 0 or start + size > len(self._window):
            self._window = os.pread(self._descriptor, max(size, _WINDOW_BYTES), offset)
            self._window_start, start = offset, 0
        found = self._window[start : start + size]
        if len(found) < size:
            raise Unreadable("was cut off while it was read")
        return found

    def number(self, offset: int, kind: Literal["I", "Q"], order: Order = "<") -> int:
        """An unsigned number of 4 (I) or 8 (Q) bytes."""
        found: int
        (found,) = struct.unpack(f"{order}{kind}", self.piece(offset, 4 if kind == "I" else 8))
        return found


@contextmanager
def opened(path: str) -> Generator[Source | None]:
    """Open a regular file; None for anything else. Raises OSError.

    A FIFO or device that took the place of the file meanwhile does not block.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            with suppress(OSError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            yield Source(descriptor, status.st_size)
        else:
            yield None
    finally:
        os.close(descriptor)
