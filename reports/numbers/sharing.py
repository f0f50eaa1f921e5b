"""What the command's mounts did for everybody, and for whom besides the command."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..material import Material
from .failures import Failures, failures
from .fetching import Fetches, Latency, fetch_summary, latency
from .network import Network, network
from .operations import counts_of_mounts
from .sums import total

#: neighbours that are kept, those with the most bytes first
_KEPT = 20


@dataclass(frozen=True)
class Neighbour:
    """A process that used a mount of the command and is none of the command's.

    ``fetches`` were made for its requests and not for the command's; ``wire_bytes`` came for them.
    """

    pid: int
    name: str | None
    requests: int
    fetches: int
    wire_bytes: int


@dataclass(frozen=True)
class OfMounts:
    """Numbers of the mounts that the command used, whoever they worked for.

    ``client_fetches`` were made for no request: for the client itself, such as catalogs;
    ``client_wire_bytes`` came for them.
    """

    counts: dict[str, int]
    fetches: Fetches
    failures: Failures
    over_http: int
    latency: Latency
    network: Network
    neighbours: tuple[Neighbour, ...]
    client_fetches: int
    client_wire_bytes: int


def of_mounts(material: Material) -> OfMounts:
    """Return the numbers of the mounts."""
    frames = material.frames
    others = _others(material)
    own_work = others.filter(pl.col("unique").is_null())
    return OfMounts(
        counts=counts_of_mounts(frames),
        fetches=fetch_summary(frames["fetches"], material.window),
        failures=failures(frames),
        over_http=total(frames["downloads"], "wire_bytes"),
        latency=latency(frames),
        network=network(frames),
        neighbours=_neighbours(material, others),
        client_fetches=own_work.height,
        client_wire_bytes=total(own_work, "wire_bytes"),
    )


def _others(material: Material) -> pl.DataFrame:
    """Fetches that are not the command's own, with ``wire_bytes`` of all their attempts."""
    fetches = material.frames["fetches"]
    others = fetches.join(material.own["fetches"], on="fetch_id", how="anti", maintain_order="left")
    received = material.frames["downloads"].group_by("fetch_id").agg(pl.col("wire_bytes").sum())
    return others.join(received, on="fetch_id", how="left", maintain_order="left")


def _neighbours(material: Material, others: pl.DataFrame) -> tuple[Neighbour, ...]:
    request = ["mount_id", "unique"]
    requests = material.frames["fuse_requests"].join(
        material.own["fuse_requests"], on=request, how="anti"
    )
    asked = requests.filter(pl.col("pid") > 0)
    by_process = asked.group_by("pid").agg(requests=pl.len())
    fetched = (
        others.join(asked.select(*request, asker="pid").unique(request), on=request)
        .group_by(pid="asker")
        .agg(fetches=pl.len(), wire_bytes=pl.col("wire_bytes").sum())
    )
    rows = by_process.join(fetched, on="pid", how="left").join(
        names_of_processes(material.frames["tasks"]), on="pid", how="left"
    )
    ordered = rows.with_columns(pl.col("fetches", "wire_bytes").fill_null(0)).sort(
        "wire_bytes", "requests", "pid", descending=[True, True, False]
    )
    kept = ordered.head(_KEPT).select("pid", "name", "requests", "fetches", "wire_bytes")
    return tuple(Neighbour(*row) for row in kept.iter_rows())


def names_of_processes(tasks: pl.DataFrame) -> pl.DataFrame:
    """Return the names of processes: pid, name."""
    leaders = tasks.filter(pl.col("pid") == pl.col("tid"))
    return leaders.select("pid", "name").unique("pid", keep="last", maintain_order=True)
