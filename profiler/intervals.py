"""Sweeps over intervals: sort the boundaries, carry the state forward. No loops, no range joins."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

# A boundary's rank among those of one time: a life begins, an interval ends, one begins, a life
# ends.
_BIRTH, _END, _BEGIN, _DEATH = 0, 1, 2, 3
_NONE = -1


def sweep(lives: pl.DataFrame, layers: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Cut each life at every boundary of its layers and say what is active in each part.

    ``lives`` has one row (key Int32, start_ns, end_ns) per key. A layer has rows (key, start_ns,
    end_ns, value Int32 ≥ 0) that lie within the life and, within one layer and key, do not overlap;
    `clip_to_lives` makes it so. Returns key, start_ns, end_ns and one column per layer: its active
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
    """Clip intervals (key, start_ns, end_ns?, …) to their key's life; a null end lasts as long.

    Intervals of no life, or with nothing left, are dropped.
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

    ``intervals``: interval, tid, start_ns, end_ns, in any number and overlapping as they like.
    ``segments``: tid, start_ns, end_ns and more, not overlapping per tid. Returns one row per pair
    that overlaps: ``interval``, then the segment's columns with start_ns and end_ns clipped. The
    cost is that of two as-of joins and of the result.
    """
    tiles = segments.sort("tid", "start_ns").with_row_index("tile")
    asked = intervals.select(
        "interval",
        pl.col("tid").cast(tiles.schema["tid"]),
        pl.col("start_ns", "end_ns").cast(pl.Int64),
    )
    first = asked.sort("start_ns").join_asof(
        tiles.select("tid", tile_end="end_ns", first="tile").sort("tile_end"),
        left_on="start_ns",
        right_on="tile_end",
        by="tid",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    both = first.sort("end_ns").join_asof(
        tiles.select("tid", tile_start="start_ns", last="tile").sort("tile_start"),
        left_on="end_ns",
        right_on="tile_start",
        by="tid",
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    met = both.filter(pl.col("last") >= pl.col("first"))
    pairs = met.select(
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


def _marks(frame: pl.DataFrame, rank: int, layer: int) -> pl.DataFrame:
    """Boundaries (key, mark, layer, value): ``mark`` is time and rank in one sortable number."""
    time = "end_ns" if rank in (_END, _DEATH) else "start_ns"
    value = pl.col("value") if rank == _BEGIN else pl.lit(_NONE)
    return frame.select(
        pl.col("key").cast(pl.Int32),
        mark=pl.col(time) * 4 + rank,
        layer=pl.lit(layer, pl.Int8),
        value=value.cast(pl.Int32),
    )


def _state(number: int, name: str, rank: pl.Expr) -> pl.Expr:
    """The value last set in one layer, none from each birth on."""
    own = pl.when((pl.col("layer") == number) | (rank == _BIRTH)).then(pl.col("value"))
    return own.forward_fill().alias(name)
