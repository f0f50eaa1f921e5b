"""What fetches, downloads and FUSE requests were doing over time: pieces, each with one cause.

Where a thread of the command waited for one, the pieces are those of its tiling, so that every lane
and every sum says the same. The rest is divided by the times that the tables give.
"""

from __future__ import annotations

import polars as pl

from ...probes import fuse
from ...profiler.intervals import clip_to_lives, merged, sweep
from ...profiler.tables import CAUSE, CAUSES, FETCH_CAUSES, HORIZON_NS
from ..material import Frames, Window
from .bricks import clip

#: causes that a piece of a fetch may have, and those that divide a request no further
_IN_FETCH = [*FETCH_CAUSES, "catalog", "cache_read", "daemon_lock", "runqueue", "stopped"]
_PLAIN = ("fuse_queue", "cache_read", "catalog", "daemon", "reply", "copy", "cpu")
_TIMES = ("connect_ns", "sent_ns", "first_byte_ns", "last_byte_ns", "committed_ns")


def fetch_parts(frames: Frames, window: Window) -> pl.DataFrame:
    """Tile each fetch within the window: fetch_id, start_ns, end_ns, cause."""
    fetches = frames["fetches"].with_columns(key="fetch_id")
    tried = _attempts(frames).join(fetches.select("fetch_id", "outcome"), on="fetch_id")
    marks = [
        fetches.select("key", at="start_ns", cause=_cause(_undivided(tried))),
        *_marks(tried.with_columns(key="fetch_id"), pl.col("outcome").ne_missing(pl.lit("failed"))),
    ]
    return _tiled(clip(fetches, window.start_ns, window.end_ns), marks, frames["segments"]).rename(
        {"key": "fetch_id"}
    )


def download_parts(downloads: pl.DataFrame, frames: Frames) -> pl.DataFrame:
    """Tile each of these downloads: download_id, start_ns, end_ns, cause.

    ``downloads``: the table with start_ns, end_ns, and fetch_id of the fetch that made it.
    """
    keyed = downloads.with_columns(key="download_id", at="start_ns")
    marks = [
        keyed.select("key", "at", cause=_cause("fetch_queue")),
        *_marks(keyed.with_columns(is_last=pl.lit(value=True)), pl.lit(value=True)),
    ]
    return _tiled(keyed, marks, frames["segments"]).rename({"key": "download_id"})


def request_parts(requests: pl.DataFrame, fetched: pl.DataFrame, frames: Frames) -> pl.DataFrame:
    """Tile each request: key, start_ns, end_ns, cause.

    ``requests``: `fuse_requests` with key, start_ns, end_ns; ``fetched``: see `fetch_parts`.
    """
    base = _request_base(requests, _clients(frames))
    on = ["mount_id", "unique"]
    keys = requests.select("key", *on)
    own = keys.join(frames["fetches"].select(*on, "fetch_id").drop_nulls(), on=on)
    fetching = own.join(fetched, on="fetch_id").select("key", "start_ns", "end_ns", "cause")
    waited = _of_segments(frames["segments"].drop_nulls("unique"), keys, on)
    locks = frames["lock_waits"].with_columns(
        pl.col("end_ns").fill_null(HORIZON_NS), cause=_cause("daemon_lock")
    )
    locked = _of_segments(locks, keys, on)
    divided = waited.filter(~pl.col("cause").is_in(_PLAIN))
    further = pl.concat([each.select("key") for each in (fetching, locked, divided)]).unique()
    plain = base.join(further, on="key", how="anti")
    lives, *layers = (
        each.join(further, on="key", how="semi")
        for each in (requests, base, locked, fetching, waited)
    )
    return pl.concat([plain, _deepest(lives, layers)]).sort("key", "start_ns")


def _clients(frames: Frames) -> pl.Series:
    """Mounts that CVMFS clients serve, by their attributes or by what they do."""
    named = frames["mounts"].drop_nulls("client_version")["mount_id"]
    return pl.concat([named, frames["daemon_calls"]["mount_id"].drop_nulls()]).unique()


def _request_base(requests: pl.DataFrame, clients: pl.Series) -> pl.DataFrame:
    """Queued, then with the daemon, which looks into its cache or its catalogs."""
    taken = pl.coalesce("served_ns", pl.when("answered").then("start_ns"), "end_ns").clip(
        pl.col("start_ns"), pl.col("end_ns")
    )
    work = (
        pl.when(~pl.col("mount_id").is_in(clients.implode()))
        .then(pl.lit("daemon"))
        .when(pl.col("opcode").is_in(fuse.HANDLE_OPCODES))
        .then(pl.lit("cache_read"))
        .otherwise(pl.lit("catalog"))
    )
    queued = requests.select("key", "start_ns", end_ns=taken, cause=_cause("fuse_queue"))
    served = requests.select("key", start_ns=taken, end_ns="end_ns", cause=_cause(work))
    return pl.concat([queued, served]).filter(pl.col("end_ns") > pl.col("start_ns"))


def _attempts(frames: Frames) -> pl.DataFrame:
    """The downloads that each fetch made: fetch_id, the download's times, is_last."""
    own = frames["fetches"].filter(pl.col("outcome").ne_missing(pl.lit("joined")))
    downloads = frames["downloads"].with_columns(
        began_ns=pl.coalesce("queued_ns", "sent_ns", "connect_ns")
    )
    named = own.select("fetch_id", "download_id").drop_nulls()
    within = pl.col("began_ns").is_between(
        pl.col("start_ns"), pl.coalesce("end_ns", pl.col("began_ns"))
    )
    others = (
        own.drop("download_id", "queued_ns", strict=False)
        .join(downloads.drop_nulls("object_hash"), on=["mount_id", "object_hash"])
        .filter(within)
        .select("fetch_id", "download_id")
    )
    last = pl.col("began_ns") == pl.col("began_ns").max().over("fetch_id")
    return (
        pl.concat([named, others])
        .unique()
        .join(downloads, on="download_id")
        .with_columns(is_last=last.fill_null(value=True))
    )


def _undivided(tried: pl.DataFrame) -> pl.Expr:
    """What a fetch begins with: it joins another, has requests, or is not divided at all."""
    return (
        pl.when(pl.col("outcome").eq_missing(pl.lit("joined")))
        .then(pl.lit("fetch_joined"))
        .when(pl.col("fetch_id").is_in(tried["fetch_id"].implode()))
        .then(pl.lit("fetch_queue"))
        .otherwise(pl.lit("fetch"))
    )


def _marks(tried: pl.DataFrame, unpacks: pl.Expr) -> list[pl.DataFrame]:
    """Where the parts of downloads begin: key, at, cause. ``unpacks``: whether it had an object."""
    opened = tried.filter(~pl.col("reused").fill_null(value=True))
    after = pl.when(pl.col("is_last") & unpacks).then(pl.lit("decompress"))
    causes = (
        pl.lit("connect"), pl.lit("first_byte"), pl.lit("transfer"),
        after.otherwise(pl.lit("fetch_queue")), pl.lit("cache_write"),
    )  # fmt: skip
    return [
        (opened if name == "connect_ns" else tried)
        .select("key", at=name, cause=_cause(cause))
        .drop_nulls("at")
        for name, cause in zip(_TIMES, causes, strict=True)
    ]


def _cause(cause: pl.Expr | str) -> pl.Expr:
    return (pl.lit(cause) if isinstance(cause, str) else cause).cast(CAUSE)


def _tiled(lives: pl.DataFrame, marks: list[pl.DataFrame], segments: pl.DataFrame) -> pl.DataFrame:
    """Tile lives (key, start_ns, end_ns, fetch_id?) by marks (key, at, cause) and by segments."""
    ends = lives.select("key", birth="start_ns", death="end_ns")
    ordered = (
        pl.concat([mark.with_columns(rank=rank) for rank, mark in enumerate(marks)])
        .join(ends, on="key")
        .with_columns(at=pl.max_horizontal("at", "birth"))
        .filter(pl.col("at") < pl.col("death"))
        .sort("key", "at", "rank")
    )
    following = pl.col("at").shift(-1).over("key")
    base = ordered.select(
        "key", "cause", start_ns="at", end_ns=following.fill_null(pl.col("death"))
    )
    known = base.filter(pl.col("end_ns") > pl.col("start_ns"))
    in_fetch = segments.drop_nulls("fetch_id").filter(pl.col("cause").is_in(_IN_FETCH))
    waited = _of_segments(in_fetch, lives.select("key", "fetch_id").drop_nulls(), ["fetch_id"])
    return _deepest(lives, [known, waited])


def _of_segments(segments: pl.DataFrame, keys: pl.DataFrame, on: list[str]) -> pl.DataFrame:
    """The segments of each key, none overlapping: key, start_ns, end_ns, cause."""
    found = keys.join(segments.select(*on, "start_ns", "end_ns", "cause"), on=on)
    reached = pl.col("end_ns").cum_max().shift(1).over("key").fill_null(0)
    return (
        found.sort("key", "start_ns", "end_ns")
        .with_columns(start_ns=pl.max_horizontal("start_ns", reached))
        .filter(pl.col("end_ns") > pl.col("start_ns"))
        .select("key", "start_ns", "end_ns", "cause")
    )


def _deepest(lives: pl.DataFrame, layers: list[pl.DataFrame]) -> pl.DataFrame:
    """Lay the pieces (key, start_ns, end_ns, cause) of each layer over those before it."""
    bounds = lives.select(pl.col("key").cast(pl.Int32), "start_ns", "end_ns")
    valued = {
        str(number): clip_to_lives(
            layer.select(pl.col("key").cast(pl.Int32), "start_ns", "end_ns", value=_number()),
            bounds,
        )
        for number, layer in enumerate(layers)
    }
    parts = sweep(bounds, valued).with_columns(
        code=pl.coalesce(*(str(number) for number in reversed(range(len(layers)))))
    )
    tiles = merged(parts.drop_nulls("code"), "key", "code")
    name = pl.col("code").replace_strict(dict(enumerate(CAUSES)), return_dtype=CAUSE)
    return tiles.select("key", "start_ns", "end_ns", cause=name)


def _number() -> pl.Expr:
    """The cause as its place in `CAUSES`."""
    return pl.col("cause").cast(pl.Enum(CAUSES)).to_physical().cast(pl.Int32)
