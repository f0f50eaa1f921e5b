"""A client's debug log (CVMFS_DEBUGLOG) as tables: calls, lookups, fetches, downloads.

A message ends in its time, in whole seconds of the local time zone, and says by which part of the
client it was written, but not by which thread. So the order is known and what each line names;
which call a line belongs to is not, unless the line names an object that only one thread handles at
once: the client downloads an object once, and its lines begin and end that download.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import polars as pl

from ..kernel.operations import BUCKET_NS
from ..run.hashes import hash_of_path
from ..tables import Part, conform, empty
from . import debug_fetches
from .log_blocks import blocks, lines_of
from .named_files import NamedFiles

PRECISION_NS = 1_000_000_000
_TIME = r"    \[(?<time>\d\d-\d\d-\d{4} \d\d:\d\d:\d\d) (?<zone>[A-Za-z0-9+-]{1,8})\]$"
LINE = re.compile(_TIME.replace("?<", "?P<").encode(), re.MULTILINE)
_BEGINS = r"^\([a-z]+\) "
_CALL = (
    r"^\(cvmfs\) cvmfs_(?<call>[a-z]+)(?: \(stat\))? (?:on|in parent|for)? ?"
    r"inode:? (?<inode>\d+)"
)
_READ = r"^\(cvmfs\) cvmfs_read inode: \d+ reading (?<size>\d+) bytes from offset (?<offset>-?\d+) "
_LOOKUP = r"^\(cache\) (?<how>hit|miss) (?<path>/\S+)"
_PATH = r"^\(lru\) insert inode --> path (?<inode>\d+) -> '(?<path>.*)'$"
_EVICTED = r"^\(quota\) lru cleanup (?<hash>[0-9a-f]{40}(?:-\w+)?)"
_VERSION = r"^User-Agent: cvmfs Fuse (\S+)"
_REPOSITORY = r"^\(talk\) socket created at \S*cvmfs_io\.(\S+) \("
#: what is kept of a log: the rest, such as each piece of data that came in, is passed over
_KEPT = (
    r"^\((?:cvmfs\) cvmfs_|cache\) |lru\) insert inode --> path|quota\) lru cl|download\) |"
    r"talk\) s|curl\) \{header/in\} HTTP)|^User-Agent"
)
_GRANULE_BYTES = 1 << 20


@dataclass
class _Kept:
    """What is kept until the log has been read."""

    lookups: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    touches: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    steps: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    evicted: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])


class DebugLog:
    """One debug log, read once from its beginning; its counts hold when it has been read."""

    kind = "debug log"
    precision_ns = PRECISION_NS

    def __init__(self, file: IO[bytes], start_utc_ns: int, zone: str) -> None:
        self._file = file
        self._start_utc_ns = start_utc_ns
        self._zone = zone
        self._calls = 0
        self._files = NamedFiles()
        self._by_inode: dict[int, int] = {}
        self._kept = _Kept()
        self._about: dict[str, str] = {}
        self._is_inside = False  # of a message of several lines
        self.end_ns = 0
        self.bad_lines = 0
        self.unnamed = 0
        self.lines = 0

    def tables(self) -> Iterator[Part]:
        """Yield the tables, `daemon_calls` in parts of bounded size."""
        for block in blocks(self._file):
            yield "daemon_calls", self._read(block)
        yield "cache_lookups", _all("cache_lookups", self._kept.lookups)
        yield "touches", self._touches()
        yield "incidents", _all("incidents", self._kept.evicted)
        steps = pl.concat(self._kept.steps) if self._kept.steps else debug_fetches.NO_STEPS
        found = debug_fetches.read(steps, self._files)
        yield "fetches", found.fetches
        yield "downloads", found.downloads
        self.unnamed = found.unnamed
        yield "files", self._files.table()
        yield (
            "mounts",
            self._files.mount(
                self._about.get("repository") or found.repository,
                self._about.get("version"),
                self._about.get("cache"),
            ),
        )

    def _read(self, block: bytes) -> pl.DataFrame:
        lines = lines_of(block)
        self._count(lines)
        text = lines.filter(lines.str.contains(_KEPT))
        ends = text.str.extract_groups(_TIME).struct.unnest()
        messages = pl.DataFrame(
            {
                "text": text.str.replace(r"    \[[^\[\]]*\]$", ""),
                "start_ns": local_ns(ends["time"], self._zone) - self._start_utc_ns,
            }
        ).with_columns(pl.col("start_ns").forward_fill().fill_null(self.end_ns))
        self.end_ns = max(self.end_ns, _latest(messages))
        self._learn(messages)
        self._keep(messages)
        return self._calls_of(messages)

    def _count(self, lines: pl.Series) -> None:
        """Counts what is no line of a message: behind one that has ended, or instead of its end."""
        begins, ends = lines.str.contains(_BEGINS), lines.str.contains(_TIME)
        before = ends.shift(1, fill_value=not self._is_inside)
        self.bad_lines += int(((~begins & before) | (begins & ~before)).sum())
        self.lines += len(lines)
        self._is_inside = bool(len(ends)) and not ends[-1]

    def _learn(self, messages: pl.DataFrame) -> None:
        text = messages["text"]
        for name, pattern in (("version", _VERSION), ("repository", _REPOSITORY)):
            found = text.str.extract(pattern, 1).drop_nulls()
            if len(found):
                self._about[name] = found[0]
        paths = text.str.extract_groups(_PATH).struct.unnest().drop_nulls()
        inodes = paths["inode"].cast(pl.UInt64, strict=False)
        self._by_inode.update(self._files.number_inodes(inodes, paths["path"]))

    def _keep(self, messages: pl.DataFrame) -> None:
        looked = (
            messages.with_columns(pl.col("text").str.extract_groups(_LOOKUP).struct.unnest())
            .drop_nulls("how")
            .with_columns(object_hash=hash_of_path(pl.col("path")))
        )
        named = looked.drop_nulls("object_hash")
        if named.height:
            self._about.setdefault("cache", str(named["path"][0]).rsplit("/", 2)[0])
        lookups = named.select(
            "start_ns",
            "object_hash",
            mount_id=pl.lit(0),
            pid=pl.lit(0),
            tid=pl.lit(0),
            hit=pl.col("how") == "hit",
        )
        evicted = messages.with_columns(hash=pl.col("text").str.extract(_EVICTED, 1))
        incidents = evicted.drop_nulls("hash").select(
            time_ns="start_ns",
            kind=pl.lit("eviction"),
            mount_id=pl.lit(0),
            detail=pl.format("{} was removed from the client's cache", "hash"),
        )
        self._kept.lookups.append(lookups)
        self._kept.evicted.append(incidents)
        self._kept.steps.append(debug_fetches.steps(messages))

    def _calls_of(self, messages: pl.DataFrame) -> pl.DataFrame:
        calls = messages.with_columns(
            pl.col("text").str.extract_groups(_CALL).struct.unnest()
        ).filter(
            pl.col("call").is_not_null() & ~pl.col("text").str.contains(", path ", literal=True)
        )
        inodes = calls["inode"].cast(pl.UInt64, strict=False)
        numbers = inodes.replace_strict(self._by_inode, default=None, return_dtype=pl.Int32)
        self._keep_touches(calls.with_columns(file_id=numbers))
        frame = calls.select(
            "start_ns",
            call_id=pl.int_range(pl.len(), dtype=pl.Int32) + self._calls,
            mount_id=pl.lit(0),
            function=pl.format("cvmfs_{}", "call"),
            pid=pl.lit(0),
            tid=pl.lit(0),
            file_id=numbers,
        )
        self._calls += frame.height
        return conform("daemon_calls", frame)

    def _keep_touches(self, calls: pl.DataFrame) -> None:
        reads = (
            calls.drop_nulls("file_id")
            .with_columns(pl.col("text").str.extract_groups(_READ).struct.unnest())
            .drop_nulls("size")
            .select(
                "file_id",
                pl.col("start_ns") // BUCKET_NS * BUCKET_NS,
                offset=pl.col("offset").cast(pl.Int64),
                bytes_read=pl.col("size").cast(pl.Int64),
            )
        )
        self._kept.touches.append(_summed(reads, granule=pl.col("offset") // _GRANULE_BYTES))

    def _touches(self) -> pl.DataFrame:
        """What was read where. Offsets are printed with 32 bits: those of a file that shows a
        negative one have lost their upper part, and say nothing.
        """
        if not self._kept.touches:
            return empty("touches")
        whole = pl.concat(self._kept.touches)
        known = whole.filter(pl.col("granule").min().over("file_id") >= 0)
        summed = _summed(known, granule=pl.col("granule"))
        return conform("touches", summed.with_columns(pages_mapped=0, pages_inserted=0))


def _summed(reads: pl.DataFrame, granule: pl.Expr) -> pl.DataFrame:
    return (
        reads.group_by("file_id", granule.alias("granule"), "start_ns")
        .agg(pl.col("bytes_read").sum())
        .sort("file_id", "start_ns", "granule")
    )


def _all(name: str, parts: list[pl.DataFrame]) -> pl.DataFrame:
    return conform(name, pl.concat(parts)) if parts else empty(name)


def _latest(messages: pl.DataFrame) -> int:
    latest = messages["start_ns"].max()
    return int(latest) if isinstance(latest, int) else 0


def local_ns(times: pl.Series, zone: str) -> pl.Series:
    """Nanoseconds since 1970 of times of a zone; in the hour that a clock set back has twice, the
    earlier.
    """
    local = times.str.to_datetime("%m-%d-%Y %H:%M:%S", strict=False, time_unit="ns")
    there = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return there.dt.epoch("ns")
