"""A client's trace file (CVMFS_TRACEFILE) as tables: calls of the client and the files they name.

One line per call: time in milliseconds since 1970, code of the call, path in the repository, and a
word, each in quotation marks. It holds no reads, threads, durations or results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from ..tables import Part
from .client_log import ClientLog
from .log_blocks import lines_of

LINE = re.compile(rb'"\d+(?:\.\d+)?","-?\d+","')
FUNCTIONS = {
    1: "cvmfs_open", 2: "cvmfs_opendir", 3: "cvmfs_readlink", 4: "cvmfs_lookup",
    5: "cvmfs_statfs", 6: "cvmfs_getattr", 7: "cvmfs_listxattr", 8: "cvmfs_getxattr",
}  # fmt: skip
_FIELDS = (
    r'^"(?<whole>\d{1,13})(?:\.(?<fraction>\d{1,6}))?","(?<code>-?\d{1,9})","(?<path>.*)","[^"]*"$'
)


class TraceFile(ClientLog):
    """One trace file."""

    kind = "trace file"
    precision_ns = 1_000  # the fraction of a millisecond has three digits

    def tables(self) -> Iterator[Part]:
        for lines in self._blocks():
            yield "daemon_calls", self._calls_of(_parsed(lines))
        yield "files", self._files.table()
        yield "mounts", self._files.mount()

    def _calls_of(self, rows: pl.DataFrame) -> pl.DataFrame:
        good = rows.drop_nulls(["time_ns", "code"]).with_columns(
            start_ns=pl.col("time_ns") - self._start_utc_ns
        )
        calls = good.filter(pl.col("code").is_in(list(FUNCTIONS)))
        marks = good.filter(pl.col("code") < 0)  # of the tracer itself
        self.bad_lines += rows.height - calls.height - marks.height
        self._extend_to(good["start_ns"])
        return self._daemon_calls(
            calls.select(
                "start_ns",
                function=pl.col("code").replace_strict(FUNCTIONS, return_dtype=pl.String),
                file_id=self._files.numbers(calls["path"].replace("", "/")),
            )
        )


def first_time_ns(block: bytes) -> int | None:
    """Return the time of the first line in nanoseconds since 1970, None where it has none."""
    times = _parsed(lines_of(block[: block.rfind(b"\n") + 1] or block))["time_ns"].drop_nulls()
    return int(times[0]) if len(times) else None


def _parsed(lines: pl.Series) -> pl.DataFrame:
    """A row for every line: time_ns?, code?, path."""
    fields = lines.str.extract_groups(_FIELDS).struct.unnest()
    nanoseconds = pl.col("fraction").fill_null("0").str.pad_end(6, "0").cast(pl.Int64)
    return fields.select(
        time_ns=pl.col("whole").cast(pl.Int64) * 1_000_000 + nanoseconds,
        code=pl.col("code").cast(pl.Int32, strict=False),
        path=pl.col("path").fill_null("").str.replace_all('""', '"', literal=True),
    )
