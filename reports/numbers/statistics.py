"""A run in numbers, computed once, for the terminal, JSON and the page.

Every number comes from the run's tables, and is the command's own: of requests, fetches and
downloads only those made for the command, or waited for by it, of mounts those that it used. The
mounts' numbers, for everybody who used them, are ``of_mounts``; the machine's are the use and the
memory of ``devices``. Times are integer nanoseconds and end in ``_ns``, sizes in ``_bytes``; a
share is between 0 and 1. ``as_json`` keeps these names: they are stable.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import polars as pl

from ..material import Frames, Material
from .awaited import Awaited, awaited
from .command import CommandTime, command_time
from .contention import Collisions, collisions, own_fetches
from .cpu import Cpu, cpu
from .devices import Device, devices
from .failed_operations import FailedOperation, failed_operations
from .failures import Failures, failures
from .fetching import Chunk, Fetches, Latency, fetch_summary, latency, slowest_chunks
from .log import Imported, imported_of
from .network import Network, network
from .operations import counts, unfinished_operations
from .patterns import Patterns, patterns
from .phases import Phase, phases
from .servers import Server, servers
from .sharing import OfMounts, of_mounts
from .stalls import Stalls, stalls
from .sums import count_of, total
from .survivors import Survivors, survivors
from .tensors import Tensors, tensors
from .waits import Waits, waits

#: incidents that are kept, the earliest
_INCIDENTS = 100


@dataclass(frozen=True)
class Outcome:
    """How the command ended: by an exit code, a signal, or neither where that was not seen."""

    exit_code: int | None
    signal: int | None
    complete: bool


@dataclass(frozen=True)
class Bytes:
    """Where bytes came from; ``by_source``: bytes read by class of operation, hits included."""

    over_http: int
    unpacked: int
    by_source: dict[str, int]


@dataclass(frozen=True)
class Statistics:
    """A run in numbers.

    ``duration_ns``: how long it lasted. What is said of a command's time is said of
    ``command_time.wall_ns``, which is the same where anything of the command was recorded.
    """

    command: tuple[str, ...]
    started_utc_ns: int | None
    start_ns: int
    duration_ns: int
    outcome: Outcome
    kernel: str
    cvmprof_version: str
    counts: dict[str, int]
    command_time: CommandTime
    phases: tuple[Phase, ...]
    fetches: Fetches
    failures: Failures
    bytes: Bytes
    patterns: Patterns
    latency: Latency
    network: Network
    waits: Waits
    servers: tuple[Server, ...]
    of_mounts: OfMounts
    chunks_known: int
    objects_looked_up: int
    objects_cached_at_start: int
    slowest_chunks: tuple[Chunk, ...]
    collisions: Collisions
    fetched_for_no_request: int
    stalls: Stalls
    tensors: Tensors
    unfinished: tuple[str, ...]
    incidents: tuple[dict[str, Any], ...]
    losses: tuple[dict[str, Any], ...]
    probes: tuple[dict[str, Any], ...]
    mounts: tuple[dict[str, Any], ...]
    reconciliation: tuple[dict[str, Any], ...]
    failed_operations: tuple[FailedOperation, ...] = ()
    devices: tuple[Device, ...] = ()
    survivors: Survivors = field(default_factory=Survivors)
    awaited: Awaited | None = None
    imported: Imported | None = None
    cpu: Cpu = field(default_factory=Cpu)

    @property
    def lost(self) -> int:
        """Events lost, all probes together."""
        return sum(int(loss["count"]) for loss in self.losses)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers for ``json.dumps``; the keys are the fields' names."""
        plain = dataclasses.asdict(self)
        plain["lost"] = self.lost
        for device, written in zip(self.devices, plain["devices"], strict=True):
            written["name"], written["label"] = device.name, device.label
        return plain


def _outcome(meta: Mapping[str, Any]) -> Outcome:
    status = meta.get("exit_status")
    code = None if status is None else os.waitstatus_to_exitcode(int(status))
    complete = bool(meta.get("complete"))
    if code is None or code >= 0:
        return Outcome(code, None, complete)
    return Outcome(None, -code, complete)


def _command(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The command's words; none where meta.json has none."""
    words: object = meta.get("command")
    return tuple(map(str, cast("list[object]", words))) if isinstance(words, list) else ()


def compute(material: Material) -> Statistics:
    """Return the run in numbers; an imported one has no durations, its times are too coarse."""
    measured = _measured(material)
    imported = imported_of(material.meta, material.frames)
    if imported is None:
        return measured
    fetches = dataclasses.replace(measured.fetches, summed_ns=0, busy_ns=0, most_at_once=0)
    return dataclasses.replace(measured, imported=imported, fetches=fetches, slowest_chunks=())


def _measured(material: Material) -> Statistics:
    frames, own, window = material.frames, material.own, material.window
    fetched = fetch_summary(own["fetches"], window)
    return Statistics(
        **_described(material),
        **_chunks(frames),
        **_rows(frames, own),
        counts=counts(own),
        command_time=command_time(material),
        phases=phases(material),
        fetches=fetched,
        failures=failures(own),
        bytes=_bytes(material, fetched),
        patterns=patterns(material),
        latency=latency(own),
        network=network(own),
        waits=waits(own, window),
        servers=servers(own["downloads"]),
        of_mounts=of_mounts(material),
        slowest_chunks=slowest_chunks(own, window),
        collisions=collisions({**frames, "lock_waits": own["lock_waits"]}),
        fetched_for_no_request=own_fetches(frames),
        stalls=stalls(material),
        tensors=tensors(material),
        devices=devices(material),
        cpu=cpu(material),
        unfinished=unfinished_operations(own),
        failed_operations=failed_operations(frames, window),
        survivors=survivors(material),
        awaited=awaited(material),
    )


def _described(material: Material) -> dict[str, Any]:
    """The fields that say which run it is."""
    meta, window = material.meta, material.window
    offset = meta.get("utc_offset_ns")
    return {
        "command": _command(meta),
        "started_utc_ns": None if offset is None else window.start_ns + int(offset),
        "start_ns": window.start_ns,
        "duration_ns": window.duration_ns,
        "outcome": _outcome(meta),
        "kernel": str(meta.get("kernel", "")),
        "cvmprof_version": str(meta.get("version", "")),
    }


def _chunks(frames: Frames) -> dict[str, Any]:
    """How many chunks are known, and how many objects of a mount were in the client's cache.

    Chunks with the same content are one object: it is looked up first only once.
    """
    mounts = frames["files"].select("file_id", "mount_id")
    chunks = frames["chunks"].join(mounts, on="file_id", how="left")
    objects = chunks.unique(["mount_id", "object_hash"])
    cached = pl.col("cached_at_start")
    return {
        "chunks_known": chunks.height,
        "objects_looked_up": count_of(objects, cached.is_not_null()),
        "objects_cached_at_start": count_of(objects, cached.fill_null(value=False)),
    }


def _rows(frames: Frames, own: Frames) -> dict[str, Any]:
    """The rows of tables that are shown as they are."""
    shown = {
        "incidents": frames["incidents"].sort("time_ns").head(_INCIDENTS),
        "losses": frames["losses"].filter(pl.col("count") > 0),
        "probes": frames["probes"],
        "mounts": own["mounts"],
        "reconciliation": frames["reconciliation"],
    }
    return {name: tuple(rows.to_dicts()) for name, rows in shown.items()}


def _bytes(material: Material, fetched: Fetches) -> Bytes:
    by_source = dict(material.source_bytes.iter_rows())
    received = total(material.own["downloads"], "wire_bytes")
    return Bytes(received, fetched.unpacked_bytes, by_source)
