"""From the spool to the tables, along the chain of identity.

    target thread: read, page fault, open                                   kernel/
      → FUSE request, by the thread that queued it                          kernel/
        → daemon call, by the request's unique                              client/
          → cache lookup and fetch, by the thread that serves the call      client/
            → HTTP download, by the object's hash                           wire/
    device: kernel, copy
      → call of the driver that submitted it, by correlation, its thread    device/

Then attribution/ gives every nanosecond of every target thread one cause, and health/ says what
happened meanwhile and whether the recording can be believed. Raw frames live only as long as a step
needs them, and a table leaves as soon as it is made, so peak memory is that of the largest step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .attribution.stalls import DEFAULT_THRESHOLD_NS, stalls
from .attribution.tiling import tiling
from .client.side import client_side
from .device.side import device_side
from .health.side import health_tables
from .kernel.cpu_time import cgroups, cpu_waits, machine_cpu
from .kernel.files import with_cached_bytes
from .kernel.host_ids import HostIds
from .kernel.phases import phases
from .kernel.scope import ScopedSpool
from .kernel.side import file_accesses, kernel_side
from .kernel.tensors import tensors
from .run.journal import Journal
from .sides import Sides
from .tables import Part, conform
from .wire.completed_fetches import CompletionEvidence, completed_fetches
from .wire.side import wire_side


def joined_tables(spool: ScopedSpool, journal: Journal) -> Iterator[Part]:
    """Yield every table of the run, each as soon as it is made; `segments` in parts of bounded
    size.
    """
    accesses, aggregated = file_accesses(spool, journal)
    yield "operations", accesses.operations
    yield "failed_operations", accesses.failed
    yield from aggregated
    del aggregated
    kernel = kernel_side(spool, journal, accesses)
    client = client_side(spool, journal, kernel)
    wire = wire_side(spool, kernel, client)
    named = phases(
        spool.phase_lines(),
        HostIds(kernel.events, spool.blocked),
        (kernel.start_ns, kernel.stop_ns),
    )
    device = device_side(spool, journal, kernel, named)
    sides = _with_completed_fetches(Sides(kernel, client, wire, device))
    yield "phases", named
    yield from _side_tables(sides)
    yield "tensors", tensors(spool.tensor_lines(), kernel.files, kernel.mounts)
    yield from _device_tables(journal, sides)
    samples = spool.cpu_lines()
    yield "cpu_waits", cpu_waits(spool.cpu_waits())
    yield "cgroups", cgroups(samples)
    yield "machine_cpu", machine_cpu(samples)
    yield from tiling(spool, sides)
    yield from health_tables(spool, journal, sides)


def _with_completed_fetches(sides: Sides) -> Sides:
    """Fetches are numbered before the wire is read and completed after it: downloads are paired
    with numbered fetches, and only the HTTP request shows what kind of object was fetched.
    """
    kernel, client, wire = sides.kernel, sides.client, sides.wire
    evidence = CompletionEvidence(
        attempts=wire.attempts,
        sent=wire.requests,
        requests=kernel.requests,
        files=kernel.files,
        chunks=client.chunks,
    )
    return replace(
        sides, client=replace(client, fetches=completed_fetches(client.fetches, evidence))
    )


def _side_tables(sides: Sides) -> Iterator[Part]:
    kernel, client, wire = sides.kernel, sides.client, sides.wire
    yield "tasks", kernel.tasks
    yield "files", with_cached_bytes(kernel.files, client.chunks)
    yield "fuse_requests", conform("fuse_requests", kernel.requests)
    yield "daemon_calls", conform("daemon_calls", client.calls)
    yield "cache_lookups", client.lookups
    yield "chunks", client.chunks
    yield "fetches", conform("fetches", client.fetches)
    yield "downloads", wire.downloads
    yield "sockets", wire.sockets


def _device_tables(journal: Journal, sides: Sides) -> Iterator[Part]:
    device = sides.device
    options: dict[str, int | None] = journal.start.get("options") or {}
    threshold_ns = options.get("stall_threshold_ns")
    if threshold_ns is None:
        threshold_ns = DEFAULT_THRESHOLD_NS
    yield "devices", device.devices
    yield "gpu_ops", device.ops
    yield "gpu_calls", device.calls
    yield "gpu_samples", device.samples
    yield "stalls", stalls(device, sides.kernel.start_ns, threshold_ns)
