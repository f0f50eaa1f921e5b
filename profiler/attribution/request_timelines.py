"""What the time of each FUSE request was spent on: pieces, each with one cause.

A thread that slept until a request ended spent its sleep on these pieces: see `segments`.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...probes import fuse
from ..client.chunks import chunk_at
from ..intervals import clip_to_lives, merged, sweep
from ..kernel.fuse_requests import serving_requests
from ..tables import CAUSE, HORIZON_NS
from .delays import while_needed

#: the layers of time in which a thread that is waited for has no CPU, or is stopped: each is named
#: by its cause, which replaces that of any other layer
_HELD_BACK = ("runqueue", "stopped")


@dataclass(frozen=True)
class RequestEvidence:
    """What requests are divided by.

    ``calls``: `daemon_calls`; ``fetches``: the table with unique; ``pieces``: see
    `fetch_timelines.fetch_pieces`; ``locks``: see `lock_waits.lock_waits`; ``lookups``:
    `cache_lookups`; ``clients``: mount_id of mounts that CVMFS clients serve; ``late``: see
    `delays.delays`; ``stopped``: see `delays.stops`.
    """

    calls: pl.DataFrame
    fetches: pl.DataFrame
    pieces: pl.DataFrame
    locks: pl.DataFrame
    lookups: pl.DataFrame
    clients: pl.DataFrame
    late: pl.DataFrame
    stopped: pl.DataFrame


def request_pieces(
    requests: pl.DataFrame, needs: pl.DataFrame, evidence: RequestEvidence
) -> pl.DataFrame:
    """Tile all time for each request: mount_id, unique, start_ns, end_ns, cause, fetch_id?.

    Until the daemon takes it: ``fuse_queue``. Then, the deepest last: ``cache_read`` if it is about
    an open file, ``catalog`` if it asks for metadata, ``daemon`` if no CVMFS client serves it;
    ``cache_read`` during cache lookups; ``daemon_lock``; the pieces of another thread's fetch of a
    chunk that it needs; the pieces of its own fetches; locks inside those before they are queued.
    ``runqueue`` instead, with the same fetch, while the thread that takes and serves it, or one
    that holds its lock, could run and has no CPU, and ``stopped`` while it is stopped. From its end
    on: ``reply``. ``requests``: `fuse_requests` that a thread waited for; ``needs``: see
    `needed_chunks`.
    """
    numbered = (
        _first_served(requests, evidence.calls)
        .with_row_index("request")
        .with_columns(pl.col("request").cast(pl.Int32))
    )
    keys = numbered.select("request", "mount_id", "unique")
    own = _own_pieces(keys, evidence)
    layers = {
        "base": _base(numbered, evidence.clients),
        "cache": _cache_lookups(numbered, evidence.lookups),
        "lock": _lock(keys, evidence.locks.filter(~pl.col("in_fetch"))),
        "holder": _holder_pieces(numbered, own, needs, evidence),
        "own": own,
        "inner": _lock(keys, evidence.locks.filter("in_fetch")),
        **_held_back(numbered, evidence),
    }
    pieces = _sweep_causes(_lives(numbered), layers, served=_served_lives(numbered))
    return pieces.join(keys.rename({"request": "key"}), on="key").select(
        "mount_id", "unique", "start_ns", "end_ns", "cause", "fetch_id"
    )


def _held_back(requests: pl.DataFrame, evidence: RequestEvidence) -> dict[str, pl.DataFrame]:
    """The layers `_HELD_BACK`."""
    needed = _needed_threads(requests, evidence)
    layers = dict[str, pl.DataFrame]()
    for cause, times in zip(_HELD_BACK, (evidence.late, evidence.stopped), strict=True):
        spans = while_needed(needed, times).rename({"key": "request"})
        layers[cause] = _piece(spans, pl.col("start_ns"), pl.col("end_ns"), pl.lit(cause))
    return layers


def _needed_threads(requests: pl.DataFrame, evidence: RequestEvidence) -> pl.DataFrame:
    """Which threads each request waits for, and when: key, tid?, start_ns, end_ns."""
    serving = requests.select(
        key="request",
        tid=pl.coalesce("served_tid", "end_tid"),
        start_ns=pl.col("queued_ns").fill_null(0),
        end_ns=pl.col("end_ns").fill_null(HORIZON_NS),
    )
    answers = requests.select("request", "mount_id", "unique", answered_ns="end_ns")
    held = answers.join(evidence.locks, on=["mount_id", "unique"])
    holding = held.select(
        key="request",
        tid="holder_tid",
        start_ns="start_ns",
        end_ns=pl.min_horizontal("end_ns", "answered_ns").fill_null(HORIZON_NS),
    )
    return pl.concat([serving, holding])


def _first_served(requests: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Set ``served_ns`` where it was not seen to the first call for the request."""
    called = calls.group_by("mount_id", "unique").agg(called_ns=pl.col("start_ns").min())
    return requests.join(called, on=["mount_id", "unique"], how="left").with_columns(
        pl.coalesce("served_ns", "called_ns").alias("served_ns")
    )


def _lives(requests: pl.DataFrame) -> pl.DataFrame:
    return requests.select(key="request", start_ns=pl.lit(0, pl.Int64), end_ns=pl.lit(HORIZON_NS))


def _served_lives(requests: pl.DataFrame) -> pl.DataFrame:
    """From the daemon taking it to its answer: bounds what the daemon did."""
    return requests.select(
        key="request",
        start_ns=pl.col("served_ns").fill_null(0),
        end_ns=pl.col("end_ns").fill_null(HORIZON_NS),
    )


def _base(requests: pl.DataFrame, clients: pl.DataFrame) -> pl.DataFrame:
    """Queue, the daemon's kind of work, reply.

    If the daemon was not seen to take an answered request, it is taken as soon as it is queued.
    """
    ended = pl.col("end_ns").fill_null(HORIZON_NS)
    untaken = (
        pl.when(pl.col("end_ns").is_null())
        .then(HORIZON_NS)
        .otherwise(pl.col("queued_ns").fill_null(0))
    )
    taken = pl.min_horizontal(pl.coalesce("served_ns", untaken), ended)
    zero, horizon = pl.lit(0, pl.Int64), pl.lit(HORIZON_NS)
    work = (
        pl.when(~pl.col("mount_id").is_in(clients["mount_id"].implode()))
        .then(pl.lit("daemon"))
        .when(pl.col("opcode").is_in(fuse.HANDLE_OPCODES))
        .then(pl.lit("cache_read"))
        .otherwise(pl.lit("catalog"))
    )
    return pl.concat(
        [
            _piece(requests, zero, taken, pl.lit("fuse_queue")),
            _piece(requests, taken, ended, work),
            _piece(requests, ended, horizon, pl.lit("reply")),
        ]
    )


def _cache_lookups(requests: pl.DataFrame, lookups: pl.DataFrame) -> pl.DataFrame:
    """Cache lookups for requests for metadata."""
    metadata = requests.filter(~pl.col("opcode").is_in(fuse.HANDLE_OPCODES))
    ended = lookups.drop_nulls(["mount_id", "end_ns"])
    of_requests = ended.select("mount_id", "start_ns", "end_ns", serving_requests(metadata, ended))
    keys = metadata.select("request", "mount_id", "unique")
    spans = keys.join(of_requests, on=["mount_id", "unique"])
    return _piece(spans, pl.col("start_ns"), pl.col("end_ns"), pl.lit("cache_read"))


def _lock(keys: pl.DataFrame, locks: pl.DataFrame) -> pl.DataFrame:
    waits = keys.join(locks, on=["mount_id", "unique"])
    return _piece(waits, pl.col("start_ns"), pl.col("end_ns"), pl.lit("daemon_lock"))


def _own_pieces(keys: pl.DataFrame, evidence: RequestEvidence) -> pl.DataFrame:
    """The pieces of the fetches that each request made."""
    fetches = evidence.fetches.select("mount_id", "unique", "fetch_id")
    own = keys.join(fetches, on=["mount_id", "unique"]).join(evidence.pieces, on="fetch_id")
    return own.select("request", "start_ns", "end_ns", "cause", "fetch_id")


def _holder_pieces(
    requests: pl.DataFrame, own: pl.DataFrame, needs: pl.DataFrame, evidence: RequestEvidence
) -> pl.DataFrame:
    """The pieces of other requests' fetches of chunks that a READ needs, at the time.

    A chunk may be fetched many times: only the fetches that the request can have waited for.
    """
    holders = evidence.fetches.filter(pl.col("outcome").ne_missing(pl.lit("joined"))).select(
        "mount_id", "object_hash", "fetch_id", held_ns="start_ns", freed_ns="end_ns"
    )
    overlapping = (pl.col("held_ns") < pl.col("end_ns").fill_null(HORIZON_NS)) & (
        pl.col("freed_ns").fill_null(HORIZON_NS) > pl.col("served_ns").fill_null(0)
    )
    pairs = (
        requests.select("request", "mount_id", "unique", "served_ns", "end_ns")
        .join(needs, on=["mount_id", "unique"])
        .join(holders, on=["mount_id", "object_hash"])
        .filter(overlapping)
        .select("request", "fetch_id")
    )
    others = pairs.join(own.select("request", "fetch_id"), on=["request", "fetch_id"], how="anti")
    return others.join(evidence.pieces, on="fetch_id").select(
        "request", "start_ns", "end_ns", "cause", "fetch_id"
    )


def _piece(frame: pl.DataFrame, start: pl.Expr, end: pl.Expr, cause: pl.Expr) -> pl.DataFrame:
    return frame.select(
        "request",
        start_ns=start.cast(pl.Int64),
        end_ns=end.cast(pl.Int64),
        cause=cause.cast(CAUSE),
        fetch_id=pl.lit(None, pl.Int32),
    )


def _sweep_causes(
    lives: pl.DataFrame, layers: dict[str, pl.DataFrame], served: pl.DataFrame
) -> pl.DataFrame:
    """Sweep pieces, the deepest layer winning: key, start_ns, end_ns, cause, fetch_id.

    The fetch is that of the deepest layer below `_HELD_BACK`.
    """
    values = pl.concat([layer.select("cause", "fetch_id") for layer in layers.values()])
    intervals: dict[str, pl.DataFrame] = {}
    row = 0
    for name, layer in layers.items():
        value = pl.int_range(row, row + layer.height, dtype=pl.Int32)
        spans = layer.select("start_ns", "end_ns", key="request", value=value)
        bounds = lives if name in ("base", *_HELD_BACK) else served
        intervals[name] = clip_to_lives(spans, bounds)
        row += layer.height
    parts = sweep(lives, intervals)
    deepest = list(reversed(layers))
    below = [name for name in deepest if name not in _HELD_BACK]
    chosen, of_fetch = (
        values[parts.select(pl.coalesce(names)).to_series()] for names in (deepest, below)
    )
    pieces = parts.select("key", "start_ns", "end_ns").with_columns(
        chosen["cause"], of_fetch["fetch_id"]
    )
    return merged(pieces, "key", "cause", "fetch_id")


def needed_chunks(
    requests: pl.DataFrame, files: pl.DataFrame, chunks: pl.DataFrame
) -> pl.DataFrame:
    """The objects that READ requests need: mount_id, unique, object_hash.

    ``requests``: `fuse_requests`; ``files``: the table, whose inode is the request's node; of two
    files of one inode the last. ``chunks``: the table.
    """
    node = ["mount_id", "node_id"]
    inodes = files.select("mount_id", "file_id", node_id="inode").unique(
        node, keep="last", maintain_order=True
    )
    reads = (
        requests.filter(pl.col("opcode") == fuse.READ)
        .with_row_index("request")
        .join(inodes, on=node)
    )
    needed = chunk_at(reads, chunks).join(reads, on="request")
    return needed.select("mount_id", "unique", "object_hash")
