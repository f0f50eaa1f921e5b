"""From the spool to the tables: which join follows which.

Raw frames live only as long as a step needs them, and a table leaves as soon as it is made, so that
the memory needed is that of the largest step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from ..probes.events import TASK_KINDS
from .attribution import fetch_timelines, segments, stalls
from .attribution import request_timelines as timelines
from .client import cache_managers as caches
from .client import chunks as chunk_lists
from .client import daemon_calls as daemons_work
from .client import fetches as fetching
from .client import lock_waits as lock_waiting
from .health import evictions, reconcile
from .health import incidents as happenings
from .health import observation as probe_rows
from .health import remounts as renewals
from .kernel import blocked as off_cpu
from .kernel import files as seen_files
from .kernel import fuse_requests as fuse
from .kernel import mounts as mounting
from .kernel import operations as file_operations
from .kernel import phases as phase_rows
from .kernel import tasks as task_lives
from .kernel.scope import ConcernedSpool
from .run.journal import Journal
from .run.spool import Spool
from .tables import conform, empty
from .wire import download_work
from .wire import downloads as wire_traffic
from .wire import sockets as connections

#: a table's name and the rows of it, or some of them: `segments` comes in parts
Part = tuple[str, pl.DataFrame]

#: requests whose timelines are made at once: bounds the memory, at some 1 kB each
SLICE_REQUESTS = 250_000


@dataclass(frozen=True)
class _Files:
    """Mounts and files, and the raw frames that had to be read to know them."""

    mounted: pl.DataFrame
    known: pl.DataFrame
    operations: pl.DataFrame


@dataclass(frozen=True)
class _Daemons:
    """What the daemons did."""

    served_by: pl.DataFrame
    requests: pl.DataFrame
    calls: pl.DataFrame
    lookups: pl.DataFrame
    fetches: pl.DataFrame
    downloads: pl.DataFrame
    sockets: pl.DataFrame
    tried: pl.DataFrame
    work: pl.DataFrame
    clients: pl.DataFrame
    caches: pl.DataFrame
    chunks: pl.DataFrame
    manifests: pl.DataFrame


def joined_tables(spool: ConcernedSpool, journal: Journal) -> Iterator[Part]:
    """Yield every table of the run, `segments` in parts of bounded size, each as soon as it is
    made.
    """
    events = spool.tasks()
    seen, hits, touches = _files(spool, journal)
    stop_ns = journal.stop_ns or _last_time(seen.operations, events, spool)
    yield "operations", seen.operations
    yield "hits", hits
    yield "touches", touches
    del hits, touches
    work = _daemons(spool, journal, seen)
    heard = task_lives.tasks(events)
    threads = task_lives.with_daemons_at_start(heard, journal, work.served_by["pid"])
    threads = task_lives.with_unannounced(threads, seen.operations.select("pid", "tid", "start_ns"))
    yield "tasks", threads
    yield from _daemon_tables(work, seen)
    yield from _system_tables(spool, journal, seen, work, threads, stop_ns)
    yield from _device_tables(spool, journal, events)
    yield from _tiling(spool, seen, work, threads, (command_start_ns(journal, events), stop_ns))


def _files(spool: Spool, journal: Journal) -> tuple[_Files, pl.DataFrame, pl.DataFrame]:
    """Operations, hits and touches with their files."""
    places = seen_files.file_places(spool.files())
    raw = spool.operations().sort("start_ns")
    raw_hits, raw_touches = spool.hits(), spool.touches()
    key = list(seen_files.KEY)
    named = [
        file_operations.known_files(raw).select(*key, time_ns="start_ns"),
        raw_hits.select(*key, time_ns="start_ns"),
        raw_touches.select(*key, time_ns=pl.col("bucket") * file_operations.BUCKET_NS),
    ]
    firsts = [frame.group_by(key).agg(pl.col("time_ns").min()) for frame in named]
    devices = {dev for frame in firsts for dev in frame["dev"].unique()}
    requests = spool.requests().filter(
        pl.col("opcode").is_in([mounting.OPCODE_INIT, mounting.OPCODE_DESTROY])
    )
    devices |= set(spool.requests()["dev"].unique())
    mounted = mounting.mounts(journal, places, requests, devices)
    referenced = [mounting.with_mount(frame, mounted, "time_ns") for frame in firsts]
    known = seen_files.files(places, mounted, referenced)
    ids = seen_files.file_ids
    done = file_operations.operations(raw, ids(raw, mounted, known, "start_ns"))
    hits = file_operations.hits(raw_hits, ids(raw_hits, mounted, known, "start_ns"))
    touched = raw_touches.with_columns(start_ns=pl.col("bucket") * file_operations.BUCKET_NS)
    touches = file_operations.touches(raw_touches, ids(touched, mounted, known, "start_ns"), done)
    return _Files(mounted, known, done), hits, touches


def _last_time(operations: pl.DataFrame, events: pl.DataFrame, spool: Spool) -> int:
    """When the last thing was seen of a run that was never stopped."""
    off = spool.blocked()
    times = [
        operations["start_ns"],
        operations["end_ns"],
        events["time_ns"],
        off["start_ns"],
        off["end_ns"],
        spool.requests()["end_ns"],
    ]
    return max((int(column.max() or 0) for column in times), default=0)  # type: ignore[arg-type]


def _daemons(spool: Spool, journal: Journal, seen: _Files) -> _Daemons:
    """Requests, calls, lookups, fetches and downloads, joined with each other."""
    raw = spool.requests()
    timed = raw.with_columns(at=pl.max_horizontal("queued_ns", "end_ns"))
    placed = mounting.with_mount(timed, seen.mounted, "at")
    served = spool.served()
    said = mounting.mount_attributes(journal, seen.mounted)
    served_by = mounting.daemon_mounts(placed.drop_nulls("mount_id"), served, said)
    requests = fuse.fuse_requests(placed, served.join(served_by, on="pid"), seen.operations)
    worked_for = task_lives.with_founders(served_by, spool.tasks())
    calls = daemons_work.daemon_calls(spool.calls(), worked_for)
    cache_files = daemons_work.with_hashes(spool.cache_files(), worked_for)
    lookups = daemons_work.cache_lookups(calls, cache_files)
    chunked = chunk_lists.chunks(journal, seen.known, _with_device(seen.mounted))
    chunked = chunk_lists.with_cache_state(chunked, lookups, seen.known)
    committed = daemons_work.commits(cache_files)
    by_name = fetching.fetches_by_name(
        lookups.filter(pl.col("call_id").is_null()),
        daemons_work.transactions(cache_files, calls),
        committed,
        requests,
    )
    rows = fetching.numbered(pl.concat([fetching.fetches_by_call(calls), by_name]))
    downloading = rows.filter(pl.col("outcome").ne_missing(pl.lit("joined")))
    asked = wire_traffic.wire_requests(spool.downloads(), worked_for, said)
    wire = wire_traffic.named_by_fetches(asked, downloading, calls)
    tried = wire_traffic.attempts(wire, downloading)
    queued = rows.select("fetch_id", "queued_ns")
    return _Daemons(
        served_by=served_by,
        requests=requests,
        calls=calls,
        lookups=lookups,
        fetches=fetching.fetches(rows, tried, wire, requests, seen.known, chunked),
        downloads=wire_traffic.downloads(wire, tried, queued, committed),
        sockets=connections.sockets(spool.socket_samples(), wire),
        tried=tried,
        work=download_work.download_work(spool.work(), wire),
        clients=_clients(said, calls, lookups, wire),
        caches=daemons_work.cache_directories(cache_files),
        chunks=chunked,
        manifests=wire_traffic.manifests(wire),
    )


def _clients(said: pl.DataFrame, *seen: pl.DataFrame) -> pl.DataFrame:
    """Mounts that CVMFS clients serve, as they say or as what they do tells: mount_id."""
    own_words = said.drop_nulls("client_version").select("mount_id")
    told = (frame.select("mount_id").unique() for frame in seen)
    return pl.concat([own_words, *told]).drop_nulls().unique()


def _with_device(mounted: pl.DataFrame) -> pl.DataFrame:
    """The latest mount of each device: attributes are read after the command ended."""
    return mounted.unique("device", keep="last", maintain_order=True)


def _daemon_tables(work: _Daemons, seen: _Files) -> Iterator[Part]:
    yield "fuse_requests", conform("fuse_requests", work.requests)
    yield "daemon_calls", conform("daemon_calls", work.calls)
    yield "cache_lookups", work.lookups
    yield "fetches", conform("fetches", work.fetches)
    yield "downloads", work.downloads
    yield "sockets", work.sockets
    yield "chunks", work.chunks
    yield "files", seen_files.with_cached_bytes(seen.known, work.chunks)


def _system_tables(
    spool: ConcernedSpool,
    journal: Journal,
    seen: _Files,
    work: _Daemons,
    threads: pl.DataFrame,
    stop_ns: int,
) -> Iterator[Part]:
    mounted = _mounts(spool, journal, seen, work)
    yield "mounts", mounted
    with_dev = mounted.with_columns(seen.mounted["dev"])
    happened = happenings.incidents(
        journal,
        with_dev,
        threads,
        seen.operations,
        work.requests,
        seen.known,
        stop_ns,
        happenings.last_calls(spool.tasks(), work.calls),
        _renewals(spool, journal, mounted, work),
    )
    yield "incidents", happened
    yield (
        "reconciliation",
        reconcile.reconciliation(
            journal, mounted, happened, work.fetches, work.downloads, work.chunks, work.calls
        ),
    )
    yield "probes", probe_rows.probes(journal)
    yield "losses", probe_rows.losses(journal)


def _mounts(spool: ConcernedSpool, journal: Journal, seen: _Files, work: _Daemons) -> pl.DataFrame:
    said = mounting.mount_attributes(journal, seen.mounted)
    named = seen.mounted.select("mount_id").join(said, on="mount_id", how="left")
    managers = caches.cache_managers(
        spool.calls(), work.served_by, named.select("mount_id", "repository"), journal
    )
    return mounting.described(
        seen.mounted,
        said,
        work.served_by,
        work.downloads,
        work.caches,
        managers,
        renewals.revisions_at_start(journal),
    )


def _renewals(
    spool: ConcernedSpool, journal: Journal, mounted: pl.DataFrame, work: _Daemons
) -> list[pl.DataFrame]:
    """Reloads, remounts and evictions."""
    columns = ["mount_id", "object_hash", "start_ns"]
    looked = pl.concat([work.lookups.select(columns), work.fetches.select(columns)])
    forks = spool.families()
    return [
        renewals.reloads(journal, mounted),
        renewals.remounts(journal, mounted, looked, work.manifests),
        evictions.evictions(
            spool.removals(), mounted, caches.working_directories(journal), forks, work.chunks
        ),
    ]


def _device_tables(spool: Spool, journal: Journal, events: pl.DataFrame) -> Iterator[Part]:
    phased = phase_rows.phases(spool.phase_lines(), events)
    device = phase_rows.runner_operations(phased)
    threshold = journal.start.get("options", {}).get("stall_threshold_ns")
    yield "phases", phased
    yield "gpu_ops", device
    yield "gpu_samples", empty("gpu_samples")
    yield (
        "stalls",
        stalls.stalls(
            device,
            command_start_ns(journal, events),
            stalls.DEFAULT_THRESHOLD_NS if threshold is None else int(threshold),
        ),
    )


def command_start_ns(journal: Journal, events: pl.DataFrame) -> int:
    """When the command's first exec was; else when its process was made; else the start of
    recording.
    """
    began = events.filter(
        (pl.col("pid") == (journal.child_pid or -1)) & (pl.col("kind") == TASK_KINDS.index("exec"))
    )["time_ns"].min()
    made = next((line.get("time_ns") for line in journal.of("child")), None)
    return int(began or made or journal.start_ns)  # type: ignore[arg-type]


def _tiling(
    spool: Spool, seen: _Files, work: _Daemons, threads: pl.DataFrame, bounds: tuple[int, int]
) -> Iterator[Part]:
    """`blocked`, `lock_waits`, `segments` in parts, `waits`."""
    off = off_cpu.blocked(mounting.with_mount(spool.blocked(), seen.mounted, "start_ns"))
    yield "blocked", conform("blocked", off)
    evidence = segments.Evidence(seen.operations, off, threads, work.requests)
    evidence = segments.Evidence(
        seen.operations, segments.with_hung_requests(evidence), threads, work.requests
    )
    locks = lock_waiting.lock_waits(work.requests, evidence.blocked, work.fetches)
    yield "lock_waits", conform("lock_waits", locks)
    pieces = _pieces(evidence, seen, work, locks)
    living = segments.lives(threads, *bounds)
    waits = [empty("waits")]
    yield "segments", empty("segments")
    for tiles, slept in segments.segments_and_waits(living, evidence, pieces):
        waits.append(slept)
        yield "segments", tiles
    yield "waits", pl.concat(waits).unique().sort("op_id", "start_ns")


def _pieces(
    evidence: segments.Evidence, seen: _Files, work: _Daemons, locks: pl.DataFrame
) -> pl.DataFrame:
    """What became of the requests that someone waited for, in slices that bound the memory."""
    request = ["mount_id", "unique"]
    proven = evidence.blocked.select(request).drop_nulls().unique()
    waited = work.requests.join(proven, on=request, how="semi").unique(
        request, keep="last", maintain_order=True
    )
    told = timelines.RequestEvidence(
        calls=work.calls.select(*request, "start_ns"),
        fetches=work.fetches,
        pieces=fetch_timelines.fetch_pieces(
            fetch_timelines.FetchEvidence(
                work.fetches, work.tried, work.downloads, work.work, work.lookups, evidence.blocked
            )
        ),
        locks=locks,
        lookups=work.lookups,
        clients=work.clients,
    )
    return pl.concat(
        timelines.request_pieces(some, timelines.needed_chunks(some, seen.known, work.chunks), told)
        for some in (waited.iter_slices(SLICE_REQUESTS) if waited.height else [waited])
    )
