"""Table `fetches`: waits of daemon threads for objects that were not in the cache."""

from __future__ import annotations

import polars as pl

from ..kernel.fuse_requests import OPCODE_READ, serving_requests
from ..tables import OBJECT_KIND, OUTCOME, conform
from .daemon_calls import DOWNLOAD, FETCH, LOOKUP

OPCODE_OPEN = 14
#: what the letter behind an object's hash says of its kind
SUFFIXES = {
    "P": "chunk", "C": "catalog", "X": "certificate", "H": "history", "M": "meta", "": "file",
}  # fmt: skip

#: what a fetch is before it is joined with the rest
_COLUMNS = (
    "call_id",
    "mount_id",
    "start_ns",
    "end_ns",
    "pid",
    "tid",
    "object_hash",
    "object_suffix",
    "unique",
    "outcome",
    "queued_ns",
    "returned_ns",
)


def fetches_by_call(calls: pl.DataFrame) -> pl.DataFrame:
    """Fetches of daemons whose calls are seen.

    A call of Fetcher::Fetch is one unless its first lookup hit. Beside the table's columns:
    ``unique``, ``queued_ns`` and ``returned_ns`` (the call of DownloadManager::Fetch in it).
    """
    first_lookup = (
        calls.filter(pl.col("function") == LOOKUP)
        .sort("start_ns")
        .group_by(call_id="parent_id", maintain_order=True)
        .agg(first_result=pl.col("result").first())
    )
    downloading = (
        calls.filter(pl.col("function") == DOWNLOAD)
        .group_by(call_id="parent_id")
        .agg(queued_ns=pl.col("start_ns").min(), returned_ns=pl.col("end_ns").max())
    )
    seen = (
        calls.filter(pl.col("function") == FETCH)
        .join(first_lookup.drop_nulls("call_id"), on="call_id", how="left")
        .join(downloading.drop_nulls("call_id"), on="call_id", how="left")
    )
    downloads, failed = pl.col("queued_ns").is_not_null(), pl.col("result").fill_null(0) < 0
    missed = pl.col("first_result").fill_null(0) < 0
    outcome = (
        pl.when(pl.col("end_ns").is_null())
        .then(None)
        .when(failed)
        .then(pl.lit("failed"))
        .when(downloads)
        .then(pl.lit("downloaded"))
        .otherwise(pl.lit("joined"))
    )
    rows = seen.filter(downloads | failed | missed).with_columns(outcome=outcome.cast(OUTCOME))
    return pl.concat([rows.drop_nulls("object_hash").select(_COLUMNS), _direct_downloads(calls)])


def _direct_downloads(calls: pl.DataFrame) -> pl.DataFrame:
    """What the client loads past its Fetcher: manifests, whitelists, certificates. The object is
    known by the wire only.
    """
    inside = calls.filter(pl.col("function") == FETCH).select(parent_id="call_id")
    direct = calls.filter(pl.col("function") == DOWNLOAD).join(inside, on="parent_id", how="anti")
    outcome = (
        pl.when(pl.col("end_ns").is_null())
        .then(None)
        .when(pl.col("result").fill_null(0) == 0)
        .then(pl.lit("downloaded"))
        .otherwise(pl.lit("failed"))
    )
    return direct.with_columns(
        outcome=outcome.cast(OUTCOME), queued_ns="start_ns", returned_ns="end_ns"
    ).select(_COLUMNS)


def fetches_by_name(
    lookups: pl.DataFrame,
    begun: pl.DataFrame,
    committed: pl.DataFrame,
    requests: pl.DataFrame,
) -> pl.DataFrame:
    """Fetches of daemons known by their system calls only.

    A miss, then a transaction on the same thread: a download, ended by the rename of the
    transaction's file. A miss, then a hit of the same object on the same thread: another thread
    downloaded it. A miss alone, while another thread downloads it: that one hands it over when it
    has renamed it. ``lookups``: rows of `cache_lookups` without a call; ``begun``: see
    `daemon_calls.transactions`.
    """
    steps = _steps(lookups, begun)
    first_miss = steps.filter(pl.col("is_miss") & ~pl.col("after_miss"))
    started = (
        begun.rename({"end_ns": "queued_ns"})
        .sort("start_ns")
        .join_asof(
            first_miss.select("pid", "tid", "object_hash", missed_ns="start_ns").sort("missed_ns"),
            left_on="start_ns",
            right_on="missed_ns",
            by=["pid", "tid"],
            check_sortedness=False,
        )
        .join_asof(
            committed.select(
                "pid", "path", committed_hash="object_hash", done_ns="end_ns", renamed_ns="start_ns"
            ).sort("renamed_ns"),
            left_on="start_ns",
            right_on="renamed_ns",
            by=["pid", "path"],
            strategy="forward",
            check_sortedness=False,
        )
    )
    done = pl.col("done_ns").is_not_null()
    downloaded = started.select(
        "mount_id",
        "pid",
        "tid",
        start_ns=pl.coalesce("missed_ns", "start_ns"),
        end_ns="done_ns",
        object_hash=pl.coalesce("committed_hash", "object_hash"),
        outcome=pl.when(done).then(pl.lit("downloaded")).cast(OUTCOME),
        queued_ns="queued_ns",
    )
    joined = steps.filter("joins").select(
        "mount_id",
        "pid",
        "tid",
        "start_ns",
        end_ns="next_end_ns",
        object_hash="object_hash",
        outcome=pl.lit("joined").cast(OUTCOME),
        queued_ns=pl.lit(None, pl.Int64),
    )
    both = pl.concat([downloaded, joined, _handed_over(steps, downloaded, requests)]).drop_nulls(
        "object_hash"
    )
    served = both.with_columns(serving_requests(requests, both))
    return served.with_columns(
        call_id=pl.lit(None, pl.Int32),
        object_suffix=pl.lit(None, pl.String),
        returned_ns=pl.lit(None, pl.Int64),
    ).select(_COLUMNS)


def _handed_over(
    steps: pl.DataFrame, downloaded: pl.DataFrame, requests: pl.DataFrame
) -> pl.DataFrame:
    """Misses after which a thread did nothing while another one downloaded the object.

    That one may have looked later, and been first to begin: then what both looked for ended within
    the request that the thread was serving.
    """
    alone = steps.filter(pl.col("is_miss") & ~pl.col("after_miss") & ~pl.col("goes_on"))
    alone = alone.with_columns(serving_requests(requests, alone)).join(
        requests.select("mount_id", "unique", answered_ns="end_ns"),
        on=["mount_id", "unique"],
        how="left",
    )
    holders = downloaded.select(
        "pid", "object_hash", held_ns="start_ns", freed_ns="end_ns", holder_tid="tid"
    )
    within = (pl.col("freed_ns") <= pl.col("answered_ns")).fill_null(value=False)
    met = alone.join(holders, on=["pid", "object_hash"]).filter(
        ((pl.col("held_ns") <= pl.col("start_ns")) | within)
        & (pl.col("freed_ns") > pl.col("start_ns")).fill_null(value=True)
        & (pl.col("holder_tid") != pl.col("tid"))
    )
    done = pl.col("freed_ns").is_not_null()
    return (
        met.sort("freed_ns", nulls_last=True, maintain_order=True)
        .select(
            "mount_id",
            "pid",
            "tid",
            "start_ns",
            end_ns="freed_ns",
            object_hash="object_hash",
            outcome=pl.when(done).then(pl.lit("joined")).cast(OUTCOME),
            queued_ns=pl.lit(None, pl.Int64),
        )
        .unique(["tid", "start_ns"], keep="first", maintain_order=True)
    )


def _steps(lookups: pl.DataFrame, begun: pl.DataFrame) -> pl.DataFrame:
    """Lookups and transactions per thread in order, each knowing its neighbours."""
    names = ["mount_id", "pid", "tid", "start_ns", "end_ns", "object_hash", "hit"]
    marks = begun.with_columns(
        end_ns=pl.lit(None, pl.Int64), object_hash=pl.lit(None, pl.String), hit=pl.lit(value=None)
    ).with_columns(pl.col("hit").cast(pl.Boolean))
    next_hash = pl.col("object_hash").shift(-1).over("pid", "tid")
    follows = pl.col("start_ns").shift(-1).over("pid", "tid").is_not_null()
    steps = pl.concat([lookups.select(names), marks.select(names)]).sort("pid", "tid", "start_ns")
    thread, same = ["pid", "tid"], pl.col("object_hash")
    missed = ~pl.col("hit").fill_null(value=True)
    return steps.with_columns(
        is_miss=missed,
        after_miss=(missed.shift(1).over(thread) & (same == same.shift(1).over(thread))).fill_null(
            value=False
        ),
        joins=(
            missed & pl.col("hit").shift(-1).over(thread) & (same == same.shift(-1).over(thread))
        ).fill_null(value=False),
        goes_on=(follows & (next_hash.is_null() | (next_hash == same))).fill_null(value=False),
        next_end_ns=pl.col("end_ns").shift(-1).over(thread),
    )


def numbered(found: pl.DataFrame) -> pl.DataFrame:
    """Number the fetches by start and say whose download each joined one waited for."""
    rows = found.sort("start_ns", "tid").with_columns(
        fetch_id=pl.int_range(pl.len(), dtype=pl.Int32)
    )
    holders = rows.filter(pl.col("outcome").ne_missing(pl.lit("joined"))).select(
        "pid", "object_hash", joined_fetch_id="fetch_id", held_ns="start_ns", freed_ns="end_ns"
    )
    waiting = rows.filter(pl.col("outcome") == "joined").select(
        "fetch_id", "pid", "object_hash", "start_ns", "end_ns"
    )
    meets = (pl.col("held_ns") < pl.col("end_ns")) & (
        pl.col("freed_ns").is_null() | (pl.col("freed_ns") > pl.col("start_ns"))
    )
    pairs = waiting.join(holders, on=["pid", "object_hash"]).filter(meets).sort("held_ns")
    latest = pairs.group_by("fetch_id").agg(pl.col("joined_fetch_id").last())
    return rows.join(latest, on="fetch_id", how="left", maintain_order="left")


def fetches(
    rows: pl.DataFrame,
    tried: pl.DataFrame,
    wire: pl.DataFrame,
    requests: pl.DataFrame,
    known: pl.DataFrame,
    chunked: pl.DataFrame,
) -> pl.DataFrame:
    """The table, with ``queued_ns`` and ``returned_ns`` beside it.

    ``rows``: see `numbered`; ``tried``, ``wire``: see `downloads`; ``known``: files; ``chunked``:
    chunks. The file is that of the request for which the object was fetched.
    """
    latest = tried.sort("attempt").group_by("fetch_id").agg(pl.col("download_id").last())
    suffixes = wire.select("download_id", "suffix", "url_path", wire_hash="object_hash")
    sent = (
        rows.join(latest, on="fetch_id", how="left", maintain_order="left")
        .join(suffixes, on="download_id", how="left", maintain_order="left")
        .with_columns(object_hash=pl.coalesce("object_hash", "wire_hash"))
    )
    places_of = _places(sent, requests, known, chunked)
    placed = sent.join(places_of, on="fetch_id", how="left", maintain_order="left")
    letter = pl.when(pl.col("object_suffix") != "").then("object_suffix")
    by_suffix = pl.coalesce(letter, "suffix").replace_strict(
        SUFFIXES, default=None, return_dtype=pl.String
    )
    by_path = (
        pl.col("url_path")
        .str.extract(r"/\.cvmfs(published|whitelist)$")
        .replace({"published": "manifest"})
    )
    own = pl.coalesce(by_suffix, by_path)
    by_place = (
        pl.when(pl.col("chunk_count") > 1)
        .then(pl.lit("chunk"))
        .when(pl.col("chunk_count") == 1)
        .then(pl.lit("file"))
    )
    told = placed.with_columns(kind=pl.coalesce(own, by_place))
    lent = told.select(joined_fetch_id="fetch_id", lent_kind=own)
    named = told.join(lent, on="joined_fetch_id", how="left", maintain_order="left").with_columns(
        object_kind=pl.coalesce("lent_kind", "kind").cast(OBJECT_KIND)
    )
    foreign = ~pl.col("object_kind").is_in(["chunk", "file"]).fill_null(value=True)
    places = ("file_id", "offset_bytes", "unpacked_bytes")
    cleared = named.with_columns(
        *(pl.when(~foreign).then(pl.col(name)).alias(name) for name in places),
    )
    return conform("fetches", cleared, "queued_ns", "returned_ns")


def _places(
    rows: pl.DataFrame, requests: pl.DataFrame, known: pl.DataFrame, chunked: pl.DataFrame
) -> pl.DataFrame:
    """Where in which file: fetch_id, file_id, offset_bytes?, unpacked_bytes?, chunk_count?."""
    asked = (
        rows.select("fetch_id", "mount_id", "unique", "object_hash")
        .join(
            requests.select(
                "mount_id", "unique", "opcode", "node_id", at="offset_bytes", length="size_bytes"
            ),
            on=["mount_id", "unique"],
        )
        .filter(pl.col("opcode").is_in([OPCODE_READ, OPCODE_OPEN]))
    )
    inodes = known.select("mount_id", "file_id", node_id="inode").unique(["mount_id", "node_id"])
    counted = chunked.with_columns(chunk_count=pl.len().over("file_id"))
    found = asked.join(inodes, on=["mount_id", "node_id"]).join(
        counted.select(
            "file_id", "object_hash", "offset_bytes", "chunk_count", unpacked_bytes="size_bytes"
        ),
        on=["file_id", "object_hash"],
        how="left",
    )
    covers = (pl.col("offset_bytes") < pl.col("at") + pl.col("length")) & (
        pl.col("offset_bytes") + pl.col("unpacked_bytes") > pl.col("at")
    )
    best = found.with_columns(covers=covers.fill_null(value=False)).sort(
        "fetch_id", "covers", "offset_bytes", descending=[False, True, False]
    )
    return best.unique("fetch_id", keep="first", maintain_order=True).select(
        "fetch_id", "file_id", "offset_bytes", "unpacked_bytes", "chunk_count"
    )
