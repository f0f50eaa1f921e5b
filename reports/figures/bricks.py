"""Intervals to draw: a bounded number of bricks per lane, disjoint and in order.

A frame of bricks has ``start_ns``, ``end_ns`` and whatever columns describe each interval.
"""

from __future__ import annotations

import polars as pl

DURATION = pl.col("end_ns") - pl.col("start_ns")


def resolution_ns(bricks: pl.DataFrame, budget: int) -> int:
    """Return the length below which bricks must merge to leave about ``budget``; 0: none must."""
    if bricks.height <= budget:
        return 0
    span: int = bricks.select(pl.col("end_ns").max() - pl.col("start_ns").min()).item()
    return max(span // budget, 1)


def merge_short(bricks: pl.DataFrame, shortest_ns: int, by: str) -> pl.DataFrame:
    """Merge neighbours shorter than ``shortest_ns``, never across a longer one.

    A merged brick covers at most about ``shortest_ns``. Its value of ``by`` is the one that covers
    most of it; its other columns are those of the longest brick with that value. ``merged`` is
    how many bricks it is made of. At most three times span / ``shortest_ns`` bricks are returned.
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

    Bricks for which no row is free are left out; the caller can count them.
    """
    ends: list[int] = []
    row_of_each: list[int] = []
    ordered = bricks.sort("start_ns")
    for start, end in ordered.select("start_ns", "end_ns").iter_rows():
        row = next((row for row, busy_until in enumerate(ends) if busy_until <= start), None)
        if row is None and len(ends) < rows:
            row = len(ends)
            ends.append(0)
        if row is not None:
            ends[row] = end
        row_of_each.append(-1 if row is None else row)
    packed = ordered.with_columns(_row=pl.Series(row_of_each, dtype=pl.Int32))
    return [packed.filter(pl.col("_row") == row).drop("_row") for row in range(len(ends))]


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
    """Return the bricks in order, each cut where earlier ones end; covered ones are dropped."""
    floor = pl.col("end_ns").cum_max().shift(1)
    return (
        bricks.sort("start_ns", "end_ns")
        .with_columns(start_ns=pl.max_horizontal("start_ns", floor))
        .filter(pl.col("end_ns") > pl.col("start_ns"))
    )


def left_out(what: str, drawn: int, total: int) -> str:
    """Return in words how many were left out; nothing where all are drawn."""
    return "" if drawn >= total else f" {drawn:,} of {total:,} {what} are drawn, the longest."
