"""Sums and counts of frames."""

from __future__ import annotations

import polars as pl


def total(frame: pl.DataFrame, column: str) -> int:
    """Return the sum of a column; 0 without rows."""
    return int(frame[column].sum() or 0)


def count_of(frame: pl.DataFrame, condition: pl.Expr) -> int:
    """Return how many rows fulfil a condition."""
    return frame.filter(condition).height


def by_cause(causes: pl.DataFrame) -> dict[str, int]:
    """Return ns by cause, the largest first."""
    summed = causes.group_by(pl.col("cause").cast(pl.String)).agg(pl.col("ns").sum())
    return dict(
        summed.filter(pl.col("ns") > 0).sort("ns", "cause", descending=[True, False]).iter_rows()
    )
