"""Fetches that failed, and requests to servers that had to be repeated."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import polars as pl

from ..material import Frames


@dataclass(frozen=True)
class Failures:
    """``fetches``: failed ones by the error that the client returned. Requests to servers that
    failed: by HTTP status (``statuses``); ``unanswered``, given up or repeated by the client;
    ``rejected``: answered completely, yet repeated or given up, as when the content does not match
    its hash. ``downloaded_again``: objects that were downloaded more than once. ``silences_ns``:
    how long the client waited at most for the next byte of a request that it then gave up, by way:
    ``proxy`` or ``direct``.
    """

    fetches: dict[str, int]
    statuses: dict[int, int]
    unanswered: int
    rejected: int
    downloaded_again: int
    silences_ns: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def requests(self) -> int:
        """Requests that brought no usable answer."""
        return sum(self.statuses.values()) + self.unanswered + self.rejected


def failures(frames: Frames) -> Failures:
    """Return what failed in a run."""
    attempts = _outcomes(frames)
    bad = attempts.filter(pl.col("status") >= 400)["status"].value_counts().sort("status")
    good = attempts.filter(pl.col("is_answered") & ~pl.col("is_useless"))
    again = good.drop_nulls("object_hash").group_by("mount_id", "object_hash").len()
    return Failures(
        fetches=_errors(frames),
        statuses=dict(bad.iter_rows()),
        unanswered=attempts.filter(pl.col("is_useless") & pl.col("status").is_null()).height,
        rejected=attempts.filter(pl.col("is_useless") & pl.col("is_answered")).height,
        downloaded_again=again.filter(pl.col("len") > 1).height,
        silences_ns=_silences(attempts.filter("is_useless")),
    )


def _silences(useless: pl.DataFrame) -> dict[str, int]:
    """The longest time from the last byte, or the request, to the end of its connection, by way.

    A connection that outlives its attempt was kept for other requests, and says nothing of it.
    """
    latest = pl.max_horizontal("sent_ns", "last_byte_ns")
    way = pl.when(pl.col("proxy").is_null()).then(pl.lit("direct")).otherwise(pl.lit("proxy"))
    closed = useless.drop_nulls("sent_ns").filter(pl.col("closed_ns") <= pl.col("over_ns"))
    silent = closed.select(way=way, ns=pl.col("closed_ns") - latest)
    longest = silent.drop_nulls().group_by("way").agg(pl.col("ns").max())
    return dict(longest.sort("way").iter_rows())


def _outcomes(frames: Frames) -> pl.DataFrame:
    """The downloads with ``is_answered`` (without an error status) and ``is_useless``: repeated by
    the same fetch, or the last attempt of a fetch that failed; of these ``over_ns``: when the next
    attempt began, or the fetch failed.
    """
    of_object = ["mount_id", "object_hash"]
    failed = frames["fetches"].filter(pl.col("outcome") == "failed")
    ends = failed.group_by("download_id").agg(failed_ns=pl.col("end_ns").max())
    ordered = frames["downloads"].join(ends, on="download_id", how="left").sort("download_id")
    following = pl.col("attempt").shift(-1).over(of_object)
    again = (following == pl.col("attempt") + 1) & pl.col("object_hash").is_not_null()
    again = again.fill_null(value=False)
    given_up = pl.col("download_id").is_in(failed["download_id"].implode())
    began = pl.coalesce("sent_ns", "connect_ns", "closed_ns").shift(-1).over(of_object)
    return ordered.with_columns(
        is_answered=(pl.col("status") < 400).fill_null(value=False),
        is_useless=again | given_up.fill_null(value=False),
        over_ns=pl.when(again).then(began).otherwise("failed_ns"),
    )


def _errors(frames: Frames) -> dict[str, int]:
    results = frames["daemon_calls"].select("call_id", "result")
    failed = (
        frames["fetches"]
        .filter(pl.col("outcome") == "failed")
        .join(results, on="call_id", how="left")
    )
    counted = failed.group_by("result").len()
    counted = counted.sort("len", "result", descending=True, nulls_last=True)
    return {_error(result): number for result, number in counted.iter_rows()}


def _error(result: int | None) -> str:
    return "unknown" if result is None else errno.errorcode.get(-result, str(result))
