from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.reports.figures.bricks import (
    clip,
    disjoint,
    merge_short,
    pack,
    resolution_ns,
    stacked,
    thin,
)


def bricks(*rows: tuple[int, int | None, int]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        orient="row",
        schema={
            "start_ns": pl.Int64,
            "end_ns": pl.Int64,
            "code": pl.UInt8,
        },
    )


def test_few_bricks_stay_as_they_are() -> None:
    few = bricks((0, 10, 1), (10, 11, 2))
    assert resolution_ns(few, 2) == 0
    assert merge_short(few, 0)["merged"].to_list() == [1, 1]


def test_short_neighbours_merge_and_each_code_keeps_its_time() -> None:
    # 0..100 is long; 100..120 are short: code 7 holds 12 of 20, code 2 holds 8; 120..400 is long.
    many = bricks((0, 100, 1), (100, 105, 7), (105, 113, 2), (113, 120, 7), (120, 400, 3))
    assert merge_short(many, 50).rows() == [
        (0, 100, 1, 1),
        (100, 112, 7, 2),
        (112, 120, 2, 1),
        (120, 400, 3, 1),
    ]


def test_a_gap_between_short_neighbours_stays_as_long() -> None:
    assert merge_short(bricks((100, 105, 7), (110, 118, 2), (119, 120, 7)), 50).rows() == [
        (100, 108, 2, 1),
        (108, 114, 7, 2),
    ]


def test_merging_never_crosses_a_bucket() -> None:
    # Buckets of 10: 0..10 and 10..20; nothing merges across 10.
    many = bricks((0, 4, 1), (4, 10, 2), (10, 13, 1), (13, 20, 1))
    assert merge_short(many, 10).rows() == [
        (0, 6, 2, 1),
        (6, 10, 1, 1),
        (10, 20, 1, 2),
    ]


def spent(some: pl.DataFrame, step: int) -> dict[tuple[int, int], int]:
    """Time by bin and code, added up a nanosecond at a time."""
    sums: dict[tuple[int, int], int] = {}
    for start, end, code in some.select("start_ns", "end_ns", "code").iter_rows():
        for now in range(start, end):
            sums[now // step, code] = sums.get((now // step, code), 0) + 1
    return sums


PARTS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), min_size=1, max_size=200)


@settings(deadline=None, max_examples=60)
@given(PARTS, st.integers(20, 60))
def test_thinning_keeps_the_time_of_each_code_and_bounds_the_number(
    parts: list[tuple[int, int]], limit: int
) -> None:
    rows: list[tuple[int, int, int]] = []
    now = 0
    for length, code in parts:
        if code:  # the others are gaps
            rows.append((now, now + length, code))
        now += length
    lane = bricks(*rows)
    thinned, shortest = thin(lane, limit)
    assert thinned.height <= limit
    assert (shortest == 0) == (lane.height <= limit)
    assert thinned["merged"].sum() == lane.height
    everything = max(now, 1)
    assert spent(thinned, everything) == spent(lane, everything)
    assert disjoint(thinned).height == thinned.height


OVERLAPPING = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 120), st.integers(0, 4)), min_size=1, max_size=60
)


@settings(deadline=None, max_examples=60)
@given(OVERLAPPING, st.integers(5, 50))
def test_stacking_keeps_the_time_of_each_code_in_each_bin(
    parts: list[tuple[int, int, int]], step: int
) -> None:
    pieces = bricks(*((start, start + length, code) for start, length, code in parts))
    rows, scale = stacked(pieces, step, rows=len(parts) + 1)
    assert scale == 1
    assert all(disjoint(row).height == row.height for row in rows)
    assert spent(pl.concat(rows), step) == spent(pieces, step)


@settings(deadline=None, max_examples=60)
@given(OVERLAPPING, st.integers(20, 50))
def test_what_does_not_fit_is_stacked_to_a_scale(
    parts: list[tuple[int, int, int]], step: int
) -> None:
    pieces = bricks(*((start, start + length, code) for start, length, code in parts))
    rows, scale = stacked(pieces, step, rows=2)
    assert len(rows) <= 2
    drawn, true = spent(pl.concat(rows), step), spent(pieces, step)
    for place in {*drawn, *true}:
        assert abs(drawn.get(place, 0) - true.get(place, 0) / scale) <= 1


def test_codes_are_stacked_in_their_order_row_by_row() -> None:
    # In 0..10: 8 of code 1 and 9 of code 3. In 10..20: 2 of code 3.
    pieces = bricks((0, 8, 1), (1, 12, 3))
    rows, scale = stacked(pieces, 10, rows=4)
    assert scale == 1
    assert [row.rows() for row in rows] == [
        [(0, 8, 1, 1), (8, 10, 3, 1), (10, 12, 3, 1)],
        [(0, 7, 3, 1)],
    ]


def test_packing_takes_the_first_free_row_and_drops_what_has_none() -> None:
    some = bricks((0, 10, 1), (1, 5, 2), (2, 6, 3), (5, 9, 4), (10, 11, 5))
    rows, rest = pack(some, 2)
    assert [row["code"].to_list() for row in rows] == [[1, 5], [2, 4]]
    assert rest["code"].to_list() == [3]


def test_clipping_ends_what_never_ended() -> None:
    some = bricks((0, 10, 1), (5, None, 2), (50, 60, 3))
    assert clip(some, 2, 30).rows() == [(2, 10, 1), (5, 30, 2)]


def test_overlaps_are_cut_and_swallowed_bricks_go() -> None:
    some = bricks((0, 10, 1), (4, 8, 2), (9, 15, 3))
    assert disjoint(some).rows() == [(0, 10, 1), (10, 15, 3)]


def test_resolution_is_the_span_by_the_budget() -> None:
    three = bricks((110, 120, 1), (100, 105, 2), (130, 141, 3))
    assert resolution_ns(three, 3) == 0
    assert resolution_ns(three, 2) == 20
    assert resolution_ns(bricks((0, 1, 1), (0, 1, 1), (0, 1, 1)), 2) == 1


def test_a_brick_of_the_shortest_length_is_long() -> None:
    # All within one bucket of 10; 10..20 fills the next one.
    many = bricks((0, 4, 1), (4, 9, 2), (10, 20, 3), (20, 25, 1), (25, 29, 1))
    assert merge_short(many, 10).rows() == [
        (0, 5, 2, 1),
        (5, 9, 1, 1),
        (10, 20, 3, 1),
        (20, 29, 1, 2),
    ]
    # 2..12 begins in the bucket of 0..2.
    assert merge_short(bricks((0, 2, 1), (2, 12, 2), (12, 14, 3)), 10).rows() == [
        (0, 2, 1, 1),
        (2, 12, 2, 1),
        (12, 14, 3, 1),
    ]


def test_bricks_merge_in_the_order_of_their_start() -> None:
    many = bricks((6, 8, 1), (0, 3, 1), (20, 22, 3), (3, 6, 1))
    assert merge_short(many, 10).rows() == [(0, 8, 1, 3), (20, 22, 3, 1)]


def test_a_merged_brick_takes_the_columns_of_the_longest_of_its_code() -> None:
    many = bricks((0, 3, 1), (3, 5, 2), (5, 8, 2)).with_columns(name=pl.Series(["a", "b", "c"]))
    assert merge_short(many, 10).rows() == [(0, 5, 2, "c", 2), (5, 8, 1, "a", 1)]
    longest_first = bricks((0, 3, 2), (3, 5, 1), (5, 7, 2)).with_columns(
        name=pl.Series(["a", "b", "c"])
    )
    assert merge_short(longest_first, 10).rows() == [(0, 5, 2, "a", 2), (5, 7, 1, "b", 1)]


def test_packing_sorts_and_a_row_is_free_from_its_end_on() -> None:
    some = bricks((10, 20, 3), (5, 15, 2), (0, 10, 1), (14, 30, 5), (15, 16, 4))
    assert [row["code"].to_list() for row in pack(some, 2)[0]] == [[1, 3], [2, 4]]
    assert pack(some, 2)[0][0].columns == some.columns
    assert [row["code"].to_list() for row in pack(some, 3)[0]] == [[1, 3], [2, 4], [5]]
    assert pack(bricks(), 2)[0] == []


def test_clipping_drops_what_only_touches_the_window_and_sorts() -> None:
    some = bricks((20, 40, 4), (15, 20, 3), (0, 10, 1), (30, 35, 5), (25, 25, 6), (5, 11, 2))
    assert clip(some, 10, 30).rows() == [(10, 11, 2), (15, 20, 3), (20, 30, 4)]


def test_a_brick_is_cut_by_the_latest_end_before_it() -> None:
    some = bricks((9, 15, 3), (0, 20, 1), (2, 5, 2), (15, 25, 4), (20, 30, 5), (0, 3, 6),
                  (25, 30, 7))  # fmt: skip
    assert disjoint(some).rows() == [(0, 3, 6), (3, 20, 1), (20, 25, 4), (25, 30, 5)]
