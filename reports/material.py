"""What a report is made from: a run's frames and the views of its causes, each computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from ..profiler.attribution import causes
from ..profiler.attribution.command_causes import command_causes, process_causes
from ..profiler.attribution.cpu_holders import LACKS_CPU
from ..profiler.attribution.own import own_tables
from ..profiler.attribution.page_cache import page_cache_bytes
from ..profiler.attribution.unwaited import behind_fetches, in_flight
from ..profiler.intervals import overlaps
from ..profiler.tables import HORIZON_NS, TABLES

Frames = Mapping[str, pl.DataFrame]

WHOLE_COMMAND = "whole command"
#: processes whose own time is shown
MAX_PROCESSES = 200
#: fetches of the content of files; the others are metadata of the repository
IS_FILE_DATA = pl.col("object_kind").cast(pl.String).is_in(["chunk", "file"])


@dataclass(frozen=True)
class Window:
    """The time shown: integer nanoseconds of CLOCK_MONOTONIC."""

    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """The length."""
        return self.end_ns - self.start_ns


def file_names(frames: Frames) -> pl.DataFrame:
    """Return file_id and path, named by mount and inode where no path is known."""
    inode = pl.format("inode {} on mount {}", "inode", "mount_id")
    return frames["files"].select("file_id", path=pl.coalesce("path", inode))


class RunLike(Protocol):
    """What reports need of a run; ``profiler.run.Run`` is one."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What meta.json says."""
        ...

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """The tables by name."""
        ...


@dataclass(frozen=True)
class Material:
    """A run's description, tables and views.

    ``frames``: the tables, of everybody who used the command's mounts; ``own``: of these only what
    is the command's own, see `own_tables`.
    ``phases``: the table, or one row for the first thread where the command marked none.
    ``command_causes``: the tiling of the command's wall time. ``process_causes``: of each
    process's, summed: pid, cause, ns, cvmfs_ns, fetch_ns, see `causes.spent`; ``thread_causes``: of
    all threads' lives, without pid; ``command_waits``: all threads' pieces of
    the tiling that waited for CVMFS, which may overlap; ``command_reads``: its asynchronous reads,
    see `unwaited.in_flight`; ``command_fetches``: fetch_id of each fetch that any thread
    waited for. Views that follow wakers: ``phase_causes``: phase (row of ``phases``), cause, ns;
    ``phase_waits``: phase, ns, cvmfs_ns, fetch_ns; ``phase_lacks``: phase and the pieces of its
    tiling without a CPU, see `cpu_holders`; ``phase_fetches``: phase, fetch_id of each fetch waited
    for; ``phase_hits``: phase, count, and ns of page-cache hits that is ``cpu`` time;
    ``stall_chains``: stall_id and its pieces of the tiling in the order of time, of whichever
    thread was followed to; ``stall_causes``: stall_id, cause, ns; ``phase_stalls``: phase, cause,
    ns of stalls within it, all devices together. ``page_cache``: see `page_cache_bytes`;
    ``source_bytes``: source, bytes supplied to reads.
    """

    meta: Mapping[str, Any]
    frames: Frames
    own: Frames
    window: Window
    phases: pl.DataFrame
    command_causes: pl.DataFrame
    process_causes: pl.DataFrame
    command_waits: pl.DataFrame
    command_reads: pl.DataFrame
    command_fetches: pl.DataFrame
    thread_causes: pl.DataFrame
    phase_causes: pl.DataFrame
    phase_waits: pl.DataFrame
    phase_lacks: pl.DataFrame
    phase_fetches: pl.DataFrame
    phase_hits: pl.DataFrame
    stall_chains: pl.DataFrame
    stall_causes: pl.DataFrame
    phase_devices: pl.DataFrame
    phase_stalls: pl.DataFrame
    page_cache: pl.DataFrame
    source_bytes: pl.DataFrame


def gather(run: RunLike) -> Material:
    """Return what reports need of ``run``. Raises BadRun where a table is damaged."""
    frames = {table.name: run.tables[table.name] for table in TABLES}
    window = _window(frames, run.meta)
    phases = _phases(frames, window)
    segments = frames["segments"]
    tiling = _phase_tiling(segments, phases)
    chains = _chains_of_stalls(frames)
    phase_devices = _phase_devices(phases, frames)
    page_cache = page_cache_bytes(frames)
    time = _own_time(frames)
    return Material(
        meta=run.meta,
        frames=frames,
        own=own_tables(frames),
        window=window,
        phases=phases,
        command_causes=time.command_causes,
        process_causes=time.process_causes,
        command_waits=time.command_waits,
        command_reads=time.command_reads,
        command_fetches=time.command_fetches,
        thread_causes=causes.spent(segments, "cause"),
        phase_causes=causes.interval_causes(tiling).rename({"interval": "phase"}),
        phase_waits=_waits_within(tiling, frames),
        phase_lacks=tiling.filter(LACKS_CPU).rename({"interval": "phase"}),
        phase_fetches=_waited_for(tiling, frames["fetches"]),
        phase_hits=_hits_within(tiling, frames["hits"]),
        stall_chains=chains,
        stall_causes=causes.stall_causes(chains),
        phase_devices=phase_devices,
        phase_stalls=_stalls_within(phases, phase_devices, chains, frames["stalls"]),
        page_cache=page_cache,
        source_bytes=_source_bytes(frames, page_cache),
    )


@dataclass(frozen=True)
class _OwnTime:
    """The command's own time, by the names of `Material`."""

    command_causes: pl.DataFrame
    process_causes: pl.DataFrame
    command_waits: pl.DataFrame
    command_reads: pl.DataFrame
    command_fetches: pl.DataFrame


def _own_time(frames: Frames) -> _OwnTime:
    segments, fetches = frames["segments"], frames["fetches"]
    reads = in_flight(frames)
    behind = behind_fetches(segments, frames["lock_waits"], fetches)
    waits = pl.concat([behind, reads]).with_columns(interval=pl.lit(0, pl.Int32))
    return _OwnTime(
        command_causes=command_causes(behind, reads),
        process_causes=process_causes(behind, reads, MAX_PROCESSES),
        command_waits=behind.filter(causes.OF_CVMFS),
        command_reads=reads,
        command_fetches=_waited_for(waits, fetches).drop("phase"),
    )


def _waits_within(tiling: pl.DataFrame, frames: Frames) -> pl.DataFrame:
    """What each phase waited for CVMFS and for fetches: phase, ns, cvmfs_ns, fetch_ns."""
    pieces = tiling.rename({"interval": "phase"})
    behind = behind_fetches(pieces, frames["lock_waits"], frames["fetches"])
    return causes.spent(behind, "phase")


def _chains_of_stalls(frames: Frames) -> pl.DataFrame:
    chains = causes.stall_chains(frames["segments"], frames["stalls"], frames["tasks"])
    behind = behind_fetches(chains, frames["lock_waits"], frames["fetches"])
    return behind.sort("stall_id", "start_ns")


def _window(frames: Frames, meta: Mapping[str, Any]) -> Window:
    """The time that the segments cover, else from start to stop as recorded in meta.json."""
    segments = frames["segments"]
    if segments.height:
        start, end = segments.select(pl.col("start_ns").min(), pl.col("end_ns").max()).row(0)
        return Window(start, end)
    start = int(meta.get("start_ns") or 0)
    return Window(start, max(int(meta.get("stop_ns") or 0), start + 1))


def _phases(frames: Frames, window: Window) -> pl.DataFrame:
    if frames["phases"].height:
        return frames["phases"]
    first = frames["tasks"].filter(pl.col("role") == "target").sort("start_ns", "tid").head(1)
    return first.select(
        name=pl.lit(WHOLE_COMMAND),
        start_ns=pl.lit(window.start_ns),
        end_ns=pl.lit(window.end_ns),
        pid="pid",
        tid="tid",
    )


def _phase_tiling(segments: pl.DataFrame, phases: pl.DataFrame) -> pl.DataFrame:
    """Segments clipped to the phases, wakers followed: ``interval`` is the row of ``phases``."""
    intervals = phases.select(
        "tid",
        "start_ns",
        pl.col("end_ns").fill_null(HORIZON_NS),
        interval=pl.int_range(pl.len(), dtype=pl.Int32),
    )
    return causes.clipped_segments(segments, intervals, follow_wakers=True)


def _waited_for(tiling: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """The downloads that phases waited for, directly or by joining: phase, fetch_id."""
    waited = tiling.drop_nulls("fetch_id").select("fetch_id", phase="interval").unique()
    joined = fetches.select("fetch_id", "joined_fetch_id")
    return (
        waited.join(joined, on="fetch_id", how="left")
        .select("phase", fetch_id=pl.coalesce("joined_fetch_id", "fetch_id"))
        .unique()
        .sort("phase", "fetch_id")
    )


def _hits_within(tiling: pl.DataFrame, hits: pl.DataFrame) -> pl.DataFrame:
    """Hits inside each phase, and their time on the CPU: phase, count, ns.

    A run of hits that lies partly inside counts with its share. ``ns`` is only the part in which
    the thread was running: cause ``cpu``.
    """
    parts = tiling.with_row_index("row")
    runs = hits.select(
        "tid", "start_ns", "end_ns", "count", "ns", lasted=pl.col("end_ns") - pl.col("start_ns")
    )
    overlapping = overlaps(parts.select("tid", "start_ns", "end_ns", interval="row"), runs)
    share = (pl.col("end_ns") - pl.col("start_ns")) / pl.max_horizontal("lasted", 1)
    return (
        overlapping.rename({"interval": "row"})
        .join(parts.select("row", "cause", phase="interval"), on="row")
        .with_columns(pl.col("count", "ns") * share)
        .group_by("phase")
        .agg(pl.col("count").sum(), pl.col("ns").filter(pl.col("cause") == "cpu").sum())
        .with_columns(pl.col("count", "ns").round().cast(pl.Int64))
        .sort("phase")
    )


def _stalls_within(
    phases: pl.DataFrame, used: pl.DataFrame, chains: pl.DataFrame, stalls: pl.DataFrame
) -> pl.DataFrame:
    """The pieces of stalls clipped to each phase and summed: phase, cause, ns.

    ``used``: the devices of each phase. Stalls of one device do not overlap, so a
    device stands where `overlaps` expects a thread.
    """
    used = used.with_columns(tid=pl.col("device").rank("dense").cast(pl.Int32))
    of_device = stalls.join(used.select("device", "tid").unique(), on="device")
    pieces = chains.join(of_device.select("stall_id", "tid"), on="stall_id", suffix="_device")
    tiles = pieces.select("start_ns", "end_ns", "cause", tid="tid_device")
    spans = phases.select(
        "start_ns",
        pl.col("end_ns").fill_null(HORIZON_NS),
        interval=pl.int_range(pl.len(), dtype=pl.Int32),
    )
    asked = spans.join(used.select("tid", interval="phase"), on="interval")
    return causes.interval_causes(overlaps(asked, tiles)).rename({"interval": "phase"})


def _phase_devices(phases: pl.DataFrame, frames: Frames) -> pl.DataFrame:
    """The devices that each phase's process used: phase, device.

    A device of which only stalls are known counts for every phase.
    """
    by_process = frames["gpu_ops"].select("pid", "device").unique()
    numbered = phases.select("pid", phase=pl.int_range(pl.len(), dtype=pl.Int32))
    used = numbered.join(by_process, on="pid").select("phase", "device")
    others = frames["stalls"].select("device").unique().join(by_process, on="device", how="anti")
    return pl.concat([used, numbered.select("phase").join(others, how="cross")]).sort(
        "phase", "device"
    )


def _source_bytes(frames: Frames, page_cache: pl.DataFrame) -> pl.DataFrame:
    """Bytes of reads by the deepest source that supplied them.

    Page faults supply no bytes of their own and do not count; aggregated hits do. Of what was in
    memory, ``readahead`` is as much as came there during the run.
    """
    reads = frames["operations"].filter(
        pl.col("kind").is_in(["read", "splice"]) & (pl.col("result") > 0)
    )
    classes = causes.operation_classes(frames["segments"], reads)
    of_operations = reads.select("op_id", "file_id", bytes="result").join(classes, on="op_id")
    hits = frames["hits"].select("file_id", "bytes", source=pl.lit("page cache"))
    supplied = pl.concat(
        [
            of_operations.select(
                "file_id", "bytes", pl.col("class").cast(pl.String).alias("source")
            ),
            hits,
        ]
    ).filter(pl.col("bytes") > 0)
    divided = _ahead_apart(
        supplied.group_by("file_id", "source").agg(pl.col("bytes").sum()), page_cache
    )
    summed = divided.group_by("source").agg(pl.col("bytes").sum()).filter(pl.col("bytes") > 0)
    return summed.sort("bytes", "source", descending=[True, False])


def _ahead_apart(supplied: pl.DataFrame, page_cache: pl.DataFrame) -> pl.DataFrame:
    """Divide what the page cache supplied of each file: file_id, source, bytes.

    A file of which no touch was counted is taken to have been in the page cache.
    """
    beyond = (pl.col("read_bytes") - pl.col("fetched_bytes")).clip(lower_bound=0)
    by_file = page_cache.group_by("file_id").agg(beyond=beyond.sum())
    in_memory = supplied.filter(source="page cache").join(by_file, on="file_id", how="left")
    kept = in_memory.with_columns(bytes=pl.min_horizontal("bytes", "beyond"))
    ahead = in_memory.with_columns(
        bytes=(pl.col("bytes") - pl.col("beyond")).clip(lower_bound=0).fill_null(0),
        source=pl.lit("readahead"),
    )
    parts = (supplied.filter(pl.col("source") != "page cache"), kept, ahead)
    return pl.concat(part.select("file_id", "source", "bytes") for part in parts)
