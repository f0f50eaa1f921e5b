"""A client's trace file (CVMFS_TRACEFILE) as tables: calls of the client and the files named.

One line per call: time in milliseconds since 1970, code of the call, path in the repository, and a
word, each in quotation marks. There are no reads, no threads, no durations and no results in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

import polars as pl

from ..tables import Part, conform
from .log_blocks import blocks, lines_of
from .named_files import NamedFiles

#: the fraction of a millisecond has three digits
PRECISION_NS = 1_000
LINE = re.compile(rb'"\d+(?:\.\d+)?","-?\d+","')
FUNCTIONS = {
    1: "cvmfs_open", 2: "cvmfs_opendir", 3: "cvmfs_readlink", 4: "cvmfs_lookup",
    5: "cvmfs_statfs", 6: "cvmfs_getattr", 7: "cvmfs_listxattr", 8: "cvmfs_getxattr",
}  # fmt: skip
_FIELDS = (
    r'^"(?<whole>\d{1,13})(?:\.(?<fraction>\d{1,6}))?","(?<code>-?\d{1,9})","(?<path>.*)","[^"]*"$'
)


class TraceFile:
    """One trace file, read once from its beginning; its counts hold when it has been read."""

    kind = "trace file"
    precision_ns = PRECISION_NS

    def __init__(self, file: IO[bytes], start_utc_ns: int) -> None:
        self._file = file
        self._start_utc_ns = start_utc_ns
        self._calls = 0
        self._files = NamedFiles()
        self.end_ns = 0
        self.bad_lines = 0
        self.unnamed = 0
        self.lines = 0

    def tables(self) -> Iterator[Part]:
        """Yield the tables, `daemon_calls` in parts of bounded size."""
        for block in blocks(self._file):
            yield "daemon_calls", self._calls_of(block)
        yield "files", self._files.table()
        yield "mounts", self._files.mount()

    def _calls_of(self, block: bytes) -> pl.DataFrame:
        rows = _parsed(block)
        self.lines += rows.height
        good = rows.filter(pl.col("time_ns").is_not_null() & pl.col("code").is_not_null())
        known = pl.col("code").is_in(list(FUNCTIONS))
        self.bad_lines += rows.height - good.filter(known | (pl.col("code") < 0)).height
        self.end_ns = max(self.end_ns, _last(good) - self._start_utc_ns)
        calls = good.filter(known)
        frame = calls.select(
            call_id=pl.int_range(pl.len(), dtype=pl.Int32) + self._calls,
            mount_id=pl.lit(0),
            function=pl.col("code").replace_strict(FUNCTIONS, return_dtype=pl.String),
            pid=pl.lit(0),
            tid=pl.lit(0),
            start_ns=pl.col("time_ns") - self._start_utc_ns,
            file_id=self._files.numbers(calls["path"].replace("", "/")),
        )
        self._calls += frame.height
        return conform("daemon_calls", frame)


def first_time_ns(block: bytes) -> int | None:
    """The time of the first line in nanoseconds since 1970, or None."""
    times = _parsed(block[: block.rfind(b"\n") + 1] or block)["time_ns"].drop_nulls()
    return int(times[0]) if len(times) else None


def _last(rows: pl.DataFrame) -> int:
    latest = rows["time_ns"].max()
    return int(latest) if isinstance(latest, int) else 0


def _parsed(block: bytes) -> pl.DataFrame:
    """Columns time_ns?, code?, path, a row for every line."""
    found = lines_of(block).str.extract_groups(_FIELDS).struct.unnest()
    nanoseconds = pl.col("fraction").fill_null("0").str.pad_end(6, "0").cast(pl.Int64)
    return found.select(
        time_ns=pl.col("whole").cast(pl.Int64) * 1_000_000 + nanoseconds,
        code=pl.col("code").cast(pl.Int32, strict=False),
        path=pl.col("path").fill_null("").str.replace_all('""', '"', literal=True),
    )
