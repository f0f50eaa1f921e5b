from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from cvmprof.reports.figures.bricks import clip, disjoint, longest, merge_short, pack, resolution_ns


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
    assert merge_short(few, 0, "code")["merged"].to_list() == [1, 1]


def test_short_neighbours_merge_by_what_held_longest() -> None:
    # 0..100 is long; 100..120 are short: code 7 holds 12 of 20; 120..400 is long.
    many = bricks((0, 100, 1), (100, 105, 7), (105, 113, 2), (113, 120, 7), (120, 400, 3))
    assert merge_short(many, 50, "code").rows() == [
        (0, 100, 1, 1),
        (100, 120, 7, 3),
        (120, 400, 3, 1),
    ]


def test_merging_never_crosses_a_bucket() -> None:
    # Buckets of 10: 0..10 and 10..20; nothing merges across 10.
    many = bricks((0, 4, 1), (4, 10, 2), (10, 13, 1), (13, 20, 1))
    assert merge_short(many, 10, "code").rows() == [(0, 10, 2, 2), (10, 20, 1, 2)]


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 5)), min_size=1, max_size=300),
    st.integers(1, 40),
)
def test_merging_keeps_the_time_covered_and_bounds_the_number(
    parts: list[tuple[int, int]], budget: int
) -> None:
    rows: list[tuple[int, int, int]] = []
    now = 0
    for length, code in parts:
        rows.append((now, now + length, code))
        now += length
    tiling = bricks(*rows)
    merged = merge_short(tiling, resolution_ns(tiling, budget), "code")
    starts, ends = merged["start_ns"].to_list(), merged["end_ns"].to_list()
    assert [*starts, now] == [0, *ends]
    assert merged["merged"].sum() == len(parts)
    assert merged.height <= 3 * budget + 3


def test_the_longest_are_kept_in_order() -> None:
    some = bricks((0, 1, 1), (5, 95, 2), (200, 250, 3), (300, 301, 4))
    assert longest(some, 2)["code"].to_list() == [2, 3]


def test_packing_takes_the_first_free_row_and_drops_what_has_none() -> None:
    some = bricks((0, 10, 1), (1, 5, 2), (2, 6, 3), (5, 9, 4), (10, 11, 5))
    assert [row["code"].to_list() for row in pack(some, 2)] == [[1, 5], [2, 4]]


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
    assert merge_short(many, 10, "code").rows() == [
        (0, 9, 2, 2),
        (10, 20, 3, 1),
        (20, 29, 1, 2),
    ]
    # 2..12 begins in the bucket of 0..2.
    assert merge_short(bricks((0, 2, 1), (2, 12, 2), (12, 14, 3)), 10, "code").rows() == [
        (0, 2, 1, 1),
        (2, 12, 2, 1),
        (12, 14, 3, 1),
    ]


def test_bricks_merge_in_the_order_of_their_start() -> None:
    many = bricks((6, 8, 2), (0, 3, 1), (20, 22, 3), (3, 6, 1))
    assert merge_short(many, 10, "code").rows() == [(0, 8, 1, 3), (20, 22, 3, 1)]


def test_a_merged_brick_takes_the_columns_of_the_longest_of_its_kind() -> None:
    many = bricks((0, 3, 1), (3, 5, 2), (5, 7, 2)).with_columns(name=pl.Series(["a", "b", "c"]))
    longest_last = many.with_columns(end_ns=pl.Series([3, 5, 8]))
    assert merge_short(longest_last, 10, "code").rows() == [(0, 8, 2, "c", 3)]
    longest_first = bricks((0, 3, 2), (3, 5, 1), (5, 7, 2)).with_columns(
        name=pl.Series(["a", "b", "c"])
    )
    assert merge_short(longest_first, 10, "code").rows() == [(0, 7, 2, "a", 3)]


def test_as_many_as_asked_are_all_kept_in_order() -> None:
    some = bricks((5, 95, 2), (0, 1, 1))
    assert longest(some, 2).rows() == [(0, 1, 1), (5, 95, 2)]
    assert longest(some, 1).rows() == [(5, 95, 2)]
    assert longest(bricks((5, 95, 2), (0, 1, 1), (2, 90, 3)), 2)["code"].to_list() == [3, 2]


def test_packing_sorts_and_a_row_is_free_from_its_end_on() -> None:
    some = bricks((10, 20, 3), (5, 15, 2), (0, 10, 1), (14, 30, 5), (15, 16, 4))
    assert [row["code"].to_list() for row in pack(some, 2)] == [[1, 3], [2, 4]]
    assert pack(some, 2)[0].columns == some.columns
    assert [row["code"].to_list() for row in pack(some, 3)] == [[1, 3], [2, 4], [5]]
    assert pack(bricks(), 2) == []


def test_clipping_drops_what_only_touches_the_window_and_sorts() -> None:
    some = bricks((20, 40, 4), (15, 20, 3), (0, 10, 1), (30, 35, 5), (25, 25, 6), (5, 11, 2))
    assert clip(some, 10, 30).rows() == [(10, 11, 2), (15, 20, 3), (20, 30, 4)]


def test_a_brick_is_cut_by_the_latest_end_before_it() -> None:
    some = bricks((9, 15, 3), (0, 20, 1), (2, 5, 2), (15, 25, 4), (20, 30, 5), (0, 3, 6),
                  (25, 30, 7))  # fmt: skip
    assert disjoint(some).rows() == [(0, 3, 6), (3, 20, 1), (20, 25, 4), (25, 30, 5)]
