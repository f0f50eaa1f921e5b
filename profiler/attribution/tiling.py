"""Where each nanosecond went: `blocked`, `lock_waits`, `segments`, `waits` from the three sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import polars as pl

from ..client.lock_waits import lock_waits
from ..kernel.blocked import blocked
from ..kernel.mounts import with_mount
from ..run.spool import Spool
from ..sides import Sides
from ..tables import Part, conform, empty
from .delays import delays, stops
from .fetch_timelines import FetchEvidence, fetch_pieces
from .hung_requests import with_hung_requests
from .request_timelines import RequestEvidence, needed_chunks, request_pieces
from .segments import Evidence, lives, segments_and_waits

#: requests whose timelines are made at once: bounds the memory, at about 1 kB each
SLICE_REQUESTS = 250_000


def tiling(spool: Spool, sides: Sides) -> Iterator[Part]:
    """Yield `blocked`, `lock_waits`, `segments` in parts of bounded size, and `waits`."""
    kernel = sides.kernel
    off_cpu = blocked(with_mount(spool.blocked(), kernel.mounts, "start_ns"))
    yield "blocked", conform("blocked", off_cpu)
    calls = sides.device.calls
    seen = Evidence(kernel.operations, off_cpu, kernel.tasks, kernel.requests, calls)
    evidence = replace(seen, blocked=with_hung_requests(seen))
    locks = lock_waits(kernel.requests, evidence.blocked, sides.client.fetches)
    yield "lock_waits", conform("lock_waits", locks)
    pieces = _request_pieces(sides, evidence.blocked, locks)
    waits = [empty("waits")]
    yield "segments", empty("segments")
    living = lives(kernel.tasks, kernel.start_ns, kernel.stop_ns)
    for segments, slept in segments_and_waits(living, evidence, pieces):
        waits.append(slept)
        yield "segments", segments
    yield "waits", waits_once(waits)


def waits_once(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Table `waits` from parts, each in one of them or in several, in an order of its own."""
    return pl.concat(parts).unique().sort("op_id", "start_ns", "mount_id", "unique")


def _request_pieces(sides: Sides, blocked: pl.DataFrame, locks: pl.DataFrame) -> pl.DataFrame:
    """What became of the requests that a thread waited for, in slices that bound the memory."""
    request = ["mount_id", "unique"]
    waited = sides.kernel.requests.join(blocked, on=request, how="semi").unique(
        request, keep="last", maintain_order=True
    )
    evidence = _request_evidence(sides, blocked, locks)
    files, chunks = sides.kernel.files, sides.client.chunks
    slices = waited.iter_slices(SLICE_REQUESTS) if waited.height else [waited]
    return pl.concat(
        request_pieces(part, needed_chunks(part, files, chunks), evidence) for part in slices
    )


def _request_evidence(sides: Sides, blocked: pl.DataFrame, locks: pl.DataFrame) -> RequestEvidence:
    client, wire = sides.client, sides.wire
    of_fetches = FetchEvidence(
        fetches=client.fetches,
        tried=wire.attempts,
        downloads=wire.downloads,
        work=wire.work,
        lookups=client.lookups,
        blocked=blocked,
    )
    return RequestEvidence(
        calls=client.calls.select("mount_id", "unique", "start_ns"),
        fetches=client.fetches,
        pieces=fetch_pieces(of_fetches),
        locks=locks,
        lookups=client.lookups,
        clients=_client_mounts(sides),
        late=delays(blocked),
        stopped=stops(blocked),
    )


def _client_mounts(sides: Sides) -> pl.DataFrame:
    """Mounts served by CVMFS clients, by their attributes or by what they do: mount_id?."""
    by_attribute = sides.kernel.attributes.drop_nulls("client_version").select("mount_id")
    active = (sides.client.calls, sides.client.lookups, sides.wire.requests)
    by_action = (frame.select("mount_id").unique() for frame in active)
    return pl.concat([by_attribute, *by_action])
