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
