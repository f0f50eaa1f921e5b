from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.profiler.intervals import (
    clip_to_lives,
    latest_begun,
    merged,
    next_begun,
    overlaps,
    sweep,
    uncovered,
)
from cvmprof.tests.profiler.rows import frame

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


EVENTS = {"at": pl.Int64, "by": pl.Int32}
BEGUN = {"begin": pl.Int64, "by": pl.Int32, "name": pl.String}


def test_the_row_that_began_last_or_begins_next() -> None:
    """At the time of the event counts for both; of the same key; in order of the events."""
    events = frame(EVENTS, (30, 1), (10, 1), (9, 1), (20, 2), (31, 1))
    begun = frame(BEGUN, (30, 1, "c"), (10, 1, "a"), (20, 1, "b"), (40, 2, "d"))
    key = {"at": "at", "begin": "begin", "by": "by"}
    latest = latest_begun(events, begun, **key)
    assert latest.select("at", "by", "name", "begin").rows() == [
        (9, 1, None, None), (10, 1, "a", 10), (20, 2, None, None), (30, 1, "c", 30),
        (31, 1, "c", 30),
    ]  # fmt: skip
    coming = next_begun(events, begun, **key)
    assert coming.select("at", "by", "name", "begin").rows() == [
        (9, 1, "a", 10), (10, 1, "a", 10), (20, 2, "d", 40), (30, 1, "c", 30), (31, 1, None, None),
    ]  # fmt: skip


def test_a_layer_that_is_active_at_birth_and_at_death() -> None:
    """An interval ends before the next one begins; lives follow each other at one instant."""
    layer = intervals((1, 0, 10, 5), (1, 10, 20, 0), (2, 20, 30, 7))
    assert sweep(lives((1, 0, 20), (2, 20, 40)), {"layer": layer}).rows() == [
        (1, 0, 10, 5), (1, 10, 20, 0), (2, 20, 30, 7), (2, 30, 40, None),
    ]  # fmt: skip
    assert sweep(lives((1, 0, 1)), {"layer": layer.clear()}).rows() == [(1, 0, 1, None)]


def test_clipping_keeps_what_is_left_of_each() -> None:
    found = clip_to_lives(
        intervals((1, 20, 30, 1), (1, 5, 10, 2), (1, 10, 11, 3), (1, 19, 20, 4), (1, 5, 25, 5)),
        lives((1, 10, 20)),
    )
    assert found.rows() == [(1, 10, 11, 3), (1, 19, 20, 4), (1, 10, 20, 5)]


SEGMENTS = {"tid": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64, "cause": pl.String}
ASKED = {"interval": pl.Int32, "tid": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}


def test_overlaps_of_segments_with_gaps_out_of_order() -> None:
    """What only touches at an end does not overlap; results in order of intervals and time."""
    segments = frame(SEGMENTS, (6, 0, 99, "d"), (5, 20, 30, "c"), (5, 0, 10, "a"), (5, 12, 20, "b"))
    asked = frame(
        ASKED, (3, 5, 10, 12), (2, 5, 9, 13), (1, 5, 30, 40), (0, 5, 5, 25), (4, 6, 98, 200)
    )
    assert overlaps(asked, segments).rows() == [
        (0, 5, 5, 10, "a"), (0, 5, 12, 20, "b"), (0, 5, 20, 25, "c"), (2, 5, 9, 10, "a"),
        (2, 5, 12, 13, "b"), (4, 6, 98, 99, "d"),
    ]  # fmt: skip


def test_what_is_left_uncovered() -> None:
    """Of each interval, whatever the order; an interval without cover is left whole."""
    whole = frame(
        {**dict(list(ASKED.items())[:1]), "start_ns": pl.Int64, "end_ns": pl.Int64},
        (1, 0, 100), (0, 10, 20), (2, 5, 6),
    )  # fmt: skip
    covered = frame(dict(whole.schema), (1, 50, 100), (2, 5, 6), (1, 10, 20), (1, 20, 30))
    assert sorted(uncovered(whole, covered).rows()) == [(0, 10, 20), (1, 0, 10), (1, 30, 50)]


def test_neighbours_that_are_alike_become_one() -> None:
    """Null is like null; other columns keep the first value."""
    parts = frame(
        {"key": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64, "more": pl.Int32},
        (1, 0, 10, 7), (1, 10, 20, 8), (2, 20, 30, 9), (None, 30, 40, 1), (None, 40, 50, 2),
        (1, 50, 60, 3),
    )  # fmt: skip
    assert merged(parts, "key").rows() == [
        (1, 0, 20, 7), (2, 20, 30, 9), (None, 30, 50, 1), (1, 50, 60, 3),
    ]  # fmt: skip
    assert merged(parts.head(1), "key").rows() == [(1, 0, 10, 7)]
    assert merged(parts.slice(3, 2), "key").rows() == [(None, 30, 50, 1)]
    assert merged(parts.clear(), "key").rows() == []
