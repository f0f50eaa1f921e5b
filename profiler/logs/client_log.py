"""What the logs of a client have in common: counted lines, numbered calls, a latest time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import IO, ClassVar

import polars as pl

from ..tables import Part, conform
from .log_blocks import blocks, lines_of
from .named_files import NamedFiles


class ClientLog(ABC):
    """One log, read once from its beginning. Its counts are final when `tables` has ended.

    ``end_ns`` is the latest time in it, from the start of the run; ``bad_lines`` are lines of
    unknown format, ``unnamed_waits`` waits for an object that the log does not name.
    """

    kind: ClassVar[str]
    precision_ns: ClassVar[int]

    def __init__(self, file: IO[bytes], start_utc_ns: int) -> None:
        self._file = file
        self._start_utc_ns = start_utc_ns
        self._files = NamedFiles()
        self._calls = 0
        self.end_ns = self.lines = self.bad_lines = self.unnamed_waits = 0

    @abstractmethod
    def tables(self) -> Iterator[Part]:
        """Yield the tables, `daemon_calls` in parts of bounded size."""

    def _blocks(self) -> Iterator[pl.Series]:
        """Yield the lines of one block after the other, and count them."""
        for block in blocks(self._file):
            lines = lines_of(block)
            self.lines += len(lines)
            yield lines

    def _extend_to(self, times_ns: pl.Series) -> None:
        """Move the end to the latest of these times."""
        latest = times_ns.max()
        if isinstance(latest, int):
            self.end_ns = max(self.end_ns, latest)

    def _daemon_calls(self, calls: pl.DataFrame) -> pl.DataFrame:
        """The table `daemon_calls` of ``calls``: start_ns, function, file_id?."""
        numbered = calls.with_columns(
            call_id=pl.int_range(pl.len(), dtype=pl.Int32) + self._calls,
            mount_id=pl.lit(0),
            pid=pl.lit(0),
            tid=pl.lit(0),
        )
        self._calls += calls.height
        return conform("daemon_calls", numbered)
