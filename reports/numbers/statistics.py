"""A run in numbers, computed once; the terminal, JSON and the page all render these.

Every figure comes from the run's tables. Times are integer nanoseconds and end in ``_ns``, sizes in
``_bytes``; a share is between 0 and 1. ``as_json`` keeps these names: they are stable.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import polars as pl

from ...profiler.tables import CVMFS_CAUSES
from ..material import FUSE_READ, Frames, Material, Window, file_names
from .contention import Collisions, collisions, own_fetches
from .failures import Failures, failures
from .log import Imported, imported_of
from .network import Network, network

SLOWEST_CHUNKS = 30
SLOWEST_STALLS = 50
MAX_PHASES = 24


@dataclass(frozen=True)
class Outcome:
    """How the command ended: an exit code, a signal, or neither when that was not seen."""

    exit_code: int | None
    signal: int | None
    complete: bool


@dataclass(frozen=True)
class Fetches:
    """Waits of the daemon for objects; ``busy_ns`` is time with at least one in progress."""

    downloaded: int
    joined: int
    failed: int
    unfinished: int
    chunks_downloaded: int
    unpacked_bytes: int
    summed_ns: int
    busy_ns: int
    most_at_once: int

    @property
    def mean_at_once(self) -> float:
        """Fetches in progress at once, on average while there is any: 1 is one after another."""
        return self.summed_ns / self.busy_ns if self.busy_ns else 0.0


@dataclass(frozen=True)
class Phase:
    """A phase and what its thread's time went to, wakers followed.

    ``fetches`` are those that it waited for. ``page_cache_ns`` is the part of ``cpu`` that
    ``page_cache_hits`` reads and page faults took, which came from the page cache and were only
    counted. ``times`` is 1, or how many phases of this name stand together because there are many.
    """

    name: str
    pid: int
    tid: int
    start_ns: int
    end_ns: int | None
    duration_ns: int
    causes_ns: dict[str, int]
    page_cache_hits: int
    page_cache_ns: int
    fetches: Fetches
    times: int

    @property
    def title(self) -> str:
        """The name, with how many phases of that name stand together here."""
        return self.name if self.times == 1 else f"{self.name} ×{self.times:,}"

    @property
    def cvmfs_ns(self) -> int:
        """Time that waited for CVMFS."""
        return sum(ns for cause, ns in self.causes_ns.items() if cause in CVMFS_CAUSES)


@dataclass(frozen=True)
class Bytes:
    """Where bytes came from; ``by_source`` is operations' results by class, hits included."""

    over_http: int
    unpacked: int
    by_source: dict[str, int]


@dataclass(frozen=True)
class Chunk:
    """A fetch of an object of a file, with the parts of its time (absent where unknown)."""

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
class Latency:
    """Medians over the downloads of chunks and files; null where none was seen whole."""

    first_byte_ns: int | None
    transfer_ns: int | None
    bytes_per_s: float | None
    downloads: int
    reused_connections: int


@dataclass(frozen=True)
class Stall:
    """An idle gap of a device and what it waited for."""

    stall_id: int
    device: str
    start_ns: int
    end_ns: int
    waiting_tid: int
    causes_ns: dict[str, int]


@dataclass(frozen=True)
class Stalls:
    """All stalls together, and the longest."""

    count: int
    total_ns: int
    causes_ns: dict[str, int]
    longest: tuple[Stall, ...]


@dataclass(frozen=True)
class Statistics:
    """A run in numbers."""

    command: tuple[str, ...]
    started_utc_ns: int | None
    start_ns: int
    duration_ns: int
    outcome: Outcome
    kernel: str
    cvmprof_version: str
    counts: dict[str, int]
    phases: tuple[Phase, ...]
    fetches: Fetches
    failures: Failures
    bytes: Bytes
    latency: Latency
    network: Network
    chunks_known: int
    chunks_looked_up: int
    chunks_cached_at_start: int
    slowest_chunks: tuple[Chunk, ...]
    collisions: Collisions
    fetched_for_no_request: int
    stalls: Stalls
    unfinished: tuple[str, ...]
    incidents: tuple[dict[str, Any], ...]
    losses: tuple[dict[str, Any], ...]
    probes: tuple[dict[str, Any], ...]
    mounts: tuple[dict[str, Any], ...]
    reconciliation: tuple[dict[str, Any], ...]
    imported: Imported | None = None

    @property
    def lost(self) -> int:
        """Events lost, all probes together."""
        return sum(int(loss["count"]) for loss in self.losses)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers for ``json.dumps``; the keys are the fields' names."""
        plain = dataclasses.asdict(self)
        plain["lost"] = self.lost
        plain["fetches"]["mean_at_once"] = self.fetches.mean_at_once
        for phase, written in zip(self.phases, plain["phases"], strict=True):
            written["cvmfs_ns"] = phase.cvmfs_ns
        return plain


def _total(frame: pl.DataFrame, column: str) -> int:
    return int(frame[column].sum() or 0)


def _count(frame: pl.DataFrame, condition: pl.Expr) -> int:
    return frame.filter(condition).height


def counts(frames: Frames) -> dict[str, int]:
    """Return how many operations of each kind, hits, requests and downloads there were, and the
    hits' time.
    """
    operations, requests = frames["operations"], frames["fuse_requests"]
    by_kind = operations.group_by(pl.col("kind").cast(pl.String)).len().sort("kind")
    return {
        "operations": operations.height,
        **{f"operations_{kind}": number for kind, number in by_kind.iter_rows()},
        "page_cache_hits": _total(frames["hits"], "count"),
        "page_cache_ns": _total(frames["hits"], "ns"),
        "fuse_requests": requests.height,
        "fuse_reads": _count(requests, pl.col("opcode") == FUSE_READ),
        "cache_lookups": frames["cache_lookups"].height,
        "downloads": frames["downloads"].height,
        "download_errors": _count(frames["downloads"], pl.col("status") >= 400),
        "target_threads": _count(frames["tasks"], pl.col("role").cast(pl.String) == "target"),
    }


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
    """Return the fetches by outcome and how far they overlapped.

    Concurrency counts downloaded chunks and files only: those that joined wait for one of them.
    """
    outcome = pl.col("outcome")
    data = pl.col("object_kind").is_in(["chunk", "file"])
    downloaded = fetches.filter((outcome == "downloaded") & data)
    ended = downloaded.with_columns(pl.col("end_ns").fill_null(window.end_ns))
    summed, busy, most = _overlap(ended)
    return Fetches(
        downloaded=_count(fetches, outcome == "downloaded"),
        joined=_count(fetches, outcome == "joined"),
        failed=_count(fetches, outcome == "failed"),
        unfinished=_count(fetches, outcome.is_null()),
        chunks_downloaded=downloaded.height,
        unpacked_bytes=_total(downloaded, "unpacked_bytes"),
        summed_ns=summed,
        busy_ns=busy,
        most_at_once=most,
    )


def _with_downloads(frames: Frames) -> pl.DataFrame:
    downloads = frames["downloads"].select(
        "download_id",
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
    data = pl.col("object_kind").cast(pl.String).is_in(["chunk", "file"])
    ended = pl.col("end_ns").fill_null(window.end_ns)
    rows = (
        _with_downloads(frames)
        .filter(data | pl.col("object_kind").is_null())
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
    """Return the medians of what a download of a chunk or file takes."""
    data = pl.col("object_kind").cast(pl.String).is_in(["chunk", "file"])
    wanted = frames["fetches"].filter(data)["download_id"].drop_nulls().unique()
    downloads = frames["downloads"].filter(pl.col("download_id").is_in(wanted.implode()))
    transfer = pl.col("last_byte_ns") - pl.col("first_byte_ns")
    rate = pl.col("wire_bytes") * 1e9 / transfer
    row = downloads.select(
        first=(pl.col("first_byte_ns") - pl.col("sent_ns")).median(),
        transfer=transfer.median(),
        rate=rate.filter(transfer > 0).median(),
        reused=pl.col("reused").sum(),
    ).row(0, named=True)
    return Latency(
        first_byte_ns=None if row["first"] is None else round(row["first"]),
        transfer_ns=None if row["transfer"] is None else round(row["transfer"]),
        bytes_per_s=row["rate"],
        downloads=downloads.height,
        reused_connections=int(row["reused"] or 0),
    )


def unfinished_operations(frames: Frames, count: int = 20) -> tuple[str, ...]:
    """Return in words the operations that never ended, the oldest first."""
    open_ones = (
        frames["operations"]
        .filter(pl.col("end_ns").is_null())
        .sort("start_ns")
        .head(count)
        .join(file_names(frames), on="file_id", how="left", maintain_order="left")
    )
    return tuple(
        f"{row['kind']} of {row['path'] or 'an unknown file'} by thread {row['tid']}"
        + ("" if row["offset_bytes"] is None else f" at offset {row['offset_bytes']}")
        for row in open_ones.iter_rows(named=True)
    )


def _by_cause(causes: pl.DataFrame) -> dict[str, int]:
    """Return ns by cause, the largest first."""
    summed = causes.group_by(pl.col("cause").cast(pl.String)).agg(pl.col("ns").sum())
    return dict(
        summed.filter(pl.col("ns") > 0).sort("ns", "cause", descending=[True, False]).iter_rows()
    )


def _causes_of(causes: pl.DataFrame, key: str) -> dict[int, dict[str, int]]:
    """Return ns by cause, the largest first, of each number in the column ``key``."""
    ordered = causes.filter(pl.col("ns") > 0).sort(
        "ns", pl.col("cause").cast(pl.String), descending=[True, False]
    )
    found: dict[int, dict[str, int]] = {}
    for number, cause, ns in ordered.select(key, "cause", "ns").iter_rows():
        found.setdefault(number, {})[cause] = ns
    return found


def phases(material: Material) -> tuple[Phase, ...]:
    """Return the phases in the order of their start; if many, those of one name as one."""
    spans = material.phases.with_row_index("place").with_columns(
        lasted=pl.col("end_ns").fill_null(material.window.end_ns) - pl.col("start_ns")
    )
    if spans.height > MAX_PHASES:
        groups = spans.partition_by("name", maintain_order=True)
        groups = sorted(groups, key=lambda same: -_total(same, "lasted"))[:MAX_PHASES]
    else:
        groups = spans.sort("start_ns").partition_by("place", maintain_order=True)
    return tuple(_phase(same, material) for same in groups)


def _phase(same: pl.DataFrame, material: Material) -> Phase:
    """Return the phase that these rows of phases are together."""
    row = same.row(0, named=True)
    mine = pl.col("phase").is_in(same["place"].implode())
    waited = material.phase_fetches.filter(mine)["fetch_id"].unique()
    fetches = material.frames["fetches"].filter(pl.col("fetch_id").is_in(waited.implode()))
    hits = material.phase_hits.filter(mine)
    return Phase(
        name=row["name"],
        pid=row["pid"],
        tid=row["tid"],
        start_ns=row["start_ns"],
        end_ns=None if same["end_ns"].has_nulls() else same.select(pl.col("end_ns").max()).item(),
        duration_ns=_total(same, "lasted"),
        causes_ns=_by_cause(material.phase_causes.filter(mine)),
        page_cache_hits=_total(hits, "count"),
        page_cache_ns=_total(hits, "ns"),
        fetches=fetch_summary(fetches, material.window),
        times=same.height,
    )


def stalls(material: Material, count: int = SLOWEST_STALLS) -> Stalls:
    """Return the stalls in all, and the ``count`` longest, longest first."""
    rows = material.frames["stalls"].with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    picked = rows.sort("ns", "stall_id", descending=[True, False]).head(count)
    shown = pl.col("stall_id").is_in(picked["stall_id"].implode())
    spent = _causes_of(material.stall_causes.filter(shown), "stall_id")
    found = tuple(
        Stall(
            row["stall_id"],
            row["device"],
            row["start_ns"],
            row["end_ns"],
            row["waiting_tid"],
            spent.get(row["stall_id"], {}),
        )
        for row in picked.iter_rows(named=True)
    )
    return Stalls(rows.height, _total(rows, "ns"), _by_cause(material.stall_causes), found)


def _outcome(meta: Mapping[str, Any]) -> Outcome:
    status = meta.get("exit_status")
    code = None if status is None else os.waitstatus_to_exitcode(int(status))
    complete = bool(meta.get("complete"))
    if code is None or code >= 0:
        return Outcome(code, None, complete)
    return Outcome(None, -code, complete)


def _command(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The command's words; none where the run does not say."""
    words: object = meta.get("command")
    return tuple(map(str, cast("list[object]", words))) if isinstance(words, list) else ()


def compute(material: Material) -> Statistics:
    """Return the run in numbers; of an imported one no durations, which its times cannot give."""
    measured = _measured(material)
    imported = imported_of(material.meta, material.frames)
    if imported is None:
        return measured
    fetches = dataclasses.replace(measured.fetches, summed_ns=0, busy_ns=0, most_at_once=0)
    return dataclasses.replace(measured, imported=imported, fetches=fetches, slowest_chunks=())


def _measured(material: Material) -> Statistics:
    frames, meta, window = material.frames, material.meta, material.window
    offset = meta.get("utc_offset_ns")
    fetched = fetch_summary(frames["fetches"], window)
    chunks = frames["chunks"]
    return Statistics(
        command=_command(meta),
        started_utc_ns=None if offset is None else window.start_ns + int(offset),
        start_ns=window.start_ns,
        duration_ns=window.duration_ns,
        outcome=_outcome(meta),
        kernel=str(meta.get("kernel", "")),
        cvmprof_version=str(meta.get("version", "")),
        counts=counts(frames),
        phases=phases(material),
        fetches=fetched,
        failures=failures(frames),
        bytes=Bytes(
            _total(frames["downloads"], "wire_bytes"),
            fetched.unpacked_bytes,
            dict(material.source_bytes.iter_rows()),
        ),
        latency=latency(frames),
        network=network(frames),
        chunks_known=chunks.height,
        chunks_looked_up=_count(chunks, pl.col("cached_at_start").is_not_null()),
        chunks_cached_at_start=_count(chunks, pl.col("cached_at_start").fill_null(value=False)),
        slowest_chunks=slowest_chunks(frames, window),
        collisions=collisions(frames),
        fetched_for_no_request=own_fetches(frames),
        stalls=stalls(material),
        unfinished=unfinished_operations(frames),
        incidents=tuple(frames["incidents"].sort("time_ns").head(100).to_dicts()),
        losses=tuple(frames["losses"].filter(pl.col("count") > 0).to_dicts()),
        probes=tuple(frames["probes"].to_dicts()),
        mounts=tuple(frames["mounts"].to_dicts()),
        reconciliation=tuple(frames["reconciliation"].to_dicts()),
    )
