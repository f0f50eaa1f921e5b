"""What the time of each fetch was spent on: pieces, each with one cause."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..intervals import clip_to_lives, latest_begun, merged, sweep
from ..tables import CAUSE, HORIZON_NS, METADATA_KINDS
from .delays import delays, since_last_sleep, stops, while_needed
from .download_work import divided_work, work_marks

# the order of marks at the same time
_BIRTH, _STORED, _QUEUED, _CONNECT, _SENT, _PARTS = range(6)
_AFTER, _HANDED, _RETURNED = range(11, 14)
#: an attempt of which bytes had come when it was given up
_FROZEN = pl.col("first_byte_ns").is_not_null() & pl.col("given_up_ns").is_not_null()


@dataclass(frozen=True)
class FetchEvidence:
    """What fetches are divided by.

    ``fetches``: the table with queued_ns and returned_ns, the bounds of the call that downloads;
    ``tried``: see `downloads.attempts`; ``downloads``: the table; ``work``: see `download_work`;
    ``lookups``: `cache_lookups`; ``blocked``: the table.
    """

    fetches: pl.DataFrame
    tried: pl.DataFrame
    downloads: pl.DataFrame
    work: pl.DataFrame
    lookups: pl.DataFrame
    blocked: pl.DataFrame


def fetch_pieces(evidence: FetchEvidence) -> pl.DataFrame:
    """Tile each fetch: fetch_id, start_ns, end_ns, cause, in order.

    In order of time: ``cache_read`` during the lookup; ``cache_write`` while the client makes room
    for the object; ``fetch_queue`` until the request is sent; ``connect``; ``first_byte``;
    ``transfer``, ``decompress``, ``cache_write``, ``runqueue`` and ``fetch_queue`` as the download
    thread spends the time (`download_work`); ``runqueue`` from the hand-over of the result until
    the waiting thread runs; ``cache_write`` during the commit. ``runqueue`` instead while the
    download thread has no CPU on its way to connect, to send the request or to hand the result
    over; ``stopped`` instead, throughout, while the thread that fetches or the one that downloads
    is stopped. ``fetch_joined`` while another thread downloads the object; except for ``runqueue``
    and ``stopped``, ``catalog`` throughout if the object is not file content. What neither a
    request nor the download thread's work explains stays ``fetch``.
    """
    handed = handed_over(evidence)
    lives = _lives(evidence, handed)
    wire = (
        evidence.tried.join(evidence.downloads.drop("attempt"), on="download_id")
        .with_columns(is_last=pl.col("attempt") == pl.col("attempt").max().over("fetch_id"))
        .join(handed, on="fetch_id", how="left")
        .with_columns(handed_ns=pl.when("is_last").then("handed_ns"))
    )
    wire = _given_up(wire, evidence.fetches)
    marks = pl.concat([*_own_marks(lives, wire), *_wire_marks(wire, lives, evidence.work)])
    in_life = (
        marks.drop_nulls("at")
        .join(lives.select("fetch_id", "birth", "death"), on="fetch_id")
        .filter((pl.col("at") >= pl.col("birth")) & (pl.col("at") < pl.col("death")))
        .sort("fetch_id", "at", "rank")
    )
    following = pl.col("at").shift(-1).over("fetch_id")
    pieces = in_life.select(
        "fetch_id", start_ns="at", end_ns=pl.coalesce(following, "death"), cause="cause"
    ).filter(pl.col("end_ns") > pl.col("start_ns"))
    held_back = {
        "runqueue": while_needed(_needed_sender(lives, wire, evidence), delays(evidence.blocked)),
        "stopped": while_needed(_workers(lives, wire), stops(evidence.blocked)),
    }
    parts = _held_back(pieces, lives, held_back)
    return merged(_named_as_metadata(parts, evidence.fetches), "fetch_id", "cause")


def _given_up(wire: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """Attempts, with given_up_ns? of those in vain whose connection was closed for that: before
    the next attempt, or before the fetch failed.
    """
    failed = fetches.filter(pl.col("outcome") == "failed").select("fetch_id", failed_ns="end_ns")
    over_ns = pl.coalesce(pl.col("sent_ns").shift(-1).over("fetch_id"), "failed_ns")
    in_vain = ~pl.col("is_last") | pl.col("failed_ns").is_not_null()
    is_before = (pl.col("closed_ns") <= over_ns).fill_null(value=True)
    given_up = pl.when(in_vain & is_before & pl.col("sent_ns").is_not_null()).then("closed_ns")
    ordered = wire.join(failed, on="fetch_id", how="left").sort("fetch_id", "attempt")
    return ordered.with_columns(given_up_ns=given_up).drop("failed_ns")


def _needed_sender(
    lives: pl.DataFrame, wire: pl.DataFrame, evidence: FetchEvidence
) -> pl.DataFrame:
    """When each fetch waited for the download thread to connect, to send the request, and, after
    its last piece, to hand the result over: key (fetch_id), tid, start_ns, end_ns.
    """
    worked = evidence.work.group_by("download_id").agg(worked_ns=pl.col("end_ns").max())
    queued = wire.drop("queued_ns").join(lives.select("fetch_id", "queued_ns"), on="fetch_id")
    sent = queued.join(worked, on="download_id", how="left")
    connect = pl.when(pl.col("connect_ns") >= pl.col("queued_ns")).then("connect_ns")
    steps = (
        (pl.col("queued_ns"), connect),
        (pl.coalesce(connect, "queued_ns"), pl.col("sent_ns")),
        (pl.coalesce("worked_ns", "last_byte_ns"), pl.col("handed_ns")),
    )
    acts = [
        sent.select(key="fetch_id", tid="sender_tid", from_ns=since, at_ns=at)
        for since, at in steps
    ]
    return since_last_sleep(pl.concat(acts).drop_nulls(), evidence.blocked)


def _workers(lives: pl.DataFrame, wire: pl.DataFrame) -> pl.DataFrame:
    """The threads that work for each fetch: its own and, from the queue until the hand-over, those
    that sent its requests: key (fetch_id), tid, start_ns, end_ns.
    """
    own = lives.select(key="fetch_id", tid="tid", start_ns="birth", end_ns="death")
    sent = wire.select("fetch_id", "sender_tid").unique().join(lives, on="fetch_id")
    senders = sent.select(
        key="fetch_id",
        tid="sender_tid",
        start_ns=pl.coalesce("queued_ns", "birth"),
        end_ns=pl.coalesce("handed_ns", "death"),
    )
    return pl.concat([own, senders])


def _held_back(
    pieces: pl.DataFrame, lives: pl.DataFrame, over: dict[str, pl.DataFrame]
) -> pl.DataFrame:
    """Pieces with the cause by which ``over`` names what lies over them (key, start_ns, end_ns),
    the last one first.
    """
    bounds = lives.select(pl.col("fetch_id").alias("key"), start_ns="birth", end_ns="death").filter(
        pl.col("end_ns") > pl.col("start_ns")
    )
    numbered = pieces.rename({"fetch_id": "key"}).with_columns(
        value=pl.int_range(pl.len(), dtype=pl.Int32)
    )
    layers = {"piece": clip_to_lives(numbered.drop("cause"), bounds)}
    for cause, spans in over.items():
        layers[cause] = clip_to_lives(spans.with_columns(value=pl.lit(0, pl.Int32)), bounds)
    parts = sweep(bounds, layers)
    causes = pieces["cause"].gather(parts["piece"])
    there = [pl.when(pl.col(each).is_not_null()).then(pl.lit(each)) for each in reversed(over)]
    return (
        parts.with_columns(cause=causes)
        .drop_nulls("piece")
        .with_columns(cause=pl.coalesce(*there, "cause"))
        .select("start_ns", "end_ns", "cause", fetch_id="key")
        .select("fetch_id", "start_ns", "end_ns", "cause")
    )


def handed_over(evidence: FetchEvidence) -> pl.DataFrame:
    """When the download thread woke the waiting thread: fetch_id, handed_ns, resumed_ns?.

    The last sleep of the fetching thread that was ended by the thread which sent the last attempt.
    """
    last = evidence.tried.sort("attempt").unique("fetch_id", keep="last", maintain_order=True)
    waiting = evidence.fetches.join(last.select("fetch_id", "sender_tid"), on="fetch_id").select(
        "fetch_id",
        "pid",
        "tid",
        "sender_tid",
        "queued_ns",
        "start_ns",
        until=pl.coalesce("returned_ns", "end_ns", pl.lit(HORIZON_NS)),
    )
    sleeps = (
        evidence.blocked.filter(pl.col("off_reason") != "preempted")
        .select(
            "pid",
            "tid",
            sender_tid="woken_by_tid",
            slept_ns="start_ns",
            handed_ns="woken_ns",
            resumed_ns="end_ns",
        )
        .drop_nulls(["sender_tid", "handed_ns"])
    )
    key = ["pid", "tid", "sender_tid"]
    latest = latest_begun(waiting, sleeps, at="until", begin="slept_ns", by=key)
    in_fetch = pl.col("slept_ns") >= pl.coalesce("queued_ns", "start_ns")
    return latest.filter(in_fetch).select("fetch_id", "handed_ns", "resumed_ns")


def _lives(evidence: FetchEvidence, handed: pl.DataFrame) -> pl.DataFrame:
    """Fetches with ``birth``, ``death``, looked_ns? (the end of the last lookup before it was
    queued), handed_ns?, returned_ns?.
    """
    rows = (
        evidence.fetches.join(handed, on="fetch_id", how="left", maintain_order="left")
        .select(
            "fetch_id",
            "outcome",
            "pid",
            "tid",
            "object_hash",
            "queued_ns",
            "handed_ns",
            returned_ns=pl.coalesce("returned_ns", "resumed_ns"),
            birth="start_ns",
            death=pl.col("end_ns").fill_null(HORIZON_NS),
        )
        .with_columns(until=pl.coalesce("queued_ns", "death"))
    )
    misses = (
        evidence.lookups.filter(~pl.col("hit"))
        .select("pid", "tid", "object_hash", looked_ns="end_ns", looked_from="start_ns")
        .drop_nulls()
    )
    key = ["pid", "tid", "object_hash"]
    latest = latest_begun(rows, misses, at="until", begin="looked_from", by=key)
    in_fetch = pl.col("looked_from") >= pl.col("birth")
    return latest.with_columns(looked_ns=pl.when(in_fetch).then("looked_ns"))


def _own_marks(lives: pl.DataFrame, wire: pl.DataFrame) -> list[pl.DataFrame]:
    """Where the parts of a fetch begin, by its calls and lookups."""
    joins = pl.col("outcome").eq_missing(pl.lit("joined"))
    joined, others = lives.filter(joins), lives.filter(~joins)
    on_wire = others.join(wire, on="fetch_id", how="semi")
    unseen = others.join(wire, on="fetch_id", how="anti")
    failed = pl.col("outcome").eq_missing(pl.lit("failed"))
    after = pl.when(failed).then(pl.lit("fetch_queue")).otherwise(pl.lit("cache_write"))
    return [
        _mark(lives, pl.col("birth"), "cache_read", _BIRTH),
        _mark(joined, pl.coalesce("looked_ns", "birth"), "fetch_joined", _STORED),
        _mark(others, pl.col("looked_ns"), "cache_write", _STORED),
        _mark(on_wire, pl.coalesce("queued_ns", "looked_ns", "birth"), "fetch_queue", _QUEUED),
        _mark(unseen, pl.coalesce("queued_ns", "looked_ns", "birth"), "fetch", _QUEUED),
        _mark(on_wire, pl.col("handed_ns"), "runqueue", _HANDED),
        _mark(others, pl.col("returned_ns"), after, _RETURNED),
    ]


def _wire_marks(wire: pl.DataFrame, lives: pl.DataFrame, work: pl.DataFrame) -> list[pl.DataFrame]:
    """Where the parts of a fetch begin, by its requests and by the download thread's work.

    None is later than the hand-over of the result.
    """
    parts = divided_work(work, wire)
    worked = wire.join(
        parts.group_by("download_id").agg(worked_ns=pl.col("end_ns").max()), on="download_id"
    )
    unseen = wire.join(worked, on="download_id", how="anti")
    owners = wire.select("download_id", "fetch_id")
    rest = pl.when(pl.col("first_byte_ns").is_not_null()).then("last_byte_ns")
    after = (
        pl.when(_FROZEN)
        .then(pl.lit("transfer"))
        .when("is_last")
        .then(pl.lit("fetch"))
        .otherwise(pl.lit("fetch_queue"))
    )
    marks = [
        _mark(wire.filter(~pl.col("reused")), pl.col("connect_ns"), "connect", _CONNECT),
        _mark(wire, pl.col("sent_ns"), "first_byte", _SENT),
        _mark(unseen, pl.col("first_byte_ns"), "transfer", _PARTS),
        _mark(unseen, rest, after, _AFTER),
        work_marks(parts).join(owners, on="download_id").select(
            "fetch_id", "at", "cause", rank=(pl.col("part") + _PARTS).cast(pl.Int32)
        ),
        _after_work(worked, lives),
        _mark(wire, pl.col("given_up_ns"), "fetch_queue", _AFTER),
    ]  # fmt: skip
    bound = lives.select("fetch_id", bound=pl.coalesce("handed_ns", "returned_ns", "death"))
    both = pl.concat(marks).join(bound, on="fetch_id")
    return [both.filter(pl.col("at") < pl.col("bound")).drop("bound")]


def _after_work(worked: pl.DataFrame, lives: pl.DataFrame) -> pl.DataFrame:
    """What follows the last piece.

    ``transfer`` if the fetch never ended, or until the attempt was given up: more is to come. Else
    the thread served others before it handed the result over, or tried again.
    """
    rows = worked.join(lives.select("fetch_id", "returned_ns", "death"), on="fetch_id")
    goes_on = (
        pl.col("is_last")
        & pl.col("handed_ns").is_null()
        & pl.col("returned_ns").is_null()
        & (pl.col("death") == HORIZON_NS)
    )
    cause = pl.when(goes_on | _FROZEN).then(pl.lit("transfer")).otherwise(pl.lit("fetch_queue"))
    return _mark(rows, pl.col("worked_ns"), cause, _AFTER)


def _mark(frame: pl.DataFrame, at: pl.Expr, cause: str | pl.Expr, rank: int) -> pl.DataFrame:
    named = pl.lit(cause) if isinstance(cause, str) else cause
    return frame.select("fetch_id", at=at, cause=named, rank=pl.lit(rank))


def _named_as_metadata(pieces: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    kinds = fetches.select("fetch_id", "object_kind")
    is_metadata = pl.col("object_kind").is_in(METADATA_KINDS)
    served = ~pl.col("cause").is_in(["runqueue", "stopped"])
    cause = pl.when(is_metadata & served).then(pl.lit("catalog")).otherwise("cause")
    return pieces.join(kinds, on="fetch_id", maintain_order="left").select(
        "fetch_id", "start_ns", "end_ns", cause=cause.cast(CAUSE)
    )
