from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.profiler.intervals import clip_to_lives, overlaps, sweep

SCHEMA = {"key": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64, "value": pl.Int32}


def intervals(*rows: tuple[int, int, int | None, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def lives(*rows: tuple[int, int, int]) -> pl.DataFrame:
    return pl.DataFrame(
        rows, schema={n: SCHEMA[n] for n in ("key", "start_ns", "end_ns")}, orient="row"
    )


def test_two_layers_over_one_life() -> None:
    outer = intervals((1, 10, 50, 7), (1, 50, 60, 8))
    inner = intervals((1, 20, 30, 0))
    assert sweep(lives((1, 0, 100)), {"outer": outer, "inner": inner}).rows() == [
        (1, 0, 10, None, None),
        (1, 10, 20, 7, None),
        (1, 20, 30, 7, 0),
        (1, 30, 50, 7, None),
        (1, 50, 60, 8, None),
        (1, 60, 100, None, None),
    ]


def test_nothing_of_one_key_leaks_into_the_next() -> None:
    layer = intervals((1, 0, 10, 5), (2, 12, 13, 6))
    parts = sweep(lives((1, 0, 10), (2, 5, 20)), {"layer": layer})
    assert parts.rows() == [(1, 0, 10, 5), (2, 5, 12, None), (2, 12, 13, 6), (2, 13, 20, None)]


def test_clipping_to_lives() -> None:
    found = clip_to_lives(
        intervals((1, 0, 15, 1), (1, 18, None, 2), (1, 30, 40, 3), (1, 12, 12, 4), (9, 12, 14, 5)),
        lives((1, 10, 20)),
    )
    assert sorted(found.rows()) == [(1, 10, 15, 1), (1, 18, 20, 2)]


def test_overlaps_of_intervals_that_overlap_each_other() -> None:
    segments = pl.DataFrame(
        {
            "tid": [5, 5, 5, 6],
            "start_ns": [0, 10, 20, 0],
            "end_ns": [10, 20, 30, 99],
            "cause": ["a", "b", "c", "d"],
        }
    )
    asked = pl.DataFrame(
        {
            "interval": [0, 1, 2, 3],
            "tid": [5, 5, 5, 7],
            "start_ns": [10, 5, 28, 0],
            "end_ns": [20, 25, 60, 10],
        }
    )
    found = overlaps(asked, segments).select("interval", "start_ns", "end_ns", "cause")
    assert found.rows() == [
        (0, 10, 20, "b"),
        (1, 5, 10, "a"),
        (1, 10, 20, "b"),
        (1, 20, 25, "c"),
        (2, 28, 30, "c"),
    ]


span = st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 30), st.integers(0, 9))


@settings(deadline=None, max_examples=100)
@given(layers=st.lists(st.lists(span, max_size=12), min_size=1, max_size=3))
def test_every_life_is_tiled_whatever_the_layers_hold(
    layers: list[list[tuple[int, int, int, int]]],
) -> None:
    living = lives((0, 5, 50), (1, 0, 7), (2, 20, 21))
    frames = {
        f"layer{number}": clip_to_lives(
            intervals(
                *((key, start, start + length, value) for key, start, length, value in layer)
            ),
            living,
        )
        for number, layer in enumerate(layers)
    }
    parts = sweep(living, frames)
    for key, birth, death in living.rows():
        mine = parts.filter(key=key)
        assert mine["start_ns"].to_list() == [birth, *mine["end_ns"].to_list()[:-1]]
        assert mine["end_ns"].to_list()[-1] == death
        assert (mine["end_ns"] > mine["start_ns"]).all()
