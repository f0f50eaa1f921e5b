"""Waits for attempts that brought nothing, and for what had not come when recording ended."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...profiler.intervals import overlaps, uncovered
from ..material import Frames, Window
from .waits import VAIN, attempts, pending

#: of what has not come for so long, more is lost than of an ordinary answer that is on its way
HANGS_NS = 1_000_000_000


@dataclass(frozen=True)
class Divided:
    """Pieces of waits: ``vain``: for an attempt that was given up, refused or repeated; ``hung``:
    for a fetch without an end, since nothing came of it any more; ``useful``: all others, and
    whatever waited for a client that was stopped.
    """

    vain: pl.DataFrame
    hung: pl.DataFrame
    useful: pl.DataFrame


def divided(pieces: pl.DataFrame, lost: pl.DataFrame, joined: pl.DataFrame) -> Divided:
    """Divide pieces (start_ns, end_ns, cause, fetch_id?, …) by what they waited for.

    ``lost``: see `lost_spans`; ``joined``: fetch_id and joined_fetch_id of fetches.
    """
    whole = pieces.join(
        joined.select("fetch_id", "joined_fetch_id"), on="fetch_id", how="left"
    ).with_row_index("interval")
    asked = whole.filter(pl.col("cause") != "stopped").select(
        "interval", "start_ns", "end_ns", tid=pl.coalesce("joined_fetch_id", "fetch_id")
    )
    met = overlaps(asked.drop_nulls("tid"), lost.rename({"fetch_id": "tid"})).drop("tid")
    parts = whole.drop("start_ns", "end_ns").join(met, on="interval")
    vain, hung = (
        parts.filter(pl.col("hung") == is_hung).select(pieces.columns) for is_hung in (False, True)
    )
    return Divided(vain, hung, uncovered(whole, met).select(pieces.columns))


def lost_spans(frames: Frames, window: Window) -> pl.DataFrame:
    """Return when fetches lost time: fetch_id, start_ns, end_ns, hung.

    Those of a fetch do not overlap: what hangs does so after the last attempt began, be it only to
    connect.
    """
    tried = attempts(frames, window)
    vain = tried.filter(pl.col("kind").is_in(VAIN))
    latest = tried.group_by("fetch_id").agg(
        latest_ns=pl.max_horizontal("start_ns", "last_byte_ns").max()
    )
    silent = (
        pending(frames, window)
        .join(latest, on="fetch_id", how="left")
        .with_columns(start_ns=pl.max_horizontal("start_ns", "latest_ns"))
        .filter(pl.col("end_ns") - pl.col("start_ns") >= HANGS_NS)
    )
    spans = pl.concat(
        part.select("fetch_id", "start_ns", "end_ns", hung=pl.lit(is_hung))
        for part, is_hung in ((vain, False), (silent, True))
    )
    return spans.filter(pl.col("end_ns") > pl.col("start_ns"))
