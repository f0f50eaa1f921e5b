"""The spool of a run as frames: rings, and what was in flight when recording stopped.

Every file may be missing or torn: the recorder may have been killed, a probe may not exist on this
kernel. Frames have the fields of their layout in `probes.events`; a time of 0 still means that it
has not happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ...probes import events
from ...probes.events import Layout
from .decode import plain_frame, plain_records, records_frame, ring_frame
from .directory import (
    CPU_SAMPLES,
    GPU_DIRECTORY,
    GPU_SAMPLES,
    JOURNAL,
    PHASES,
    SOCKET_SAMPLES,
    SPOOL_DIRECTORY,
    TENSORS,
)
from .gpu_files import GpuProcess, gpu_processes
from .journal import Journal, Line, json_lines, parse_journal
from .plain_files import open_plain

#: a record in a ring and an open one are the same where these fields agree
_KEYS = {
    "operation": ("tid", "start_ns", "kind"),
    "hit": ("tid", "start_ns", "kind"),
    "blocked": ("tid", "start_ns"),
    "request": ("dev", "unique", "queued_ns"),
    "call": ("tid", "start_ns", "function"),
    "download": ("pid", "fd", "socket", "connect_ns", "sequence", "sent_ns", "flags"),
    "gpu_call": ("tid", "start_ns"),
    "gpu_launches": ("tid", "first_ns", "function"),
}


@dataclass(frozen=True)
class Spool:
    """The raw part of a run directory."""

    run: Path

    @property
    def path(self) -> Path:
        """The directory ``spool``."""
        return self.run / SPOOL_DIRECTORY

    def ring(self, layout: Layout) -> pl.DataFrame:
        """The records of one ring, without those in flight."""
        handle = open_plain(self.path / f"{layout.name}.ring")
        if handle is None:
            return ring_frame(None, layout)
        with handle:
            return ring_frame(handle, layout)

    def operations(self) -> pl.DataFrame:
        """OPERATION records; ``end_ns`` 0 for those in flight."""
        open_ones = [
            self._of_threads("operation").filter(pl.col("start_ns") != 0),
            self._of_threads("fault").filter(pl.col("start_ns") != 0),
        ]
        return _joined(self.ring(events.OPERATION), pl.concat(open_ones), "operation")

    def hits(self) -> pl.DataFrame:
        """HIT records."""
        runs = self._of_threads("hit")
        unflushed = runs.filter((pl.col("count") != 0) | (pl.col("empty") != 0))
        return _joined(self.ring(events.HIT), unflushed, "hit")

    def blocked(self) -> pl.DataFrame:
        """BLOCKED records; ``end_ns`` 0 for threads still off the CPU."""
        still_blocked = self._of_threads("blocked").filter(pl.col("start_ns") != 0)
        return _joined(self.ring(events.BLOCKED), still_blocked, "blocked")

    def cpu_waits(self) -> pl.DataFrame:
        """CPU_WAIT records."""
        return self.ring(events.CPU_WAIT)

    def requests(self) -> pl.DataFrame:
        """REQUEST records; ``end_ns`` 0 for those in flight."""
        return self._ring_and_open(events.REQUEST)

    def calls(self) -> pl.DataFrame:
        """CALL records; ``end_ns`` 0 for those not yet returned."""
        return self._ring_and_open(events.CALL)

    def downloads(self) -> pl.DataFrame:
        """DOWNLOAD records; the last one of each connection is normally an open one."""
        return self._ring_and_open(events.DOWNLOAD)

    def socket_samples(self) -> pl.DataFrame:
        """SOCKET_SAMPLE records."""
        return plain_frame(_bytes(self.path / SOCKET_SAMPLES), events.SOCKET_SAMPLE)

    def gpu_samples(self) -> pl.DataFrame:
        """GPU_SAMPLE records."""
        return plain_frame(_bytes(self.path / GPU_SAMPLES), events.GPU_SAMPLE)

    def work(self) -> pl.DataFrame:
        """WORK records, without what is in progress."""
        return self.ring(events.WORK)

    def served(self) -> pl.DataFrame:
        """SERVED records."""
        return self.ring(events.SERVED)

    def cache_files(self) -> pl.DataFrame:
        """CACHE_FILE records."""
        return self.ring(events.CACHE_FILE)

    def tasks(self) -> pl.DataFrame:
        """TASK records."""
        return self.ring(events.TASK)

    def files(self) -> pl.DataFrame:
        """FILE records."""
        return self.ring(events.FILE)

    def failures(self) -> pl.DataFrame:
        """FAILURE records."""
        return self.ring(events.FAILURE)

    def gpu_calls(self) -> pl.DataFrame:
        """GPU_CALL records; ``end_ns`` 0 for those that never returned."""
        return self._ring_and_open(events.GPU_CALL)

    def gpu_launches(self) -> pl.DataFrame:
        """GPU_LAUNCHES records."""
        return self._ring_and_open(events.GPU_LAUNCHES)

    def gpu_processes(self) -> list[GpuProcess]:
        """What the injected library wrote in each process."""
        return gpu_processes(self.path / GPU_DIRECTORY)

    def touches(self) -> pl.DataFrame:
        """TOUCH_KEY and TOUCH records side by side; a key may occur twice."""
        keys = plain_frame(_bytes(self.path / "touches.keys.bin"), events.TOUCH_KEY)
        values = plain_frame(_bytes(self.path / "touches.values.bin"), events.TOUCH)
        length = min(keys.height, values.height)
        return pl.concat([keys.head(length), values.head(length)], how="horizontal")

    def phase_lines(self) -> Iterator[Line]:
        """The lines that the program's phases wrote."""
        return json_lines(_bytes(self.path / PHASES))

    def cpu_lines(self) -> list[Line]:
        """The samples of quotas and of the machine's CPUs."""
        return list(json_lines(_bytes(self.path / CPU_SAMPLES)))

    def tensor_lines(self) -> list[Line]:
        """The lines on files that hold tensors."""
        return list(json_lines(_bytes(self.path / TENSORS)))

    def journal(self) -> Journal:
        """The journal. Raises BadRun where it comes from a newer cvmprof."""
        return parse_journal(_bytes(self.run / JOURNAL))

    def _ring_and_open(self, layout: Layout) -> pl.DataFrame:
        open_ones = plain_frame(_bytes(self.path / f"open.{layout.name}.bin"), layout)
        return _joined(self.ring(layout), open_ones, layout.name)

    def _of_threads(self, member: str) -> pl.DataFrame:
        layout = {field.name: field.type for field in events.THREAD.fields}[member]
        assert isinstance(layout, Layout)
        threads = plain_records(_bytes(self.path / "open.thread.bin"), events.THREAD)
        return records_frame(threads[member], layout)


def _joined(ended: pl.DataFrame, open_ones: pl.DataFrame, name: str) -> pl.DataFrame:
    """Both, without those open ones that ended after they were flushed: the ring has them too."""
    if not open_ones.height:
        return ended
    still_open = open_ones.join(ended.select(_KEYS[name]), on=_KEYS[name], how="anti")
    return pl.concat([ended, still_open])


def _bytes(path: Path) -> bytes:
    file = open_plain(path)
    if file is None:
        return b""
    with file:
        return file.readall()
