"""Table `lock_waits`: a client's threads waiting for each other, while they serve requests.

cvmfs holds a lock of the open file across the fetch of a chunk; its locks are 128, chosen by a hash
of the handle, so that unrelated files may share one.
"""

from __future__ import annotations

import polars as pl

from ..attribution.fetch_timelines import HORIZON_NS, METADATA_KINDS
from ..intervals import overlaps
from ..tables import LOCK_KIND, conform

#: how many holders that themselves wait are followed
CHAIN_PASSES = 8


def lock_waits(
    requests: pl.DataFrame, blocked: pl.DataFrame, fetching: pl.DataFrame
) -> pl.DataFrame:
    """The table, and beside it ``in_fetch``: whether the thread had entered a fetch.

    Sleeps of a thread that serves a request, ended by another thread of the same daemon, but not
    those in which it waits for its own download or for one that it joined. The holder is who ended
    the sleep; while that one itself waited, the one that it waited for. A thread that sleeps for a
    lock which is not handed over, because its holder hangs or dies, waits for the thread that
    fetches for the same handle. ``requests``: `fuse_requests` with served_tid and end_tid;
    ``fetching``: `fetches` with queued_ns.
    """
    took = _served(requests)
    kept = _kept_waiting(took, blocked, fetching)
    slept = _outside_downloads(_with_kept(_sleeps(took, blocked), kept), fetching)
    parts = _by_holder(slept.with_row_index("sleep"))
    held = _with_holders_request(parts, took)
    named = _with_holders_fetch(held, fetching)
    rows = named.with_columns(
        end_ns=pl.col("end_ns").replace(HORIZON_NS, None), kind=_kind().cast(LOCK_KIND)
    ).sort("start_ns", "tid")
    return conform("lock_waits", rows, "in_fetch")


def _served(requests: pl.DataFrame) -> pl.DataFrame:
    """What each thread served: mount_id, unique, handle?, tid, served_ns, ended_ns?."""
    return (
        requests.with_columns(tid=pl.coalesce("served_tid", "end_tid"))
        .filter(pl.col("served_ns").is_not_null())
        .select("mount_id", "unique", "handle", "tid", "served_ns", ended_ns="end_ns")
        .sort("served_ns")
    )


def _sleeps(took: pl.DataFrame, blocked: pl.DataFrame) -> pl.DataFrame:
    slept = blocked.filter(
        (pl.col("woken_by_pid") == pl.col("pid"))
        & (pl.col("woken_by_tid") != pl.col("tid"))
        & (pl.col("off_reason") != "preempted")
    ).join(took.select("tid").unique(), on="tid", how="semi")
    met = (
        slept.select("pid", "tid", "start_ns", end_ns="woken_ns", holder_tid="woken_by_tid")
        .drop_nulls("end_ns")
        .sort("start_ns")
        .join_asof(took, left_on="start_ns", right_on="served_ns", by="tid", check_sortedness=False)
    )
    waits = (pl.col("end_ns") > pl.col("start_ns")) & _before_answer()
    return met.filter(waits).drop_nulls("unique").drop("served_ns", "ended_ns")


def _before_answer() -> pl.Expr:
    return pl.col("ended_ns").is_null() | (pl.col("ended_ns") > pl.col("start_ns"))


def _kept_waiting(
    took: pl.DataFrame, blocked: pl.DataFrame, fetching: pl.DataFrame
) -> pl.DataFrame:
    """Sleeps, in the last request of a thread, through whose end another thread fetches for the
    same handle: that one has its lock, and whoever ended the sleep did not hand it over.

    Beside the columns of `_sleeps`, ``fetch_until``: when that fetch ended.
    """
    holders = _fetches_for_handles(took, fetching)
    last = _meeting(took.unique("tid", keep="last").drop_nulls("handle"), holders)
    asleep = (
        blocked.filter(pl.col("off_reason") == "sleep")
        .select("pid", "tid", "start_ns", "woken_ns", "end_ns", "woken_by_pid")
        .join(last, on="tid")
        .filter((pl.col("start_ns") > pl.col("served_ns")) & _before_answer())
    )
    by_sibling = (pl.col("woken_by_pid") == pl.col("pid")).fill_null(value=False)
    final = pl.col("start_ns") == pl.col("start_ns").max().over("tid")
    met = (
        asleep.filter(final | ~by_sibling)
        .select(
            "pid",
            "tid",
            "start_ns",
            "mount_id",
            "unique",
            "handle",
            pl.coalesce("woken_ns", "end_ns", pl.lit(HORIZON_NS)).alias("end_ns"),
        )
        .sort("end_ns")
        .join_asof(
            holders,
            left_on="end_ns",
            right_on="fetch_from",
            by=["pid", "mount_id", "handle"],
            check_sortedness=False,
        )
    )
    goes_on = (pl.col("fetch_until") > pl.col("end_ns")) | (pl.col("fetch_until") == HORIZON_NS)
    serving = pl.col("answered_ns") > pl.col("start_ns")
    held = met.filter(goes_on & serving & (pl.col("holder_tid") != pl.col("tid")))
    return held.select(
        "pid",
        "tid",
        "start_ns",
        "end_ns",
        "holder_tid",
        "mount_id",
        "unique",
        "handle",
        "fetch_until",
    )


def _fetches_for_handles(took: pl.DataFrame, fetching: pl.DataFrame) -> pl.DataFrame:
    """Who fetched for which handle, and when its request was answered: a fetch whose end was not
    seen did not last longer.
    """
    served = took.select("mount_id", "unique", "handle", answered_ns="ended_ns")
    return (
        fetching.join(served.drop_nulls("handle"), on=["mount_id", "unique"])
        .select(
            "pid",
            "mount_id",
            "handle",
            pl.col("answered_ns").fill_null(HORIZON_NS),
            holder_tid="tid",
            fetch_from="start_ns",
            fetch_until=pl.col("end_ns").fill_null(HORIZON_NS),
        )
        .sort("fetch_from")
    )


def _meeting(asked: pl.DataFrame, holders: pl.DataFrame) -> pl.DataFrame:
    """The requests whose handle others fetched for at the time: few, where sleeps are many."""
    others = asked.join(holders, on=["mount_id", "handle"]).filter(
        (pl.col("holder_tid") != pl.col("tid")) & (pl.col("answered_ns") > pl.col("served_ns"))
    )
    return asked.join(others, on="tid", how="semi")


def _with_kept(slept: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """Add ``kept``; what its threads slept after it, while the holder still fetched, was for no
    lock that somebody handed over: they died.
    """
    since = kept.group_by("tid", "unique").agg(
        kept_ns=pl.col("start_ns").min(), until_ns=pl.col("fetch_until").max()
    )
    meant = (pl.col("start_ns") < pl.col("kept_ns")) | (pl.col("end_ns") >= pl.col("until_ns"))
    others = slept.join(since, on=["tid", "unique"], how="left").filter(meant.fill_null(value=True))
    return pl.concat([others.drop("kept_ns", "until_ns"), kept.drop("fetch_until")])


def _outside_downloads(slept: pl.DataFrame, fetching: pl.DataFrame) -> pl.DataFrame:
    """Drop the waits for downloads; add ``in_fetch``."""
    joined = pl.col("outcome").eq_missing(pl.lit("joined"))
    own = fetching.select(
        "pid",
        "tid",
        fetch_from="start_ns",
        fetch_until=pl.col("end_ns").fill_null(HORIZON_NS),
        loads_from=pl.when(joined).then("start_ns").otherwise(pl.coalesce("queued_ns", "start_ns")),
    ).sort("fetch_from")
    met = slept.sort("start_ns").join_asof(
        own, left_on="start_ns", right_on="fetch_from", by=["pid", "tid"], check_sortedness=False
    )
    inside = (pl.col("start_ns") < pl.col("fetch_until")).fill_null(value=False)
    loads = inside & (pl.col("start_ns") >= pl.col("loads_from"))
    return (
        met.with_columns(in_fetch=inside)
        .filter(~loads.fill_null(value=False))
        .drop("fetch_from", "fetch_until", "loads_from")
    )


def _by_holder(slept: pl.DataFrame) -> pl.DataFrame:
    """Divide sleeps where the one that ended them waited too."""
    waits = slept.select("tid", "start_ns", "end_ns", next_tid="holder_tid")
    open_ones, done = slept, list[pl.DataFrame]()
    for _ in range(CHAIN_PASSES):
        asked = open_ones.with_row_index("interval").select(
            "interval", "start_ns", "end_ns", tid="holder_tid"
        )
        met = overlaps(asked, waits)
        rows = open_ones.with_row_index("interval")
        done.append(_uncovered(rows, met).select(slept.columns))
        if not met.height:
            break
        open_ones = (
            met.select("interval", "start_ns", "end_ns", "next_tid")
            .join(rows.drop("start_ns", "end_ns", "holder_tid"), on="interval")
            .rename({"next_tid": "holder_tid"})
            .select(slept.columns)
        )
    return pl.concat(done)


def _uncovered(rows: pl.DataFrame, met: pl.DataFrame) -> pl.DataFrame:
    """The parts of intervals that ``met`` (interval, start_ns, end_ns, not overlapping) leaves."""
    ends = met.select("interval", from_ns="end_ns", order="end_ns")
    starts = rows.select("interval", from_ns="start_ns", order="start_ns")
    low = pl.concat([starts, ends]).sort("interval", "order")
    until = pl.concat(
        [met.select("interval", until_ns="start_ns"), rows.select("interval", until_ns="end_ns")]
    ).sort("interval", "until_ns")
    gaps = pl.concat(
        [low.select("interval", "from_ns"), until.select("until_ns")], how="horizontal"
    )
    return (
        rows.drop("start_ns", "end_ns")
        .join(gaps, on="interval")
        .rename({"from_ns": "start_ns", "until_ns": "end_ns"})
        .filter(pl.col("end_ns") > pl.col("start_ns"))
    )


def _with_holders_request(parts: pl.DataFrame, took: pl.DataFrame) -> pl.DataFrame:
    """Add holder_unique?, holder_handle?: what the holder served when the wait ended."""
    theirs = took.select(
        "mount_id",
        "served_ns",
        "ended_ns",
        holder_tid="tid",
        holder_unique="unique",
        holder_handle="handle",
    )
    met = parts.sort("end_ns").join_asof(
        theirs,
        left_on="end_ns",
        right_on="served_ns",
        by=["mount_id", "holder_tid"],
        check_sortedness=False,
    )
    serving = pl.col("ended_ns").is_null() | (pl.col("ended_ns") >= pl.col("start_ns"))
    return met.with_columns(
        pl.when(serving).then(name).alias(name) for name in ("holder_unique", "holder_handle")
    ).drop("served_ns", "ended_ns")


def _with_holders_fetch(held: pl.DataFrame, fetching: pl.DataFrame) -> pl.DataFrame:
    """Add holder_fetch_id?, holder_kind?: what the holder was fetching meanwhile."""
    theirs = fetching.select(
        "pid",
        holder_tid="tid",
        holder_fetch_id="fetch_id",
        fetch_from="start_ns",
        fetch_until=pl.col("end_ns").fill_null(HORIZON_NS),
        holder_kind=pl.col("object_kind").cast(pl.String),
    ).sort("fetch_from")
    met = held.sort("end_ns").join_asof(
        theirs,
        left_on="end_ns",
        right_on="fetch_from",
        by=["pid", "holder_tid"],
        check_sortedness=False,
    )
    during = (pl.col("fetch_until") > pl.col("start_ns")).fill_null(value=False)
    return met.with_columns(
        pl.when(during).then(name).alias(name) for name in ("holder_fetch_id", "holder_kind")
    ).drop("fetch_from", "fetch_until")


def _kind() -> pl.Expr:
    """Which lock it was, as far as what both did tells."""
    same = pl.col("handle") == pl.col("holder_handle")
    fetches = pl.col("holder_fetch_id").is_not_null() & ~pl.col("in_fetch")
    return (
        pl.when(pl.col("holder_kind").is_in(METADATA_KINDS) & ~pl.col("in_fetch"))
        .then(pl.lit("catalog"))
        .when(same & ~pl.col("in_fetch"))
        .then(pl.lit("same_handle"))
        .when(~same & fetches)
        .then(pl.lit("collision"))
        .otherwise(pl.lit("other"))
    )
