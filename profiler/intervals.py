"""Intervals of time: sweeps, overlaps and as-of joins, by sorting and carrying forward.

No Python loop over events and no range join: the cost is that of sorting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

# Rank of a boundary among those at the same time: a life begins, an interval ends, an interval
# begins, a life ends.
_BIRTH, _END, _BEGIN, _DEATH = 0, 1, 2, 3
_NONE = -1


def latest_begun(
    events: pl.DataFrame, begun: pl.DataFrame, *, at: str, begin: str, by: str | Sequence[str]
) -> pl.DataFrame:
    """Join each event with the row of ``begun`` that began last, at or before the event.

    ``at``: the event's time; ``begin``: when a row of ``begun`` began; ``by``: columns that both
    share. Returns the events in order of ``at`` with the columns of ``begun``, null where none had
    begun. Whether that row had ended by then is for the caller to check.
    """
    return events.sort(at).join_asof(
        begun.sort(begin), left_on=at, right_on=begin, by=by, check_sortedness=False
    )


def next_begun(
    events: pl.DataFrame, begun: pl.DataFrame, *, at: str, begin: str, by: str | Sequence[str]
) -> pl.DataFrame:
    """Join each event with the row of ``begun`` that begins next, at or after the event.

    Parameters and result as of `latest_begun`.
    """
    return events.sort(at).join_asof(
        begun.sort(begin),
        left_on=at,
        right_on=begin,
        by=by,
        strategy="forward",
        check_sortedness=False,
    )


def sweep(lives: pl.DataFrame, layers: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Cut each life at every boundary of its layers and name what is active in each part.

    ``lives``: one row (key Int32, start_ns, end_ns) per key. A layer has rows (key, start_ns,
    end_ns, value Int32 ≥ 0) inside the life; within one layer and key they do not overlap
    (`clip_to_lives` clips them). Returns key, start_ns, end_ns and one column per layer: its active
    value or null. The parts tile every life exactly, whatever the layers hold.
    """
    marks = [_marks(lives, _BIRTH, -1), _marks(lives, _DEATH, -1)]
    for number, layer in enumerate(layers.values()):
        marks += [_marks(layer, _END, number), _marks(layer, _BEGIN, number)]
    ordered = pl.concat(marks).sort("key", "mark", maintain_order=False)
    rank = pl.col("mark") % 4
    states = [_state(number, name, rank) for number, name in enumerate(layers)]
    carried = ordered.select("key", "mark", *states)
    last_of_instant = (pl.col("mark") // 4 != pl.col("mark").shift(-1) // 4) | (
        pl.col("key") != pl.col("key").shift(-1)
    )
    parts = carried.filter(last_of_instant.fill_null(value=True)).with_columns(
        (pl.col("mark") // 4).alias("start_ns"), (pl.col("mark").shift(-1) // 4).alias("end_ns")
    )
    visible = [pl.when(pl.col(name) != _NONE).then(pl.col(name)).alias(name) for name in layers]
    return parts.filter(rank != _DEATH).select("key", "start_ns", "end_ns", *visible)


def clip_to_lives(intervals: pl.DataFrame, lives: pl.DataFrame) -> pl.DataFrame:
    """Clip intervals (key, start_ns, end_ns?, …) to the life of their key.

    A null end means until the life ends. Intervals without a life, or with nothing left, are
    dropped.
    """
    bounds = lives.select("key", birth="start_ns", death="end_ns")
    start = pl.max_horizontal("start_ns", "birth").alias("start_ns")
    end = pl.min_horizontal("end_ns", "death").alias("end_ns")
    return (
        intervals.join(bounds, on="key")
        .with_columns(start, end)
        .filter(pl.col("end_ns") > pl.col("start_ns"))
        .drop("birth", "death")
    )


def overlaps(intervals: pl.DataFrame, segments: pl.DataFrame) -> pl.DataFrame:
    """Clip segments to intervals of their thread.

    ``intervals``: interval, tid, start_ns, end_ns; any number, overlapping or not. ``segments``:
    tid, start_ns, end_ns and more, not overlapping per tid. Returns one row per overlapping pair:
    ``interval``, then the segment's columns with start_ns and end_ns clipped. Costs two as-of joins
    and the size of the result.
    """
    tiles = segments.sort("tid", "start_ns").with_row_index("tile")
    with_tiles = _tiles_met(intervals, tiles)
    pairs = with_tiles.select(
        "interval",
        low="start_ns",
        high="end_ns",
        tile=pl.int_ranges(pl.col("first"), pl.col("last") + 1),
    ).explode("tile")
    rows = tiles.drop("tile")[pairs["tile"]]
    clipped = pl.concat([pairs.drop("tile"), rows], how="horizontal").with_columns(
        pl.max_horizontal("start_ns", "low").alias("start_ns"),
        pl.min_horizontal("end_ns", "high").alias("end_ns"),
    )
    return clipped.drop("low", "high").sort("interval", "start_ns")


def _tiles_met(intervals: pl.DataFrame, tiles: pl.DataFrame) -> pl.DataFrame:
    """Intervals that meet any tile, with the ``first`` and the ``last`` that they meet.

    ``tiles`` are in order of time within each tid, as an as-of join by tid needs them.
    """
    spans = intervals.select(
        "interval",
        pl.col("tid").cast(tiles.schema["tid"]),
        pl.col("start_ns", "end_ns").cast(pl.Int64),
    )
    ends = tiles.select("tid", tile_end="end_ns", first="tile")
    with_first = spans.sort("start_ns").join_asof(
        ends,
        left_on="start_ns",
        right_on="tile_end",
        by="tid",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    starts = tiles.select("tid", tile_start="start_ns", last="tile")
    with_both = with_first.sort("end_ns").join_asof(
        starts,
        left_on="end_ns",
        right_on="tile_start",
        by="tid",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    return with_both.filter(pl.col("last") >= pl.col("first"))


def uncovered(intervals: pl.DataFrame, covered: pl.DataFrame) -> pl.DataFrame:
    """The parts of intervals (interval, start_ns, end_ns, …) that ``covered`` leaves.

    ``covered``: interval, start_ns, end_ns, inside their interval and not overlapping each other.
    """
    after = covered.select("interval", from_ns="end_ns")
    whole = intervals.select("interval", from_ns="start_ns")
    low = pl.concat([whole, after]).sort("interval", "from_ns")
    before = covered.select("interval", until_ns="start_ns")
    last = intervals.select("interval", until_ns="end_ns")
    high = pl.concat([before, last]).sort("interval", "until_ns")
    gaps = pl.concat([low, high.select("until_ns")], how="horizontal")
    return (
        intervals.drop("start_ns", "end_ns")
        .join(gaps, on="interval")
        .rename({"from_ns": "start_ns", "until_ns": "end_ns"})
        .filter(pl.col("end_ns") > pl.col("start_ns"))
    )


def united(intervals: pl.DataFrame, by: str) -> pl.DataFrame:
    """The time that any interval (start_ns, end_ns) covers, for each value of ``by``.

    Returns ``by``, start_ns, end_ns: not overlapping, in order.
    """
    ordered = intervals.sort(by, "start_ns", "end_ns")
    reached = pl.col("end_ns").cum_max().shift(1).over(by)
    begins = (pl.col("start_ns") > reached).fill_null(value=True)
    return (
        ordered.with_columns(group=begins.cum_sum())
        .group_by(by, "group", maintain_order=True)
        .agg(pl.col("start_ns").first(), pl.col("end_ns").max())
        .drop("group")
    )


def merged(parts: pl.DataFrame, *same: str) -> pl.DataFrame:
    """Merge neighbouring rows (start_ns, end_ns, …) whose columns ``same`` are equal.

    ``parts`` are in order and touch each other wherever ``same`` is equal. Other columns keep the
    value of the first row merged.
    """

    def differs(step: int) -> pl.Expr:
        kept = (pl.col(name).eq_missing(pl.col(name).shift(step)) for name in same)
        edge = pl.int_range(pl.len()) == (0 if step > 0 else pl.len() - 1)
        return ~pl.all_horizontal(kept) | edge

    ends = parts.filter(differs(-1))["end_ns"]
    return parts.filter(differs(1)).with_columns(ends)


def _marks(frame: pl.DataFrame, rank: int, layer: int) -> pl.DataFrame:
    """Boundaries (key, mark, layer, value): ``mark`` is 4 × time + rank, one sortable number."""
    time = "end_ns" if rank in (_END, _DEATH) else "start_ns"
    value = pl.col("value") if rank == _BEGIN else pl.lit(_NONE)
    return frame.select(
        pl.col("key").cast(pl.Int32),
        mark=pl.col(time) * 4 + rank,
        layer=pl.lit(layer, pl.Int8),
        value=value.cast(pl.Int32),
    )


def _state(number: int, name: str, rank: pl.Expr) -> pl.Expr:
    """The value last set in one layer; a birth resets it."""
    own = pl.when((pl.col("layer") == number) | (rank == _BIRTH)).then(pl.col("value"))
    return own.forward_fill().alias(name)
