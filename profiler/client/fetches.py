"""Fetches: waits of daemon threads for objects that were not in the cache.

What a fetch was for, and the table `fetches`, follow when its download is known
(`wire.completed_fetches`).
"""

from __future__ import annotations

import polars as pl

from ..intervals import latest_begun, next_begun
from ..kernel.fuse_requests import serving_requests
from ..tables import OUTCOME
from .daemon_calls import DOWNLOAD, FETCH, LOOKUP

#: columns of a fetch before it has a number
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

    A call of Fetcher::Fetch is a fetch unless its first lookup hit. ``queued_ns`` and
    ``returned_ns`` are those of the call of DownloadManager::Fetch inside it.
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
        .join(first_lookup, on="call_id", how="left")
        .join(downloading, on="call_id", how="left")
    )
    downloads, failed = pl.col("queued_ns").is_not_null(), pl.col("result") < 0
    missed = pl.col("first_result") < 0
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
    """Downloads without a Fetcher: manifests, whitelists, certificates.

    Only the HTTP request names the object.
    """
    inside = calls.filter(pl.col("function") == FETCH).select(parent_id="call_id")
    direct = calls.filter(pl.col("function") == DOWNLOAD).join(inside, on="parent_id", how="anti")
    outcome = (
        pl.when(pl.col("end_ns").is_null())
        .then(None)
        .when(pl.col("result") == 0)
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

    A miss, then a transaction on the same thread, is a download; it ends with the rename of the
    transaction's file. A miss, then a hit of the same object on the same thread, waited for another
    thread's download. So did a miss alone while another thread downloads the object; it ends with
    that thread's rename. ``lookups``: rows of `cache_lookups` without a call; ``begun``: see
    `daemon_calls.transactions`; ``committed``: see `daemon_calls.commits`.
    """
    steps = _steps(lookups, begun)
    downloaded = _begun_downloads(steps, begun, committed)
    waited = [_joined(steps), _handed_over(steps, downloaded, requests)]
    both = pl.concat([downloaded, *waited]).drop_nulls("object_hash")
    return both.with_columns(
        serving_requests(requests, both),
        call_id=pl.lit(None, pl.Int32),
        object_suffix=pl.lit(None, pl.String),
        returned_ns=pl.lit(None, pl.Int64),
    ).select(_COLUMNS)


def _begun_downloads(
    steps: pl.DataFrame, begun: pl.DataFrame, committed: pl.DataFrame
) -> pl.DataFrame:
    """A download for each transaction, from the miss before it to the rename of its file."""
    first_miss = steps.filter(pl.col("is_miss") & ~pl.col("after_miss")).select(
        "pid", "tid", "object_hash", missed_ns="start_ns"
    )
    renames = committed.select(
        "pid", "path", committed_hash="object_hash", done_ns="end_ns", renamed_ns="start_ns"
    )
    transactions = begun.rename({"end_ns": "queued_ns"})
    key = ["pid", "tid"]
    missed = latest_begun(transactions, first_miss, at="start_ns", begin="missed_ns", by=key)
    started = next_begun(missed, renames, at="start_ns", begin="renamed_ns", by=["pid", "path"])
    done = pl.col("done_ns").is_not_null()
    return started.select(
        "mount_id",
        "pid",
        "tid",
        start_ns=pl.coalesce("missed_ns", "start_ns"),
        end_ns="done_ns",
        object_hash=pl.coalesce("committed_hash", "object_hash"),
        outcome=pl.when(done).then(pl.lit("downloaded")).cast(OUTCOME),
        queued_ns="queued_ns",
    )


def _joined(steps: pl.DataFrame) -> pl.DataFrame:
    """Misses followed by a hit of the same object on the same thread."""
    return steps.filter("joins").select(
        "mount_id",
        "pid",
        "tid",
        "start_ns",
        end_ns="next_end_ns",
        object_hash="object_hash",
        outcome=pl.lit("joined").cast(OUTCOME),
        queued_ns=pl.lit(None, pl.Int64),
    )


def _handed_over(
    steps: pl.DataFrame, downloaded: pl.DataFrame, requests: pl.DataFrame
) -> pl.DataFrame:
    """Misses after which a thread did nothing while another one downloaded the object.

    The other thread may have looked later and still begun first. Then its download ended within the
    request that this thread was serving.
    """
    alone = steps.filter(pl.col("is_miss") & ~pl.col("after_miss") & ~pl.col("goes_on"))
    alone = alone.with_columns(serving_requests(requests, alone)).join(
        requests.select("mount_id", "unique", answered_ns="end_ns"),
        on=["mount_id", "unique"],
        how="left",
    )
    done = pl.col("freed_ns").is_not_null()
    return (
        _meanwhile(alone, downloaded)
        .sort("freed_ns", nulls_last=True, maintain_order=True)
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


def _meanwhile(alone: pl.DataFrame, downloaded: pl.DataFrame) -> pl.DataFrame:
    """Misses with each download of the same object by another thread meanwhile: held_ns,
    freed_ns?, holder_tid.
    """
    holders = downloaded.select(
        "pid", "object_hash", held_ns="start_ns", freed_ns="end_ns", holder_tid="tid"
    )
    within = pl.col("freed_ns") <= pl.col("answered_ns")
    return alone.join(holders, on=["pid", "object_hash"]).filter(
        ((pl.col("held_ns") <= pl.col("start_ns")) | within)
        & (pl.col("freed_ns") > pl.col("start_ns")).fill_null(value=True)
        & (pl.col("holder_tid") != pl.col("tid"))
    )


def _steps(lookups: pl.DataFrame, begun: pl.DataFrame) -> pl.DataFrame:
    """Lookups and transactions per thread in order, with what comes before and after each."""
    names = ["mount_id", "pid", "tid", "start_ns", "end_ns", "object_hash", "hit"]
    marks = begun.with_columns(
        end_ns=pl.lit(None, pl.Int64), object_hash=pl.lit(None, pl.String), hit=pl.lit(value=None)
    ).with_columns(pl.col("hit").cast(pl.Boolean))
    steps = pl.concat([lookups.select(names), marks.select(names)]).sort("pid", "tid", "start_ns")
    misses, hashes = ~pl.col("hit").fill_null(value=True), pl.col("object_hash")
    follows, next_hash = pl.col("start_ns").shift(-1).is_not_null(), hashes.shift(-1)
    of_thread = {
        "after_miss": (misses.shift(1) & (hashes == hashes.shift(1))).fill_null(value=False),
        "joins": misses & pl.col("hit").shift(-1) & (hashes == next_hash),
        "goes_on": follows & (next_hash.is_null() | (next_hash == hashes)),
        "next_end_ns": pl.col("end_ns").shift(-1),
    }
    neighbours = [step.over("pid", "tid").alias(name) for name, step in of_thread.items()]
    return steps.with_columns(*neighbours, is_miss=misses)


def numbered(unnumbered: pl.DataFrame) -> pl.DataFrame:
    """Number the fetches by start; add ``joined_fetch_id``, the download a joined one waited for.

    Columns of the table as far as known, and object_suffix?, unique?, queued_ns?, returned_ns?.
    """
    rows = unnumbered.sort("start_ns", "tid").with_columns(
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
    pairs = waiting.join(holders, on=["pid", "object_hash"]).filter(meets)
    latest = pairs.group_by("fetch_id").agg(pl.col("joined_fetch_id").max())
    return rows.join(latest, on="fetch_id", how="left", maintain_order="left")
