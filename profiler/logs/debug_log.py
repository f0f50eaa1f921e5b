"""A client's debug log (CVMFS_DEBUGLOG) as tables: calls, lookups, fetches, downloads.

A message begins with the part of the client that wrote it and ends with its time, in whole seconds
of the local time zone; it does not name the thread. So the order of the lines and what each names
are known, but not to which call a line belongs, unless it names an object that one thread at a time
handles: the client downloads an object once, and two lines begin and end that download.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import polars as pl

from ...probes.events import TOUCH_BUCKET_NS, TOUCH_GRANULE_BYTES
from ..run.hashes import hash_of_path
from ..tables import Part, conform, empty
from .client_log import ClientLog
from .debug_fetches import NO_STEPS, fetch_steps, read_fetches

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
#: lines that are used; the rest, such as each piece of data that came in, are skipped
_USED = (
    r"^\((?:cvmfs\) cvmfs_|cache\) |lru\) insert inode --> path|quota\) lru cl|download\) |"
    r"talk\) s|curl\) \{header/in\} HTTP)|^User-Agent"
)


@dataclass
class _Frames:
    """Frames of blocks, kept until the log has been read."""

    lookups: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    touches: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    steps: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    evictions: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])


class DebugLog(ClientLog):
    """One debug log, its times in the zone of an IANA name."""

    kind = "debug log"
    precision_ns = 1_000_000_000

    def __init__(self, file: IO[bytes], start_utc_ns: int, zone: str) -> None:
        super().__init__(file, start_utc_ns)
        self._zone = zone
        self._files_by_inode: dict[int, int] = {}
        self._frames = _Frames()
        self._version: str | None = None
        self._repository: str | None = None
        self._cache: str | None = None
        self._is_inside_message = False  # one of several lines, at the end of a block

    def tables(self) -> Iterator[Part]:
        for lines in self._blocks():
            yield "daemon_calls", self._read(lines)
        yield "cache_lookups", _all("cache_lookups", self._frames.lookups)
        yield "touches", self._touches()
        yield "incidents", _all("incidents", self._frames.evictions)
        steps = pl.concat(self._frames.steps) if self._frames.steps else NO_STEPS
        fetching = read_fetches(steps, self._files)
        yield "fetches", fetching.fetches
        yield "downloads", fetching.downloads
        self.unnamed_waits = fetching.unnamed_waits
        yield "files", self._files.table()
        repository = self._repository or fetching.repository
        yield "mounts", self._files.mount(repository, self._version, self._cache)

    def _read(self, lines: pl.Series) -> pl.DataFrame:
        self._count_bad(lines)
        text = lines.filter(lines.str.contains(_USED))
        ends = text.str.extract_groups(_TIME).struct.unnest()
        messages = pl.DataFrame(
            {
                "text": text.str.replace(r"    \[[^\[\]]*\]$", ""),
                "start_ns": local_ns(ends["time"], self._zone) - self._start_utc_ns,
            }
        ).with_columns(pl.col("start_ns").forward_fill().fill_null(self.end_ns))
        self._extend_to(messages["start_ns"])
        self._learn(messages["text"])
        self._frames.lookups.append(self._lookups(messages))
        self._frames.evictions.append(_evictions(messages))
        self._frames.steps.append(fetch_steps(messages))
        return self._calls_of(messages)

    def _count_bad(self, lines: pl.Series) -> None:
        """Count lines behind the end of a message that begin none, or before its end that do."""
        begins, ends = lines.str.contains(_BEGINS), lines.str.contains(_TIME)
        is_outside = ends.shift(1, fill_value=not self._is_inside_message)
        self.bad_lines += int((begins != is_outside).sum())
        self._is_inside_message = bool(len(ends)) and not ends[-1]

    def _learn(self, text: pl.Series) -> None:
        """Take in what the client reports about itself, and the inodes of paths."""
        self._version = _first(text.str.extract(_VERSION, 1), self._version)
        self._repository = _first(text.str.extract(_REPOSITORY, 1), self._repository)
        paths = text.str.extract_groups(_PATH).struct.unnest().drop_nulls()
        inodes = paths["inode"].cast(pl.UInt64, strict=False)
        self._files_by_inode.update(self._files.number_inodes(inodes, paths["path"]))

    def _lookups(self, messages: pl.DataFrame) -> pl.DataFrame:
        lookups = (
            messages.with_columns(pl.col("text").str.extract_groups(_LOOKUP).struct.unnest())
            .drop_nulls("how")
            .with_columns(object_hash=hash_of_path(pl.col("path")))
            .drop_nulls("object_hash")
        )
        if lookups.height and self._cache is None:
            self._cache = str(lookups["path"][0]).rsplit("/", 2)[0]
        return lookups.select(
            "start_ns",
            "object_hash",
            mount_id=pl.lit(0),
            pid=pl.lit(0),
            tid=pl.lit(0),
            hit=pl.col("how") == "hit",
        )

    def _calls_of(self, messages: pl.DataFrame) -> pl.DataFrame:
        calls = messages.with_columns(
            pl.col("text").str.extract_groups(_CALL).struct.unnest()
        ).filter(
            pl.col("call").is_not_null() & ~pl.col("text").str.contains(", path ", literal=True)
        )
        inodes = calls["inode"].cast(pl.UInt64, strict=False)
        files = inodes.replace_strict(self._files_by_inode, default=None, return_dtype=pl.Int32)
        of_files = calls.with_columns(file_id=files, function=pl.format("cvmfs_{}", "call"))
        self._frames.touches.append(_touches_by(of_files))
        return self._daemon_calls(of_files.select("start_ns", "function", "file_id"))

    def _touches(self) -> pl.DataFrame:
        """Where files were read. The log prints offsets with 32 bits: a file that has a negative
        one is larger, so that its offsets are ambiguous, and is left out.
        """
        if not self._frames.touches:
            return empty("touches")
        touches = pl.concat(self._frames.touches)
        unambiguous = touches.filter(pl.col("granule").min().over("file_id") >= 0)
        summed = _summed(unambiguous, granule=pl.col("granule"))
        return conform("touches", summed.with_columns(pages_mapped=0, pages_inserted=0))


def _touches_by(calls: pl.DataFrame) -> pl.DataFrame:
    reads = (
        calls.drop_nulls("file_id")
        .with_columns(pl.col("text").str.extract_groups(_READ).struct.unnest())
        .drop_nulls("size")
        .select(
            "file_id",
            pl.col("start_ns") // TOUCH_BUCKET_NS * TOUCH_BUCKET_NS,
            offset=pl.col("offset").cast(pl.Int64),
            bytes_read=pl.col("size").cast(pl.Int64),
        )
    )
    return _summed(reads, granule=pl.col("offset") // TOUCH_GRANULE_BYTES)


def _evictions(messages: pl.DataFrame) -> pl.DataFrame:
    evicted = messages.with_columns(hash=pl.col("text").str.extract(_EVICTED, 1))
    return evicted.drop_nulls("hash").select(
        time_ns="start_ns",
        kind=pl.lit("eviction"),
        mount_id=pl.lit(0),
        detail=pl.format("{} was removed from the client's cache", "hash"),
    )


def _summed(reads: pl.DataFrame, granule: pl.Expr) -> pl.DataFrame:
    return (
        reads.group_by("file_id", granule.alias("granule"), "start_ns")
        .agg(pl.col("bytes_read").sum())
        .sort("file_id", "start_ns", "granule")
    )


def _all(name: str, parts: list[pl.DataFrame]) -> pl.DataFrame:
    return conform(name, pl.concat(parts)) if parts else empty(name)


def _first(texts: pl.Series, default: str | None) -> str | None:
    """The first text that is not null."""
    return next(iter(texts.drop_nulls()), default)


def local_ns(times: pl.Series, zone: str) -> pl.Series:
    """Return local times as nanoseconds since 1970; the earlier where the clock was set back."""
    local = times.str.to_datetime("%m-%d-%Y %H:%M:%S", strict=False, time_unit="ns")
    zoned = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return zoned.dt.epoch("ns")
