"""The client's side of a run: what its daemons did with each request."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..kernel.side import KernelSide
from ..run.journal import Journal
from ..run.spool import Spool
from .cache_managers import cache_managers
from .chunks import chunks, with_cache_state
from .daemon_calls import (
    cache_directories,
    cache_lookups,
    commits,
    daemon_calls,
    transactions,
    with_hashes,
)
from .fetches import fetches_by_call, fetches_by_name, numbered


@dataclass(frozen=True)
class ClientSide:
    """What the CVMFS clients did.

    ``calls``, ``lookups``, ``chunks``: the tables. ``fetches``: see `fetches.numbered`; what they
    were for is known only by their downloads: see `wire.completed_fetches`. ``commits``: see
    `daemon_calls.commits`. ``cache_paths``: mount_id, cache_path by the file names used.
    ``managers``: see `cache_managers.cache_managers`.
    """

    calls: pl.DataFrame
    lookups: pl.DataFrame
    chunks: pl.DataFrame
    fetches: pl.DataFrame
    commits: pl.DataFrame
    cache_paths: pl.DataFrame
    managers: pl.DataFrame


def client_side(spool: Spool, journal: Journal, kernel: KernelSide) -> ClientSide:
    """Join the daemons' calls and system calls into lookups and fetches."""
    raw_calls = spool.calls()
    calls = daemon_calls(raw_calls, kernel.daemons)
    cache_files = with_hashes(spool.cache_files(), kernel.daemons)
    lookups = cache_lookups(calls, cache_files)
    committed = commits(cache_files)
    by_name = fetches_by_name(
        lookups.filter(pl.col("call_id").is_null()),
        transactions(cache_files, calls),
        committed,
        kernel.requests,
    )
    return ClientSide(
        calls=calls,
        lookups=lookups,
        chunks=_chunks(journal, kernel, lookups),
        fetches=numbered(pl.concat([fetches_by_call(calls), by_name])),
        commits=committed,
        cache_paths=cache_directories(cache_files),
        managers=cache_managers(raw_calls, kernel.serving, kernel.attributes, journal),
    )


def _chunks(journal: Journal, kernel: KernelSide, lookups: pl.DataFrame) -> pl.DataFrame:
    """Attributes are read after the command ended: they are of the latest mount of a device."""
    latest = kernel.mounts.unique("device", keep="last", maintain_order=True)
    return with_cache_state(chunks(journal, kernel.files, latest), lookups, kernel.files)
