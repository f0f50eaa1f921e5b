"""Which runs on a CPU only poll: short ones, again and again, between sleeps that timers end."""

from __future__ import annotations

import polars as pl

#: a run that polls takes at most this long on CPUs
POLL_NS = 10_000_000
#: and at most this part of the sleep before it: one tenth
SLEEP_OF_POLL = 10

_ENDED_BY_TIMER = (pl.col("cause") == "blocked") & pl.col("via_tid").is_null()


def polls(segments: pl.DataFrame) -> pl.Series:
    """Whether each segment is ``cpu`` of a run that only polls.

    ``segments``: the table, in order of tid and start_ns. A run is what a thread does between two
    sleeps outside operations that no task ended: a timer, or another interrupt. It polls if it is
    nothing but ``cpu``, ``runqueue`` and shorter sleeps, of which at most `POLL_NS` and at most one
    part in `SLEEP_OF_POLL` of the sleep before it is ``cpu``.
    """
    marked = segments.select(
        "cause",
        "op_id",
        ns=pl.col("end_ns") - pl.col("start_ns"),
        sleeps=_ENDED_BY_TIMER,
        new=_new_life(),
    )
    begins = (pl.col("sleeps") & ~pl.col("sleeps").shift(fill_value=False)) | pl.col("new")
    numbered = marked.with_columns(run=begins.cum_sum().cast(pl.UInt32))
    on_cpu = pl.col("cause") == "cpu"
    idles = pl.col("cause").is_in(["cpu", "runqueue", "blocked"]) & pl.col("op_id").is_null()
    runs = (
        numbered.group_by("run")
        .agg(
            new=pl.col("new").first(),
            slept_ns=pl.col("ns").filter("sleeps").sum(),
            ran_ns=pl.col("ns").filter(on_cpu).sum(),
            idles=idles.all(),
        )
        .sort("run")
    )
    followed_by_sleep = ~pl.col("new").shift(-1, fill_value=True)
    short = (pl.col("ran_ns") <= POLL_NS) & (pl.col("ran_ns") * SLEEP_OF_POLL <= pl.col("slept_ns"))
    polling = runs.select(short & pl.col("idles") & followed_by_sleep).to_series()
    rows = numbered.select(on_cpu, pl.col("run") - pl.col("run").first())
    return rows["cause"] & polling.gather(rows["run"])


def _new_life() -> pl.Expr:
    """Whether a segment is the first of its thread's life."""
    same = (pl.col("tid") == pl.col("tid").shift()) & (
        pl.col("start_ns") == pl.col("end_ns").shift()
    )
    return ~same.fill_null(value=False)
