"""What became of the time of a fetch: pieces, each with one cause."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..tables import CAUSE
from ..wire.download_work import divided_work, work_marks

#: later than any time
HORIZON_NS = 1 << 60

#: kinds of object that files do not consist of
METADATA_KINDS = ("catalog", "manifest", "whitelist", "certificate", "history", "meta")

# the order of marks of one instant
_BIRTH, _STORED, _QUEUED, _CONNECT, _SENT, _PARTS = range(6)
_AFTER, _HANDED, _RETURNED = range(11, 14)


@dataclass(frozen=True)
class FetchEvidence:
    """What the division of fetches is made of.

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

    In the order of time: ``cache_read`` while it is looked up; ``cache_write`` while a place is
    made for it; ``fetch_queue`` until it is on the wire; ``connect``; ``first_byte``; ``transfer``,
    ``decompress``, ``cache_write``, ``runqueue`` and ``fetch_queue`` as its download thread spends
    the time (`download_work`); ``runqueue`` from the result's being handed over until the thread
    that waits runs; ``cache_write`` while it is committed. ``fetch_joined`` where another thread
    downloads, ``catalog`` all along where the object is none of a file. What no request on the wire
    or no work of the download thread tells stays ``fetch``.
    """
    handed = handed_over(evidence)
    lives = _lives(evidence, handed)
    wire = (
        evidence.tried.join(evidence.downloads.drop("attempt"), on="download_id")
        .with_columns(is_last=pl.col("attempt") == pl.col("attempt").max().over("fetch_id"))
        .join(handed, on="fetch_id", how="left")
        .with_columns(handed_ns=pl.when("is_last").then("handed_ns"))
    )
    marks = [*_own_marks(lives, wire), *_wire_marks(wire, lives, evidence.work)]
    placed = (
        pl.concat(marks)
        .drop_nulls("at")
        .join(lives.select("fetch_id", "birth", "death"), on="fetch_id")
    )
    inside = placed.filter((pl.col("at") >= pl.col("birth")) & (pl.col("at") < pl.col("death")))
    ordered = inside.sort("fetch_id", "at", "rank")
    following = pl.col("at").shift(-1).over("fetch_id")
    pieces = ordered.select(
        "fetch_id", start_ns="at", end_ns=pl.coalesce(following, "death"), cause="cause"
    ).filter(pl.col("end_ns") > pl.col("start_ns"))
    return _merged(_named_as_metadata(pieces, evidence.fetches))


def handed_over(evidence: FetchEvidence) -> pl.DataFrame:
    """When the download thread woke who waited: fetch_id, handed_ns, resumed_ns?.

    The last sleep of the fetching thread that the thread which sent the last attempt ended.
    """
    last = evidence.tried.sort("attempt").unique("fetch_id", keep="last", maintain_order=True)
    asked = evidence.fetches.join(last.select("fetch_id", "sender_tid"), on="fetch_id").select(
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
    met = asked.sort("until").join_asof(
        sleeps.sort("slept_ns"),
        left_on="until",
        right_on="slept_ns",
        by=["pid", "tid", "sender_tid"],
        check_sortedness=False,
    )
    inside = pl.col("slept_ns") >= pl.coalesce("queued_ns", "start_ns")
    return met.filter(inside).select("fetch_id", "handed_ns", "resumed_ns")


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
    looked = (
        evidence.lookups.filter(~pl.col("hit"))
        .select("pid", "tid", "object_hash", looked_ns="end_ns", looked_from="start_ns")
        .drop_nulls()
    )
    met = rows.sort("until").join_asof(
        looked.sort("looked_from"),
        left_on="until",
        right_on="looked_from",
        by=["pid", "tid", "object_hash"],
        check_sortedness=False,
    )
    inside = pl.col("looked_from") >= pl.col("birth")
    return met.with_columns(looked_ns=pl.when(inside).then("looked_ns"))


def _own_marks(lives: pl.DataFrame, wire: pl.DataFrame) -> list[pl.DataFrame]:
    """Where the parts of a fetch begin, by its calls and lookups."""
    joins = pl.col("outcome").eq_missing(pl.lit("joined"))
    joined, others = lives.filter(joins), lives.filter(~joins)
    on_wire = others.join(wire.select("fetch_id").unique(), on="fetch_id", how="semi")
    unseen = others.join(wire.select("fetch_id").unique(), on="fetch_id", how="anti")
    failed = pl.col("outcome").eq_missing(pl.lit("failed"))
    return [
        _mark(lives, pl.col("birth"), "cache_read", _BIRTH),
        _mark(joined, pl.coalesce("looked_ns", "birth"), "fetch_joined", _STORED),
        _mark(others, pl.col("looked_ns"), "cache_write", _STORED),
        _mark(on_wire, pl.coalesce("queued_ns", "looked_ns", "birth"), "fetch_queue", _QUEUED),
        _mark(unseen, pl.coalesce("queued_ns", "looked_ns", "birth"), "fetch", _QUEUED),
        _mark(on_wire, pl.col("handed_ns"), "runqueue", _HANDED),
        _mark(others.filter(~failed), pl.col("returned_ns"), "cache_write", _RETURNED),
        _mark(others.filter(failed), pl.col("returned_ns"), "fetch_queue", _RETURNED),
    ]


def _wire_marks(wire: pl.DataFrame, lives: pl.DataFrame, work: pl.DataFrame) -> list[pl.DataFrame]:
    """Where the parts of a fetch begin, by its requests on the wire and its download thread's work;
    none after the result was handed over.
    """
    parts = divided_work(work, wire)
    worked = wire.join(
        parts.group_by("download_id").agg(worked_ns=pl.col("end_ns").max()), on="download_id"
    )
    unseen = wire.join(worked, on="download_id", how="anti")
    owners = wire.select("download_id", "fetch_id")
    rest = pl.when(pl.col("first_byte_ns").is_not_null()).then("last_byte_ns")
    marks = [
        _mark(wire.filter(~pl.col("reused")), pl.col("connect_ns"), "connect", _CONNECT),
        _mark(wire, pl.col("sent_ns"), "first_byte", _SENT),
        _mark(unseen, pl.col("first_byte_ns"), "transfer", _PARTS),
        _mark(unseen.filter("is_last"), rest, "fetch", _AFTER),
        _mark(unseen.filter(~pl.col("is_last")), rest, "fetch_queue", _AFTER),
        work_marks(parts).join(owners, on="download_id").select(
            "fetch_id", "at", "cause", rank=(pl.col("part") + _PARTS).cast(pl.Int32)
        ),
        _after_work(worked, lives),
    ]  # fmt: skip
    bound = lives.select("fetch_id", bound=pl.coalesce("handed_ns", "returned_ns", "death"))
    both = pl.concat(marks).join(bound, on="fetch_id")
    return [both.filter(pl.col("at") < pl.col("bound")).drop("bound")]


def _after_work(worked: pl.DataFrame, lives: pl.DataFrame) -> pl.DataFrame:
    """After the last piece: more is to come where the fetch goes on; else the thread turned to
    others before it handed the result over, or tries again.
    """
    told = worked.join(lives.select("fetch_id", "returned_ns", "death"), on="fetch_id")
    goes_on = (
        pl.col("is_last")
        & pl.col("handed_ns").is_null()
        & pl.col("returned_ns").is_null()
        & (pl.col("death") == HORIZON_NS)
    )
    cause = pl.when(goes_on).then(pl.lit("transfer")).otherwise(pl.lit("fetch_queue"))
    return told.select("fetch_id", at="worked_ns", cause=cause, rank=pl.lit(_AFTER))


def _mark(frame: pl.DataFrame, at: pl.Expr, cause: str, rank: int) -> pl.DataFrame:
    return frame.select("fetch_id", at=at, cause=pl.lit(cause), rank=pl.lit(rank))


def _named_as_metadata(pieces: pl.DataFrame, fetching: pl.DataFrame) -> pl.DataFrame:
    kinds = fetching.select("fetch_id", "object_kind")
    foreign = pl.col("object_kind").is_in(METADATA_KINDS).fill_null(value=False)
    cause = pl.when(foreign).then(pl.lit("catalog")).otherwise("cause")
    return pieces.join(kinds, on="fetch_id", how="left", maintain_order="left").select(
        "fetch_id", "start_ns", "end_ns", cause=cause.cast(CAUSE)
    )


def _merged(pieces: pl.DataFrame) -> pl.DataFrame:
    """Merge neighbours of one fetch and cause."""
    same = (pl.col("fetch_id") == pl.col("fetch_id").shift(1)) & (
        pl.col("cause") == pl.col("cause").shift(1)
    )
    runs = pieces.with_columns(run=(~same.fill_null(value=False)).cum_sum())
    return (
        runs.group_by("run", maintain_order=True)
        .agg(
            pl.col("fetch_id", "start_ns").first(), pl.col("end_ns").last(), pl.col("cause").first()
        )
        .drop("run")
    )
