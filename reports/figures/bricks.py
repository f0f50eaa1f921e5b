"""Intervals made drawable: a bounded number of bricks per lane, disjoint and in order.

A frame of bricks has ``start_ns``, ``end_ns`` and whatever columns describe each interval.
"""

from __future__ import annotations

import polars as pl

DURATION = pl.col("end_ns") - pl.col("start_ns")


def resolution_ns(bricks: pl.DataFrame, budget: int) -> int:
    """Return the length below which bricks must merge so that about ``budget`` remain; 0: none."""
    if bricks.height <= budget:
        return 0
    span: int = bricks.select(pl.col("end_ns").max() - pl.col("start_ns").min()).item()
    return max(span // budget, 1)


def merge_short(bricks: pl.DataFrame, shortest_ns: int, by: str) -> pl.DataFrame:
    """Merge neighbours shorter than ``shortest_ns``, never across a longer one.

    A merged brick covers at most about ``shortest_ns``; it takes the value of ``by`` that held
    longest in it, and the other columns of the longest brick with that value. ``merged`` counts
    what went into each. At most three times span / ``shortest_ns`` bricks come back.
    """
    if not shortest_ns:
        return bricks.with_columns(merged=pl.lit(1, dtype=pl.Int32))
    long = shortest_ns <= DURATION
    bucket = pl.col("start_ns") // shortest_ns
    begins = long | long.shift(1, fill_value=True) | (bucket != bucket.shift(1))
    grouped = bricks.sort("start_ns").with_columns(_group=begins.fill_null(True).cum_sum())
    weighed = grouped.with_columns(
        _duration=DURATION, _weight=DURATION.sum().over("_group", by, order_by=None)
    )
    ends = pl.col("end_ns").max(), pl.len().cast(pl.Int32).alias("merged")
    others = [name for name in bricks.columns if name not in ("start_ns", "end_ns")]
    return (
        weighed.sort("_group", "_weight", "_duration")
        .group_by("_group", maintain_order=True)
        .agg(pl.col("start_ns").min(), *ends, pl.col(others).last())
        .select(*bricks.columns, "merged")
    )


def longest(bricks: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return the ``count`` longest bricks in the order of their start."""
    if bricks.height > count:
        bricks = bricks.with_columns(_duration=DURATION).top_k(count, by="_duration")
        bricks = bricks.drop("_duration")
    return bricks.sort("start_ns")


def pack(bricks: pl.DataFrame, rows: int) -> list[pl.DataFrame]:
    """Spread overlapping bricks over at most ``rows`` rows, each on the first row that is free.

    Bricks for which no row is free are left out; the caller sees it by counting.
    """
    ends: list[int] = []
    places: list[int] = []
    ordered = bricks.sort("start_ns")
    for start, end in ordered.select("start_ns", "end_ns").iter_rows():
        place = next((row for row, busy_until in enumerate(ends) if busy_until <= start), None)
        if place is None and len(ends) < rows:
            place = len(ends)
            ends.append(0)
        if place is not None:
            ends[place] = end
        places.append(-1 if place is None else place)
    placed = ordered.with_columns(_row=pl.Series(places, dtype=pl.Int32))
    return [placed.filter(pl.col("_row") == row).drop("_row") for row in range(len(ends))]


def clip(bricks: pl.DataFrame, start_ns: int, end_ns: int) -> pl.DataFrame:
    """Return the bricks inside the window, cut at its edges; a null end is the window's end."""
    return (
        bricks.with_columns(
            pl.col("start_ns").clip(start_ns, end_ns),
            pl.col("end_ns").fill_null(end_ns).clip(start_ns, end_ns),
        )
        .filter(pl.col("end_ns") > pl.col("start_ns"))
        .sort("start_ns")
    )


def disjoint(bricks: pl.DataFrame) -> pl.DataFrame:
    """Return sorted bricks with each start moved past every earlier end; swallowed ones go."""
    floor = pl.col("end_ns").cum_max().shift(1)
    return (
        bricks.sort("start_ns", "end_ns")
        .with_columns(start_ns=pl.max_horizontal("start_ns", floor))
        .filter(pl.col("end_ns") > pl.col("start_ns"))
    )


def left_out(what: str, drawn: int, total: int) -> str:
    """Return in words how many were left out; nothing where all are drawn."""
    return "" if drawn >= total else f" {drawn:,} of {total:,} {what} are drawn, the longest."
