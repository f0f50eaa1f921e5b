"""Copying a kernel ring buffer to a file without looking at its events.

The ring (Documentation/bpf/ringbuf.rst) is mapped as the kernel lays it out: a page with the
consumer's position, a page with the producer's, and the data mapped twice in a row, so that every
span is contiguous. All records of a ring have one size, so the busy bits of a whole span are one
strided column of bytes.
"""

from __future__ import annotations

import mmap
import os
import time

from ...probes.events import PAGE, Layout

_BUSY = b"\x80"  # bit 31 of the record's length, in its last byte


class Ring:
    """One ring and the spool file that its bytes go to."""

    def __init__(self, map_fd: int, layout: Layout, spool_fd: int) -> None:
        self.layout = layout
        self.map_fd = map_fd
        self.spooled = 0  # records
        self.dropped = 0  # records that could not be written
        self.failure: OSError | None = None
        size, page = layout.ring_pages * PAGE, mmap.PAGESIZE
        self._spool_fd = spool_fd
        self._mask = size - 1
        read, write, shared = mmap.PROT_READ, mmap.PROT_WRITE, mmap.MAP_SHARED
        self._consumer_page = mmap.mmap(map_fd, page, shared, read | write)
        self._ring = mmap.mmap(map_fd, page + 2 * size, shared, read, offset=page)
        # native 64-bit loads and stores, since the kernel uses these positions at the same time
        self._consumer = memoryview(self._consumer_page).cast("Q")
        self._producer = memoryview(self._ring)[:8].cast("Q")
        self._data = memoryview(self._ring)[page:]

    def drain(self) -> memoryview | None:
        """Move all finished records to the spool. Returns their span, valid until the next call, or
        None if there are none. It ends before a record that is still being written.
        """
        position, end = self._consumer[0], self._producer[0]
        if position == end:
            return None
        start = position & self._mask
        span = self._data[start : start + (end - position)]
        busy = span[3 :: self.layout.stride].tobytes().find(_BUSY)
        if busy == 0:
            return None
        if busy > 0:
            span = span[: busy * self.layout.stride]
        self._write(span)
        self._consumer[0] = position + len(span)
        return span

    def skip(self) -> None:
        """Leave out what is in it; nothing may be writing to it."""
        self._consumer[0] = self._producer[0]

    def drain_all(self) -> None:
        """Drain until everything produced before the call is spooled, for at most a second: a
        record may stay busy.
        """
        end, deadline_ns = self._producer[0], time.monotonic_ns() + 1_000_000_000
        while self._consumer[0] < end and time.monotonic_ns() < deadline_ns:
            self.drain()

    def _write(self, span: memoryview) -> None:
        records = len(span) // self.layout.stride
        if self.failure is not None:
            self.dropped += records
            return
        written = 0
        try:
            while written < len(span):
                written += os.write(self._spool_fd, span[written:])
        except OSError as error:  # a full disk: keep draining, count what is lost
            self.failure = error
        kept = written // self.layout.stride  # a torn record at the end does not count
        self.spooled += kept
        self.dropped += records - kept

    def __len__(self) -> int:
        """Bytes waiting in the ring."""
        return int(self._producer[0] - self._consumer[0])
