"""What became of the time of a FUSE request: pieces, each with one cause.

A thread that slept until a request ended spent its sleep on these pieces; see `segments`.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..client.chunks import chunk_at
from ..intervals import clip_to_lives, sweep
from ..kernel.fuse_requests import OPCODE_READ, serving_requests
from ..tables import CAUSE
from .fetch_timelines import HORIZON_NS

#: FLUSH, FSYNC, RELEASE, RELEASEDIR: what, like READ, concerns what the cache has open
_HANDLE_OPCODES = (OPCODE_READ, 18, 20, 25, 29)


@dataclass(frozen=True)
class RequestEvidence:
    """What the division of requests is made of, besides the requests.

    ``calls``: `daemon_calls`; ``fetches``: the table with unique; ``pieces``: see
    `fetch_timelines.fetch_pieces`; ``locks``: see `lock_waits.lock_waits`; ``lookups``:
    `cache_lookups`; ``clients``: mount_id of mounts that CVMFS clients serve.
    """

    calls: pl.DataFrame
    fetches: pl.DataFrame
    pieces: pl.DataFrame
    locks: pl.DataFrame
    lookups: pl.DataFrame
    clients: pl.DataFrame


def request_pieces(
    requests: pl.DataFrame, needs: pl.DataFrame, evidence: RequestEvidence
) -> pl.DataFrame:
    """Tile all time by what became of each request: mount_id, unique, start_ns, end_ns, cause,
    fetch_id?.

    Before the daemon took it: ``fuse_queue``. Then, deepest last: ``cache_read`` where it concerns
    an open file, ``catalog`` where it asks for metadata, ``daemon`` where no client of CVMFS serves
    it; ``cache_read`` in lookups of the cache; ``daemon_lock``; the pieces of another thread's
    fetch of a chunk that it needs; its own fetches' pieces; locks in them before they are queued.
    From its end on: ``reply``. ``requests``: `fuse_requests` that someone waited for; ``needs``:
    see `needed_chunks`.
    """
    asked = (
        _first_served(requests, evidence.calls)
        .with_row_index("request")
        .with_columns(pl.col("request").cast(pl.Int32))
    )
    named = asked.select("request", "mount_id", "unique", "opcode")
    own = _own_pieces(named, evidence)
    layers = {
        "base": _base(asked, evidence.clients),
        "cache": _cache_lookups(asked, evidence.lookups),
        "lock": _lock(named, evidence.locks.filter(~pl.col("in_fetch"))),
        "holder": _holder_pieces(asked, own, needs, evidence),
        "own": own,
        "inner": _lock(named, evidence.locks.filter("in_fetch")),
    }
    parts = _sweep_causes(_lives(asked), layers, served=_served_lives(asked))
    keys = named.select("mount_id", "unique", key="request")
    return parts.join(keys, on="key").select(
        "mount_id", "unique", "start_ns", "end_ns", "cause", "fetch_id"
    )


def _first_served(requests: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Where the taking was not seen, the first call for the request bounds it."""
    called = (
        calls.drop_nulls("unique")
        .group_by("mount_id", "unique")
        .agg(called_ns=pl.col("start_ns").min())
    )
    return requests.join(called, on=["mount_id", "unique"], how="left").with_columns(
        pl.coalesce("served_ns", "called_ns").alias("served_ns")
    )


def _lives(asked: pl.DataFrame) -> pl.DataFrame:
    return asked.select(key="request", start_ns=pl.lit(0, pl.Int64), end_ns=pl.lit(HORIZON_NS))


def _served_lives(asked: pl.DataFrame) -> pl.DataFrame:
    """From being taken to the answer: what the daemon's own doings are clipped to."""
    return asked.select(
        key="request",
        start_ns=pl.col("served_ns").fill_null(0),
        end_ns=pl.col("end_ns").fill_null(HORIZON_NS),
    )


def _base(asked: pl.DataFrame, clients: pl.DataFrame) -> pl.DataFrame:
    """Queue, the daemon's kind of work, reply. Ended but never seen taken: since it was queued."""
    ended, taken = pl.col("end_ns").fill_null(HORIZON_NS), pl.col("served_ns")
    unseen = (
        pl.when(pl.col("end_ns").is_null())
        .then(HORIZON_NS)
        .otherwise(pl.col("queued_ns").fill_null(0))
    )
    at = pl.min_horizontal(pl.coalesce(taken, unseen), ended)
    zero, horizon = pl.lit(0, pl.Int64), pl.lit(HORIZON_NS)
    known = asked.join(clients, on="mount_id", how="semi")
    of_handle = pl.col("opcode").is_in(_HANDLE_OPCODES)
    return pl.concat(
        [
            _piece(asked, zero, at, "fuse_queue"),
            _piece(known.filter(of_handle), at, ended, "cache_read"),
            _piece(known.filter(~of_handle), at, ended, "catalog"),
            _piece(asked.join(clients, on="mount_id", how="anti"), at, ended, "daemon"),
            _piece(asked, ended, horizon, "reply"),
        ]
    )


def _cache_lookups(asked: pl.DataFrame, lookups: pl.DataFrame) -> pl.DataFrame:
    """Lookups in the cache on behalf of requests for metadata."""
    metadata = asked.filter(~pl.col("opcode").is_in(_HANDLE_OPCODES))
    if metadata.is_empty() or lookups.is_empty():
        return _piece(asked.clear(), pl.col("served_ns"), pl.col("end_ns"), "cache_read")
    served = lookups.drop_nulls(["mount_id", "end_ns"])
    met = (
        served.with_columns(serving_requests(metadata, served))
        .drop_nulls("unique")
        .select("mount_id", "unique", "start_ns", "end_ns")
    )
    named = metadata.select("request", "mount_id", "unique").join(met, on=["mount_id", "unique"])
    return _piece(named, pl.col("start_ns"), pl.col("end_ns"), "cache_read")


def _lock(named: pl.DataFrame, locks: pl.DataFrame) -> pl.DataFrame:
    met = named.join(locks, on=["mount_id", "unique"])
    return _piece(met, pl.col("start_ns"), pl.col("end_ns").fill_null(HORIZON_NS), "daemon_lock")


def _own_pieces(named: pl.DataFrame, evidence: RequestEvidence) -> pl.DataFrame:
    own = named.join(
        evidence.fetches.select("mount_id", "unique", "fetch_id"), on=["mount_id", "unique"]
    ).join(evidence.pieces, on="fetch_id")
    return own.select("request", "start_ns", "end_ns", "cause", "fetch_id")


def _holder_pieces(
    asked: pl.DataFrame,
    own: pl.DataFrame,
    needs: pl.DataFrame,
    evidence: RequestEvidence,
) -> pl.DataFrame:
    """Pieces of fetches, made for other requests at the time, of the chunks that a READ needs."""
    holders = evidence.fetches.filter(pl.col("outcome").ne_missing(pl.lit("joined"))).select(
        "mount_id", "object_hash", "fetch_id", held_ns="start_ns", freed_ns="end_ns"
    )
    served = asked.select("request", "mount_id", "unique", "served_ns", "end_ns")
    meets = (pl.col("held_ns") < pl.col("end_ns").fill_null(HORIZON_NS)) & (
        pl.col("freed_ns").fill_null(HORIZON_NS) > pl.col("served_ns").fill_null(0)
    )
    pairs = (
        served.join(needs, on=["mount_id", "unique"])
        .join(holders, on=["mount_id", "object_hash"])
        .select("request", "fetch_id", meets=meets)
        .filter("meets")
    )
    foreign = pairs.join(own.select("request", "fetch_id"), on=["request", "fetch_id"], how="anti")
    return foreign.join(evidence.pieces, on="fetch_id").select(
        "request", "start_ns", "end_ns", "cause", "fetch_id"
    )


def _piece(frame: pl.DataFrame, start: pl.Expr, end: pl.Expr, cause: str) -> pl.DataFrame:
    return frame.select(
        "request",
        start_ns=start.cast(pl.Int64),
        end_ns=end.cast(pl.Int64),
        cause=pl.lit(cause, dtype=CAUSE),
        fetch_id=pl.lit(None, pl.Int32),
    )


def _sweep_causes(
    lives: pl.DataFrame, layers: dict[str, pl.DataFrame], served: pl.DataFrame
) -> pl.DataFrame:
    """Sweep pieces, the deepest layer winning: key, start_ns, end_ns, cause, fetch_id."""
    told = pl.concat([layer.select("cause", "fetch_id") for layer in layers.values()])
    intervals: dict[str, pl.DataFrame] = {}
    row = 0
    for name, layer in layers.items():
        value = pl.int_range(row, row + layer.height, dtype=pl.Int32)
        spans = layer.select("start_ns", "end_ns", key="request", value=value)
        bounds = lives if name == "base" else served
        intervals[name] = clip_to_lives(spans, bounds)
        row += layer.height
    parts = sweep(lives, intervals)
    deepest = parts.select(pl.coalesce([pl.col(name) for name in reversed(layers)]))
    chosen = told[deepest.to_series()]
    return _merged(pl.concat([parts.select("key", "start_ns", "end_ns"), chosen], how="horizontal"))


def _merged(parts: pl.DataFrame) -> pl.DataFrame:
    """Merge neighbours of one key that do not differ."""
    same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(name).shift(1)) for name in ("key", "cause", "fetch_id")
    )
    first = parts.filter(~same.fill_null(value=False))
    continued = pl.col("key") == pl.col("key").shift(-1)
    end = pl.when(continued).then(pl.col("start_ns").shift(-1)).otherwise(HORIZON_NS)
    return first.with_columns(end_ns=end)


def needed_chunks(
    requests: pl.DataFrame, known: pl.DataFrame, chunked: pl.DataFrame
) -> pl.DataFrame:
    """Which objects READ requests need: mount_id, unique, object_hash.

    ``requests``: `fuse_requests`; ``known``: files, whose inode is the request's node; ``chunked``:
    chunks.
    """
    inodes = known.select("mount_id", "file_id", node_id="inode").unique(["mount_id", "node_id"])
    reads = (
        requests.filter(pl.col("opcode") == OPCODE_READ)
        .with_row_index("request")
        .join(inodes, on=["mount_id", "node_id"])
    )
    return (
        chunk_at(reads, chunked)
        .join(reads, on="request")
        .select("mount_id", "unique", "object_hash")
    )
