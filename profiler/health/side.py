"""What happened to mounts and daemons meanwhile, and whether the recording can be believed."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from ..client.cache_managers import working_directories
from ..kernel.mounts import MountEvidence, described
from ..kernel.scope import ScopedSpool
from ..run.journal import Journal
from ..sides import Sides
from ..tables import Part
from .counters import Observed
from .evictions import CacheOwners, evictions
from .incidents import IncidentEvidence, incidents, last_calls
from .observation import losses, probes
from .reconcile import Recorded, reconciliation
from .remounts import reloads, remounts, revisions_at_start
from .stops import stops


def health_tables(spool: ScopedSpool, journal: Journal, sides: Sides) -> Iterator[Part]:
    """Yield `mounts`, `incidents`, `reconciliation`, `probes`, `losses`."""
    mounts = described(sides.kernel.mounts, _mount_evidence(journal, sides))
    yield "mounts", mounts
    changes = _changes(spool, journal, mounts, sides)
    happened = incidents(journal, _incident_evidence(mounts, sides), changes)
    yield "incidents", happened
    yield "reconciliation", reconciliation(journal, _recorded(mounts, happened, sides))
    yield "probes", probes(journal)
    yield "losses", losses(journal, sides.device.dropped)


def _mount_evidence(journal: Journal, sides: Sides) -> MountEvidence:
    return MountEvidence(
        attributes=sides.kernel.attributes,
        serving=sides.kernel.serving,
        downloads=sides.wire.downloads,
        cache_paths=sides.client.cache_paths,
        managers=sides.client.managers,
        at_start=revisions_at_start(journal),
    )


def _changes(
    spool: ScopedSpool, journal: Journal, mounts: pl.DataFrame, sides: Sides
) -> list[pl.DataFrame]:
    """Incidents of reloads, remounts, evictions and stops."""
    client = sides.client
    columns = ["mount_id", "object_hash", "start_ns"]
    looked_for = pl.concat([client.lookups.select(columns), client.fetches.select(columns)])
    owners = CacheOwners(mounts, working_directories(journal), spool.daemon_parents())
    return [
        reloads(journal, mounts),
        remounts(journal, mounts, looked_for, sides.wire.manifests),
        evictions(spool.removals(), owners, client.chunks),
        stops(spool.blocked(), mounts, sides.kernel.stop_ns),
    ]


def _incident_evidence(mounts: pl.DataFrame, sides: Sides) -> IncidentEvidence:
    kernel = sides.kernel
    return IncidentEvidence(
        mounts=mounts,
        tasks=kernel.tasks,
        operations=kernel.operations,
        requests=kernel.requests,
        files=kernel.files,
        last_calls=last_calls(kernel.events, sides.client.calls),
        stop_ns=kernel.stop_ns,
        failed=kernel.accesses.failed,
    )


def _recorded(mounts: pl.DataFrame, happened: pl.DataFrame, sides: Sides) -> Recorded:
    return Recorded(
        observed=Observed(
            stop_ns=sides.kernel.stop_ns,
            first_uses=_first_uses(sides.kernel.requests),
            mounts=mounts,
            incidents=happened,
        ),
        fetches=sides.client.fetches,
        downloads=sides.wire.downloads,
        chunks=sides.client.chunks,
        calls=sides.client.calls,
    )


def _first_uses(requests: pl.DataFrame) -> pl.DataFrame:
    """When each mount was first used by the command: mount_id, first_ns."""
    began = pl.coalesce("queued_ns", "served_ns", "end_ns")
    return requests.group_by("mount_id").agg(first_ns=began.min())
