"""The network's side of a run: connections, downloads, and the threads that make them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..client.side import ClientSide
from ..kernel.side import KernelSide
from ..run.spool import Spool
from .downloads import (
    attempts,
    download_work,
    downloads,
    manifests,
    named_by_fetches,
    wire_requests,
)
from .sockets import sockets


@dataclass(frozen=True)
class WireSide:
    """What went over the network.

    ``requests``: see `downloads.wire_requests`; ``attempts``: see `downloads.attempts`;
    ``downloads``, ``sockets``: the tables; ``work``: see `downloads.download_work`;
    ``manifests``: see `downloads.manifests`.
    """

    requests: pl.DataFrame
    attempts: pl.DataFrame
    downloads: pl.DataFrame
    sockets: pl.DataFrame
    work: pl.DataFrame
    manifests: pl.DataFrame


def wire_side(spool: Spool, kernel: KernelSide, client: ClientSide) -> WireSide:
    """Pair HTTP requests with the fetches that they were sent for."""
    downloading = client.fetches.filter(pl.col("outcome").ne_missing(pl.lit("joined")))
    sent = wire_requests(spool.downloads(), kernel.daemons, kernel.attributes)
    requests = named_by_fetches(sent, downloading, client.calls)
    tried = attempts(requests, downloading)
    queued = client.fetches.select("fetch_id", "queued_ns")
    return WireSide(
        requests=requests,
        attempts=tried,
        downloads=downloads(requests, tried, queued, client.commits),
        sockets=sockets(spool.socket_samples(), requests),
        work=download_work(spool.work(), requests),
        manifests=manifests(requests),
    )
