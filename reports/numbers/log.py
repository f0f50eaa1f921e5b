"""The numbers of a run that was imported from a client's log: counts, objects, order.

No durations: a log's times are too coarse for them, and its lines do not name their threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import polars as pl

from ..material import Frames, Window, file_names

MOST_FETCHES = 300
_MOST_BARS = 600
#: what is counted over time
SERIES = ("calls", "cache hits", "cache misses", "downloads")


@dataclass(frozen=True)
class Imported:
    """Where the run comes from, how exact its times are, and what the log says.

    ``calls`` by function; ``lookups_hit`` and ``lookups_missed`` of the client's cache;
    ``hosts``: downloads by host; ``fetched``: the first fetches, in order.
    """

    kind: str
    file: str
    precision_ns: int
    lines: int
    calls: dict[str, int]
    lookups_hit: int
    lookups_missed: int
    files_named: int
    hosts: dict[str, int]
    fetched: tuple[dict[str, Any], ...]

    @property
    def precision(self) -> str:
        """How exact the times are, in words."""
        return "whole seconds" if self.precision_ns >= 1_000_000_000 else "microseconds"


def imported_of(meta: Mapping[str, Any], frames: Frames) -> Imported | None:
    """Return the numbers of an imported run; None where the run was recorded."""
    described: object = meta.get("imported")
    if not isinstance(described, dict):
        return None
    log = cast("dict[str, Any]", described)
    lookups, hit = frames["cache_lookups"], pl.col("hit")
    return Imported(
        kind=str(log.get("kind", "log")),
        file=str(log.get("file", "")),
        precision_ns=int(log.get("precision_ns") or 1_000_000_000),
        lines=int(log.get("lines") or 0),
        calls=_numbers(frames["daemon_calls"], "function"),
        lookups_hit=lookups.filter(hit).height,
        lookups_missed=lookups.filter(~hit).height,
        files_named=frames["files"].height,
        hosts=_numbers(frames["downloads"], "host"),
        fetched=_fetched(frames),
    )


def _numbers(frame: pl.DataFrame, column: str) -> dict[str, int]:
    counted = frame.group_by(column).len().sort("len", column, descending=[True, False])
    return {str(name): int(number) for name, number in counted.iter_rows()}


def _fetched(frames: Frames) -> tuple[dict[str, Any], ...]:
    downloads = frames["downloads"].select("download_id", "host", "proxy", "status", "attempt")
    rows = (
        frames["fetches"]
        .sort("fetch_id")
        .head(MOST_FETCHES)
        .join(downloads, on="download_id", how="left", maintain_order="left")
        .join(file_names(frames), on="file_id", how="left", maintain_order="left")
    )
    return tuple(
        rows.select(
            "fetch_id",
            "start_ns",
            "object_hash",
            "object_kind",
            "outcome",
            "path",
            "host",
            "proxy",
            "status",
            "attempt",
        ).to_dicts()
    )


def bar_ns(window: Window, precision_ns: int) -> int:
    """Return the time that a bar stands for: no less than the precision of the times."""
    least = max(precision_ns, 1_000_000)
    return least * max(-(-window.duration_ns // (least * _MOST_BARS)), 1)


def counts_over_time(frames: Frames, window: Window, width_ns: int) -> dict[str, pl.DataFrame]:
    """Return bar and number for each of ``SERIES`` that has any; bar 0 begins with the window."""
    lookups, hit = frames["cache_lookups"], pl.col("hit")
    times = (
        frames["daemon_calls"]["start_ns"],
        lookups.filter(hit)["start_ns"],
        lookups.filter(~hit)["start_ns"],
        frames["downloads"]["sent_ns"],
    )
    return {
        name: pl.DataFrame({"bar": (each - window.start_ns) // width_ns})
        .group_by("bar")
        .agg(number=pl.len())
        .sort("bar")
        for name, each in zip(SERIES, times, strict=True)
        if len(each)
    }
