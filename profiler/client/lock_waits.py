"""Table `lock_waits`: a client's threads that wait for each other while they serve requests.

cvmfs holds a lock per open file across the fetch of a chunk. It has 128 such locks, chosen by a
hash of the file handle, so unrelated files may share one.
"""

from __future__ import annotations

import polars as pl

from ..intervals import latest_begun, overlaps, uncovered
from ..tables import HORIZON_NS, LOCK_KIND, METADATA_KINDS, conform

#: how many holders that wait themselves are followed
CHAIN_PASSES = 8


def lock_waits(
    requests: pl.DataFrame, blocked: pl.DataFrame, fetches: pl.DataFrame
) -> pl.DataFrame:
    """The table, plus ``in_fetch``: whether the thread had entered a fetch.

    These are sleeps of a thread that serves a request, ended by another thread of the same daemon,
    except waits for its own download or for one that it joined. The holder is the thread that ended
    the sleep; for the time in which the holder itself waited, the thread that it waited for. A lock
    that is never handed over, because its holder hangs or dies, is held by the thread that fetches
    for the same handle. ``requests``: `fuse_requests` with served_tid and end_tid; ``fetches``:
    the table with queued_ns.
    """
    served = _served(requests)
    kept = _kept_waiting(served, blocked, fetches)
    slept = _outside_downloads(_with_kept(_sleeps(served, blocked), kept), fetches)
    parts = _by_holder(slept)
    with_request = _with_holders_request(parts, served)
    with_fetch = _with_holders_fetch(with_request, fetches)
    rows = with_fetch.with_columns(
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


def _sleeps(served: pl.DataFrame, blocked: pl.DataFrame) -> pl.DataFrame:
    """Sleeps in a request, ended by another thread of the daemon: pid, tid, start_ns, end_ns,
    holder_tid, mount_id, unique, handle?.
    """
    by_sibling = (
        blocked.filter(
            (pl.col("woken_by_pid") == pl.col("pid"))
            & (pl.col("woken_by_tid") != pl.col("tid"))
            & (pl.col("off_reason") != "preempted")
        )
        .join(served.select("tid"), on="tid", how="semi")
        .select("pid", "tid", "start_ns", end_ns="woken_ns", holder_tid="woken_by_tid")
    )
    in_request = latest_begun(by_sibling, served, at="start_ns", begin="served_ns", by="tid")
    waits = (pl.col("end_ns") > pl.col("start_ns")) & _before_answer()
    return in_request.filter(waits).drop_nulls("unique").drop("served_ns", "ended_ns")


def _before_answer() -> pl.Expr:
    return pl.col("ended_ns").is_null() | (pl.col("ended_ns") > pl.col("start_ns"))


def _kept_waiting(
    served: pl.DataFrame, blocked: pl.DataFrame, fetches: pl.DataFrame
) -> pl.DataFrame:
    """Sleeps, in a thread's last request, for a lock that was never handed over.

    Another thread fetches for the same handle until after the sleep: it holds the lock, and the
    thread that ended the sleep did not. Columns of `_sleeps` and ``fetch_until``, when that fetch
    ended.
    """
    holders = _fetches_for_handles(served, fetches)
    last = _contended(served.unique("tid", keep="last"), holders)
    asleep = (
        blocked.filter(pl.col("off_reason") == "sleep")
        .select("pid", "tid", "start_ns", "woken_ns", "end_ns", "woken_by_pid")
        .join(last, on="tid")
        .filter((pl.col("start_ns") > pl.col("served_ns")) & _before_answer())
    )
    by_sibling = (pl.col("woken_by_pid") == pl.col("pid")).fill_null(value=False)
    is_last = pl.col("start_ns") == pl.col("start_ns").max().over("tid")
    sleeps = asleep.filter(is_last | ~by_sibling).with_columns(
        pl.coalesce("woken_ns", "end_ns", pl.lit(HORIZON_NS)).alias("end_ns")
    )
    names = ["pid", "tid", "start_ns", "end_ns", "mount_id", "unique", "handle"]
    held = latest_begun(
        sleeps.select(names),
        holders,
        at="end_ns",
        begin="fetch_from",
        by=["pid", "mount_id", "handle"],
    )
    goes_on = (pl.col("fetch_until") > pl.col("end_ns")) | (pl.col("fetch_until") == HORIZON_NS)
    serving = pl.col("answered_ns") > pl.col("start_ns")
    kept = held.filter(goes_on & serving & (pl.col("holder_tid") != pl.col("tid")))
    return kept.select(*names[:4], "holder_tid", *names[4:], "fetch_until")


def _fetches_for_handles(served: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """Fetches with the handle they were made for and when their request was answered.

    pid, mount_id, handle, answered_ns, holder_tid, fetch_from, fetch_until. A fetch whose end was
    not seen lasted at most until the answer.
    """
    answers = served.select("mount_id", "unique", "handle", answered_ns="ended_ns")
    return fetches.join(answers, on=["mount_id", "unique"]).select(
        "pid",
        "mount_id",
        "handle",
        pl.col("answered_ns").fill_null(HORIZON_NS),
        holder_tid="tid",
        fetch_from="start_ns",
        fetch_until=pl.col("end_ns").fill_null(HORIZON_NS),
    )


def _contended(last: pl.DataFrame, holders: pl.DataFrame) -> pl.DataFrame:
    """The requests for whose handle another thread fetched at the time: few, unlike sleeps."""
    others = last.join(holders, on=["mount_id", "handle"]).filter(
        (pl.col("holder_tid") != pl.col("tid")) & (pl.col("answered_ns") > pl.col("served_ns"))
    )
    return last.join(others, on="tid", how="semi")


def _with_kept(slept: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """Add ``kept``, and drop what its threads slept later while the holder still fetched.

    Nobody handed over a lock then: the threads were dying.
    """
    since = kept.group_by("tid", "unique").agg(
        kept_ns=pl.col("start_ns").min(), until_ns=pl.col("fetch_until").max()
    )
    real = (pl.col("start_ns") < pl.col("kept_ns")) | (pl.col("end_ns") >= pl.col("until_ns"))
    others = slept.join(since, on=["tid", "unique"], how="left").filter(real.fill_null(value=True))
    return pl.concat([others.drop("kept_ns", "until_ns"), kept.drop("fetch_until")])


def _outside_downloads(slept: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """Drop the waits for downloads; add ``in_fetch``."""
    joined = pl.col("outcome").eq_missing(pl.lit("joined"))
    own = fetches.select(
        "pid",
        "tid",
        fetch_from="start_ns",
        fetch_until=pl.col("end_ns").fill_null(HORIZON_NS),
        loads_from=pl.when(joined).then("start_ns").otherwise(pl.coalesce("queued_ns", "start_ns")),
    )
    latest = latest_begun(slept, own, at="start_ns", begin="fetch_from", by=["pid", "tid"])
    inside = (pl.col("start_ns") < pl.col("fetch_until")).fill_null(value=False)
    loads = inside & (pl.col("start_ns") >= pl.col("loads_from"))
    return (
        latest.with_columns(in_fetch=inside)
        .filter(~loads)
        .drop("fetch_from", "fetch_until", "loads_from")
    )


def _by_holder(slept: pl.DataFrame) -> pl.DataFrame:
    """Divide sleeps at the times when the thread that ended them waited itself.

    After `CHAIN_PASSES` the holder is the last thread reached, although it waited too.
    """
    waits = slept.select("tid", "start_ns", "end_ns", next_tid="holder_tid")
    rest, done = slept, list[pl.DataFrame]()
    for _ in range(CHAIN_PASSES):
        rows = rest.with_row_index("interval")
        holders = rows.select("interval", "start_ns", "end_ns", tid="holder_tid")
        waiting = overlaps(holders, waits)
        done.append(uncovered(rows, waiting).select(slept.columns))
        if not waiting.height:
            break
        rest = (
            waiting.select("interval", "start_ns", "end_ns", "next_tid")
            .join(rows.drop("start_ns", "end_ns", "holder_tid"), on="interval")
            .rename({"next_tid": "holder_tid"})
            .select(slept.columns)
        )
    else:  # longer chains, and threads that wait for each other: the last thread found
        done.append(rest)
    return pl.concat(done)


def _with_holders_request(parts: pl.DataFrame, served: pl.DataFrame) -> pl.DataFrame:
    """Add holder_unique?, holder_handle?: what the holder served when the wait ended."""
    by_holder = served.select(
        "mount_id",
        "served_ns",
        "ended_ns",
        holder_tid="tid",
        holder_unique="unique",
        holder_handle="handle",
    )
    key = ["mount_id", "holder_tid"]
    latest = latest_begun(parts, by_holder, at="end_ns", begin="served_ns", by=key)
    serving = pl.col("ended_ns").is_null() | (pl.col("ended_ns") >= pl.col("start_ns"))
    return latest.with_columns(
        pl.when(serving).then(name).alias(name) for name in ("holder_unique", "holder_handle")
    ).drop("served_ns", "ended_ns")


def _with_holders_fetch(parts: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """Add holder_fetch_id?, holder_kind?: what the holder was fetching meanwhile."""
    by_holder = fetches.select(
        "pid",
        holder_tid="tid",
        holder_fetch_id="fetch_id",
        fetch_from="start_ns",
        fetch_until=pl.col("end_ns").fill_null(HORIZON_NS),
        holder_kind=pl.col("object_kind").cast(pl.String),
    )
    key = ["pid", "holder_tid"]
    latest = latest_begun(parts, by_holder, at="end_ns", begin="fetch_from", by=key)
    during = pl.col("fetch_until") > pl.col("start_ns")
    return latest.with_columns(
        pl.when(during).then(name).alias(name) for name in ("holder_fetch_id", "holder_kind")
    ).drop("fetch_from", "fetch_until")


def _kind() -> pl.Expr:
    """Which lock it was, as far as what both threads did shows."""
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
