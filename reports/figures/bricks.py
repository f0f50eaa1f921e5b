"""Intervals to draw: a bounded number of bricks per lane, disjoint and in order.

A frame of bricks has ``start_ns``, ``end_ns`` and whatever columns describe each interval.
"""

from __future__ import annotations

import polars as pl

DURATION = pl.col("end_ns") - pl.col("start_ns")
#: about how many codes occur in one place
_KINDS_AT_ONCE = 3


def resolution_ns(bricks: pl.DataFrame, budget: int) -> int:
    """Return the length below which bricks must merge to leave about ``budget``; 0: none must."""
    if bricks.height <= budget:
        return 0
    span: int = bricks.select(pl.col("end_ns").max() - pl.col("start_ns").min()).item()
    return max(span // budget, 1)


def thin(bricks: pl.DataFrame, limit: int) -> tuple[pl.DataFrame, int]:
    """Merge what is too short until ``limit`` bricks are left, and say which length that is.

    ``bricks`` do not overlap and have a ``code``. See `merge_short`.
    """
    shortest = resolution_ns(bricks, limit) * _KINDS_AT_ONCE
    thinned = merge_short(bricks, shortest)
    while thinned.height > limit:
        shortest *= 2
        thinned = merge_short(bricks, shortest)
    return thinned, shortest


def merge_short(bricks: pl.DataFrame, shortest_ns: int) -> pl.DataFrame:
    """Merge neighbours shorter than ``shortest_ns``, never across a longer one.

    Neighbours that begin within the same ``shortest_ns`` become one brick for each of their codes,
    end to end, the longest first: each covers exactly the time that its code had, and a gap stays
    as long as it was. Other columns are those of the longest of them. ``merged`` is how many bricks
    it is made of.
    """
    if not shortest_ns:
        return bricks.with_columns(merged=pl.lit(1, dtype=pl.Int32))
    long = shortest_ns <= DURATION
    bucket = pl.col("start_ns") // shortest_ns
    begins = long | long.shift(1, fill_value=True) | (bucket != bucket.shift(1))
    grouped = bricks.sort("start_ns").with_columns(_group=begins.fill_null(True).cum_sum())
    others = [name for name in bricks.columns if name not in ("start_ns", "end_ns", "code")]
    covered = pl.col("_ns").cum_sum().over("_group")
    return (
        grouped.with_columns(_begin=pl.col("start_ns").min().over("_group"))
        .group_by("_group", "_begin", "code", maintain_order=True)
        .agg(
            pl.col(others).sort_by(DURATION).last(),
            _ns=DURATION.sum(),
            merged=pl.len().cast(pl.Int32),
        )
        .sort("_group", "_ns", descending=[False, True], maintain_order=True)
        .with_columns(start_ns=pl.col("_begin") + covered - pl.col("_ns"))
        .with_columns(end_ns=pl.col("start_ns") + pl.col("_ns"))
        .select(*bricks.columns, "merged")
    )


def stacked(pieces: pl.DataFrame, step_ns: int, rows: int) -> tuple[list[pl.DataFrame], int]:
    """Sum pieces that may overlap by time and code, and lay the sums in at most ``rows`` rows.

    In each ``step_ns`` the codes lie end to end, in their order, row by row from the first: each
    covers the time that its pieces had. Where they do not fit, all are drawn to a scale. Returns
    the rows, of start_ns, end_ns, code, merged; and how many pieces at once fill a row.
    """
    sums = _sums(pieces, step_ns)
    most = sums.group_by("bin").agg(pl.col("ns").sum())["ns"].max()
    scale = max(-(-int(str(most or 0)) // (step_ns * rows)), 1)
    until = (pl.col("ns").cum_sum().over("bin") / scale).round().cast(pl.Int64)
    laid = sums.with_columns(until=until).with_columns(
        since=pl.col("until").shift(1, fill_value=0).over("bin")
    )
    filled = pl.int_ranges(pl.col("since") // step_ns, -(-pl.col("until") // step_ns))
    cells = laid.filter(pl.col("until") > pl.col("since")).with_columns(row=filled).explode("row")
    left = pl.col("row") * step_ns
    shift = pl.col("bin") * step_ns - left
    drawn = cells.select(
        "row",
        start_ns=pl.max_horizontal("since", left) + shift,
        end_ns=pl.min_horizontal("until", left + step_ns) + shift,
        code="code",
        merged=pl.col("merged").cast(pl.Int32),
    ).sort("row", "start_ns")
    return drawn.drop_nulls("row").partition_by("row", include_key=False), scale


def _sums(pieces: pl.DataFrame, step_ns: int) -> pl.DataFrame:
    """Time by bin and code: bin, code, ns, merged (how many pieces), in order."""
    met = pl.int_ranges(pl.col("start_ns") // step_ns, -(-pl.col("end_ns") // step_ns))
    low = pl.max_horizontal("start_ns", pl.col("bin") * step_ns)
    high = pl.min_horizontal("end_ns", (pl.col("bin") + 1) * step_ns)
    met_bins = pieces.select("start_ns", "end_ns", "code", bin=met).explode("bin")
    return (
        met_bins.group_by("bin", "code")
        .agg(ns=(high - low).sum(), merged=pl.len())
        .sort("bin", "code")
    )


def pack(bricks: pl.DataFrame, rows: int) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """Spread overlapping bricks over at most ``rows`` rows, each on the first row that is free.

    Returns the rows, and the bricks for which no row is free.
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
    found = [packed.filter(pl.col("_row") == row).drop("_row") for row in range(-1, len(ends))]
    return found[1:], found[0]


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
