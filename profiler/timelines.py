"""What became of the time of a fetch and of a FUSE request: pieces, each with one cause.

A thread that slept until a request ended spent its sleep on these pieces; see `segments`.
"""

from __future__ import annotations

import polars as pl

from .chunks import chunk_at
from .fuse_requests import OPCODE_READ
from .sweep import clip_to_lives, sweep
from .tables import CAUSE

#: later than any time
HORIZON_NS = 1 << 60


def fetch_pieces(
    fetching: pl.DataFrame, tried: pl.DataFrame, downloads: pl.DataFrame
) -> pl.DataFrame:
    """Tile each fetch: fetch_id, start_ns, end_ns, cause, in order.

    ``fetching``: `fetches` with queued_ns and returned_ns, the bounds of the call that downloads;
    ``tried``: fetch_id, download_id, attempt; ``downloads``: the table. A fetch that joined another
    is one piece. A download's time after its last byte is unpacking, verifying and waiting to be
    told: it stays ``fetch``; after the downloading call returned comes ``cache_write``.
    """
    lives = fetching.select(
        "fetch_id", "outcome", "queued_ns", "returned_ns", birth="start_ns",
        death=pl.col("end_ns").fill_null(HORIZON_NS),
    )  # fmt: skip
    wire = tried.join(downloads.drop("attempt"), on="download_id").with_columns(
        is_last=pl.col("attempt") == pl.col("attempt").max().over("fetch_id")
    )
    marks = [*_own_marks(lives, wire), *_wire_marks(wire)]
    placed = (
        pl.concat(marks)
        .drop_nulls("at")
        .join(lives.select("fetch_id", "birth", "death"), on="fetch_id")
    )
    inside = placed.filter((pl.col("at") >= pl.col("birth")) & (pl.col("at") < pl.col("death")))
    ordered = inside.sort("fetch_id", "at", "rank")
    following = pl.col("at").shift(-1).over("fetch_id")
    pieces = ordered.select(
        "fetch_id",
        start_ns="at",
        end_ns=pl.coalesce(following, "death"),
        cause=pl.col("cause").cast(CAUSE),
    )
    return pieces.filter(pl.col("end_ns") > pl.col("start_ns"))


def _own_marks(lives: pl.DataFrame, wire: pl.DataFrame) -> list[pl.DataFrame]:
    """Where the parts of a fetch begin, by its calls."""
    joined = pl.col("outcome").eq_missing(pl.lit("joined"))
    seen = lives.join(wire.select("fetch_id").unique(), on="fetch_id", how="semi")
    begun = lives.select(
        "fetch_id", at="birth",
        cause=pl.when(joined).then(pl.lit("fetch_joined")).otherwise(pl.lit("fetch")),
        rank=pl.lit(0),
    )  # fmt: skip
    queued = _mark(seen, pl.coalesce("queued_ns", "birth"), "fetch_queue", 1)
    returned = _mark(lives, pl.col("returned_ns"), "cache_write", 9)
    return [begun, queued, returned]


def _wire_marks(wire: pl.DataFrame) -> list[pl.DataFrame]:
    """Where the parts of a fetch begin, by its requests on the wire."""
    fresh, last = wire.filter(~pl.col("reused")), wire.filter("is_last")
    failed = wire.filter(~pl.col("is_last"))
    return [
        _mark(fresh, pl.col("connect_ns"), "connect", 2),
        _mark(wire, pl.col("sent_ns"), "first_byte", 3),
        _mark(wire, pl.col("first_byte_ns"), "transfer", 4),
        _mark(
            last, pl.when(pl.col("first_byte_ns").is_not_null()).then("last_byte_ns"), "fetch", 5
        ),
        _mark(failed, pl.col("last_byte_ns"), "fetch_queue", 5),
    ]


def _mark(frame: pl.DataFrame, at: pl.Expr, cause: str, rank: int) -> pl.DataFrame:
    return frame.select("fetch_id", at=at, cause=pl.lit(cause), rank=pl.lit(rank))


def request_pieces(
    requests: pl.DataFrame,
    calls: pl.DataFrame,
    fetching: pl.DataFrame,
    pieces: pl.DataFrame,
    locks: pl.DataFrame,
    needs: pl.DataFrame,
    silent: pl.DataFrame,
) -> pl.DataFrame:
    """Tile all time by what became of each request: mount_id, unique, start_ns, end_ns, cause,
    fetch_id?.

    Before the daemon took it: ``fuse_queue``. Then, deepest last: ``daemon``; ``cache_read`` in
    what answers a READ; ``daemon_lock``; the pieces of another thread's fetch of a chunk that it
    needs; its own fetches' pieces. From its end on: ``reply``. ``requests``: `fuse_requests` that
    someone waited for; ``pieces``: see `fetch_pieces`; ``locks``: see `lock_waits`; ``needs``: see
    `needed_chunks`; ``silent``: mount_id of daemons whose calls are not seen.
    """
    asked = _first_served(requests, calls).with_row_index("request").with_columns(
        pl.col("request").cast(pl.Int32)
    )  # fmt: skip
    named = asked.select("request", "mount_id", "unique", "opcode")
    own = _own_pieces(named, fetching, pieces)
    layers = {
        "base": _base(asked),
        "cache": _cache_read(asked, calls, silent),
        "lock": _lock(named, locks),
        "holder": _holder_pieces(asked, own, fetching, pieces, needs),
        "own": own,
    }
    parts = _sweep_causes(_lives(asked), layers, served=_served_lives(asked))
    keys = named.select("mount_id", "unique", key="request")
    return parts.join(keys, on="key").select(
        "mount_id", "unique", "start_ns", "end_ns", "cause", "fetch_id"
    )


def _first_served(requests: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Where the taking was not seen, the first call for the request bounds it."""
    called = calls.drop_nulls("unique").group_by("mount_id", "unique").agg(
        called_ns=pl.col("start_ns").min()
    )  # fmt: skip
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


def _base(asked: pl.DataFrame) -> pl.DataFrame:
    """Queue, daemon, reply. Ended but never seen taken: the daemon's, from when it was queued."""
    ended, taken = pl.col("end_ns").fill_null(HORIZON_NS), pl.col("served_ns")
    unseen = pl.when(pl.col("end_ns").is_null()).then(HORIZON_NS).otherwise(
        pl.col("queued_ns").fill_null(0)
    )  # fmt: skip
    at = pl.min_horizontal(pl.coalesce(taken, unseen), ended)
    zero, horizon = pl.lit(0, pl.Int64), pl.lit(HORIZON_NS)
    return pl.concat(
        [
            _piece(asked, zero, at, "fuse_queue"),
            _piece(asked, at, ended, "daemon"),
            _piece(asked, ended, horizon, "reply"),
        ]
    )


def _cache_read(asked: pl.DataFrame, calls: pl.DataFrame, silent: pl.DataFrame) -> pl.DataFrame:
    """What answers a READ: the outermost call, or all of it where the daemon's calls are not
    seen.
    """
    reads = asked.filter(pl.col("opcode") == OPCODE_READ)
    outermost = calls.filter(pl.col("parent_id").is_null() & pl.col("unique").is_not_null()).select(
        "mount_id", "unique", "start_ns", called_until=pl.col("end_ns").fill_null(HORIZON_NS)
    )  # fmt: skip
    called = reads.select("request", "mount_id", "unique").join(
        outermost, on=["mount_id", "unique"]
    )
    unseen = reads.join(silent, on="mount_id", how="semi")
    served, ended = pl.col("served_ns").fill_null(0), pl.col("end_ns").fill_null(HORIZON_NS)
    return pl.concat(
        [
            _piece(called, pl.col("start_ns"), pl.col("called_until"), "cache_read"),
            _piece(unseen, served, ended, "cache_read"),
        ]
    )


def _lock(named: pl.DataFrame, locks: pl.DataFrame) -> pl.DataFrame:
    met = named.join(locks, on=["mount_id", "unique"])
    return _piece(met, pl.col("start_ns"), pl.col("end_ns"), "daemon_lock")


def _own_pieces(named: pl.DataFrame, fetching: pl.DataFrame, pieces: pl.DataFrame) -> pl.DataFrame:
    own = named.join(
        fetching.select("mount_id", "unique", "fetch_id"), on=["mount_id", "unique"]
    ).join(pieces, on="fetch_id")  # fmt: skip
    return own.select("request", "start_ns", "end_ns", "cause", "fetch_id")


def _holder_pieces(
    asked: pl.DataFrame,
    own: pl.DataFrame,
    fetching: pl.DataFrame,
    pieces: pl.DataFrame,
    needs: pl.DataFrame,
) -> pl.DataFrame:
    """Pieces of fetches, made for other requests at the time, of the chunks that a READ needs."""
    holders = fetching.filter(pl.col("outcome").ne_missing(pl.lit("joined"))).select(
        "mount_id", "object_hash", "fetch_id", held_ns="start_ns", freed_ns="end_ns"
    )
    served = asked.select("request", "mount_id", "unique", "served_ns", "end_ns")
    meets = (pl.col("held_ns") < pl.col("end_ns").fill_null(HORIZON_NS)) & (
        pl.col("freed_ns").fill_null(HORIZON_NS) > pl.col("served_ns").fill_null(0)
    )
    pairs = served.join(needs, on=["mount_id", "unique"]).join(
        holders, on=["mount_id", "object_hash"]
    ).select("request", "fetch_id", meets=meets).filter("meets")  # fmt: skip
    foreign = pairs.join(own.select("request", "fetch_id"), on=["request", "fetch_id"], how="anti")
    return foreign.join(pieces, on="fetch_id").select(
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
    reads = requests.filter(pl.col("opcode") == OPCODE_READ).with_row_index("request").join(
        inodes, on=["mount_id", "node_id"]
    )  # fmt: skip
    return chunk_at(reads, chunked).join(reads, on="request").select(
        "mount_id", "unique", "object_hash"
    )  # fmt: skip


def lock_waits(requests: pl.DataFrame, blocked: pl.DataFrame) -> pl.DataFrame:
    """Sleeps of the serving thread that another thread of the same daemon ended.

    Returns mount_id, unique, start_ns, end_ns. ``requests``: `fuse_requests` with served_tid and
    end_tid; ``blocked``: the table.
    """
    took = (
        requests.with_columns(tid=pl.coalesce("served_tid", "end_tid"))
        .filter(pl.col("served_ns").is_not_null())
        .select("mount_id", "unique", "tid", "served_ns", ended_ns="end_ns")
        .sort("served_ns")
    )
    slept = blocked.filter(
        (pl.col("woken_by_pid") == pl.col("pid")) & (pl.col("off_reason") != "preempted")
    ).join(took.select("tid").unique(), on="tid", how="semi")
    met = slept.select("tid", "start_ns", "woken_ns").sort("start_ns").join_asof(
        took, left_on="start_ns", right_on="served_ns", by="tid", check_sortedness=False
    )  # fmt: skip
    inside = pl.col("ended_ns").is_null() | (pl.col("ended_ns") > pl.col("start_ns"))
    return met.filter(inside).drop_nulls(["unique", "woken_ns"]).select(
        "mount_id", "unique", "start_ns", end_ns="woken_ns"
    )  # fmt: skip
