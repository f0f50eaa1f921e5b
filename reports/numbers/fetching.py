"""Fetches of objects: how many, how they overlapped, the slowest, and what a download takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ..material import IS_FILE_DATA, Frames, Window, file_names
from .running import download_times
from .servers import Server, servers, with_server
from .sums import count_of, total

SLOWEST_CHUNKS = 30
#: parts of a fetch that are without the time in which its client was stopped: see `download_times`
_RUNNING = {"first_byte": "to_first_byte_ns", "transfer": "in_transfer_ns"}


@dataclass(frozen=True)
class Fetches:
    """Waits of the daemon for objects; ``busy_ns`` is time with at least one in progress.

    Of ``chunks_downloaded``, ``files_downloaded`` are files that are not chunked, and of
    ``unsized`` the size is not known, so ``unpacked_bytes`` is without them.
    ``mean_at_once`` is the mean number of fetches in progress while there is any: 1 is one after
    another.
    """

    downloaded: int
    joined: int
    failed: int
    unfinished: int
    chunks_downloaded: int
    unpacked_bytes: int
    summed_ns: int
    busy_ns: int
    most_at_once: int
    files_downloaded: int = 0
    unsized: int = 0
    mean_at_once: float = field(init=False)

    def __post_init__(self) -> None:
        mean = self.summed_ns / self.busy_ns if self.busy_ns else 0.0
        object.__setattr__(self, "mean_at_once", mean)


@dataclass(frozen=True)
class Chunk:
    """A fetch of an object of a file. ``parts_ns`` lacks the parts that are not known, and the time
    in which the client was stopped.
    """

    fetch_id: int
    path: str | None
    offset_bytes: int | None
    size_bytes: int | None
    wire_bytes: int | None
    object_hash: str
    kind: str | None
    outcome: str | None
    start_ns: int
    duration_ns: int
    parts_ns: dict[str, int]


@dataclass(frozen=True)
class Took:
    """Medians over so many ``downloads``, and means of the two times; None where there is none.
    ``bytes_per_s`` is of those that did not come whole with their first bytes.
    """

    first_byte_ns: int | None
    transfer_ns: int | None
    bytes_per_s: float | None
    downloads: int
    mean_first_byte_ns: int | None = field(default=None, kw_only=True)
    mean_transfer_ns: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class TookFrom(Took):
    """The same of what came from one server."""

    server: Server


@dataclass(frozen=True)
class Latency(Took):
    """What the downloads of chunks and files took that arrived and were seen completely.

    ``body_bytes`` came for the ``unpacked_bytes`` of these objects. ``servers``: the same by server
    or proxy, the one with the most downloads first.
    """

    reused_connections: int
    body_bytes: int = 0
    unpacked_bytes: int = 0
    servers: tuple[TookFrom, ...] = ()


def _overlap(intervals: pl.DataFrame) -> tuple[int, int, int]:
    """Return the summed time, the time with any in progress, and the most in progress at once."""
    edges = (
        pl.concat(
            [
                intervals.select(time="start_ns", step=pl.lit(1)),
                intervals.select(time="end_ns", step=pl.lit(-1)),
            ]
        )
        .sort("time", "step")
        .with_columns(depth=pl.col("step").cum_sum())
    )
    lasting = pl.col("time").shift(-1) - pl.col("time")
    busy = edges.select(lasting.filter(pl.col("depth") > 0).sum()).item()
    summed = intervals.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item()
    most = edges.select(pl.col("depth").max()).item()
    return int(summed or 0), int(busy or 0), int(most or 0)


def fetch_summary(fetches: pl.DataFrame, window: Window) -> Fetches:
    """Return the fetches by outcome and how much they overlapped.

    Overlap is that of downloaded chunks and files: a joined fetch only waits for one of those.
    """
    outcome = pl.col("outcome")
    downloaded = fetches.filter((outcome == "downloaded") & IS_FILE_DATA)
    ended = downloaded.with_columns(pl.col("end_ns").fill_null(window.end_ns))
    summed, busy, most = _overlap(ended)
    return Fetches(
        downloaded=count_of(fetches, outcome == "downloaded"),
        joined=count_of(fetches, outcome == "joined"),
        failed=count_of(fetches, outcome == "failed"),
        unfinished=count_of(fetches, outcome.is_null()),
        chunks_downloaded=downloaded.height,
        unpacked_bytes=total(downloaded, "unpacked_bytes"),
        summed_ns=summed,
        busy_ns=busy,
        most_at_once=most,
        unsized=count_of(downloaded, pl.col("unpacked_bytes").is_null()),
        files_downloaded=count_of(downloaded, pl.col("object_kind") == "file"),
    )


def _with_downloads(frames: Frames) -> pl.DataFrame:
    downloads = download_times(frames).select(
        "download_id",
        *_RUNNING.values(),
        "wire_bytes",
        "queued_ns",
        "sent_ns",
        "first_byte_ns",
        "last_byte_ns",
        "committed_ns",
    )
    return (
        frames["fetches"]
        .join(downloads, on="download_id", how="left")
        .join(file_names(frames), on="file_id", how="left")
    )


def slowest_chunks(
    frames: Frames, window: Window, count: int = SLOWEST_CHUNKS
) -> tuple[Chunk, ...]:
    """Return the ``count`` longest fetches of chunks and files, the longest first."""
    ended = pl.col("end_ns").fill_null(window.end_ns)
    rows = (
        _with_downloads(frames)
        .filter(IS_FILE_DATA | pl.col("object_kind").is_null())
        .drop_nulls("object_hash")
        .with_columns(duration_ns=ended - pl.col("start_ns"))
        .sort("duration_ns", "fetch_id", descending=[True, False])
        .head(count)
    )
    return tuple(_chunk(row) for row in rows.iter_rows(named=True))


def _chunk(row: Mapping[str, Any]) -> Chunk:
    times = [
        row["start_ns"],
        row["sent_ns"],
        row["first_byte_ns"],
        row["last_byte_ns"],
        row["committed_ns"],
    ]
    names = ("before_request", "first_byte", "transfer", "commit")
    own = row["outcome"] == "downloaded"
    parts = {
        name: end - start
        for name, start, end in zip(names, times, times[1:], strict=False)
        if own and start is not None and end is not None and end >= start
    }
    parts |= {name: row[column] for name, column in _RUNNING.items() if name in parts}
    return Chunk(
        fetch_id=row["fetch_id"],
        path=row["path"],
        offset_bytes=row["offset_bytes"],
        size_bytes=row["unpacked_bytes"],
        wire_bytes=row["wire_bytes"] if own else None,
        object_hash=row["object_hash"],
        kind=row["object_kind"],
        outcome=row["outcome"],
        start_ns=row["start_ns"],
        duration_ns=row["duration_ns"],
        parts_ns=parts,
    )


def latency(frames: Frames) -> Latency:
    """Return what a download of a chunk or file takes while its client runs."""
    arrived = frames["fetches"].filter(IS_FILE_DATA & (pl.col("outcome") == "downloaded"))
    of_files = arrived["download_id"].drop_nulls().unique()
    seen = pl.all_horizontal(pl.col("sent_ns", "first_byte_ns", "last_byte_ns").is_not_null())
    downloads = download_times(frames).filter(
        pl.col("download_id").is_in(of_files.implode()) & seen
    )
    body = pl.col("wire_bytes") - pl.col("header_bytes").fill_null(0)
    return Latency(
        **_took(downloads),
        reused_connections=total(downloads, "reused"),
        body_bytes=total(downloads.select(body=body), "body"),
        unpacked_bytes=total(
            arrived.unique("download_id").join(downloads, on="download_id", how="semi"),
            "unpacked_bytes",
        ),
        servers=_by_server(downloads),
    )


def _took(downloads: pl.DataFrame) -> dict[str, Any]:
    """The fields of `Took`."""
    first, transfer = pl.col("to_first_byte_ns"), pl.col("in_transfer_ns")
    rate = pl.col("wire_bytes") * 1e9 / transfer
    times = downloads.select(
        first_byte_ns=first.median(),
        transfer_ns=transfer.median(),
        mean_first_byte_ns=first.mean(),
        mean_transfer_ns=transfer.mean(),
    ).row(0, named=True)
    rounded = {name: None if ns is None else round(ns) for name, ns in times.items()}
    speed = downloads.select(rate.filter(transfer > 0).median()).item()
    return {**rounded, "bytes_per_s": speed, "downloads": downloads.height}


def _by_server(downloads: pl.DataFrame) -> tuple[TookFrom, ...]:
    named = with_server(downloads)
    found = [
        TookFrom(**_took(named.filter(pl.col("server") == server.name)), server=server)
        for server in servers(downloads)
    ]
    return tuple(sorted(found, key=lambda each: -each.downloads))
