"""Operations, hits and touches by their records' flags and kinds."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import HIT, OPERATION, TOUCH, TOUCH_KEY
from cvmprof.profiler.kernel.operations import hits, known_files, operations, touches
from cvmprof.tests.profiler.rows import rows

MIB = 1 << 20
LONG = 16 * MIB


def ids(*numbers: int | None) -> pl.Series:
    return pl.Series("file_id", numbers, dtype=pl.Int32)


def test_flags_say_file_range_and_passthrough_each_for_itself(make_raw: Any) -> None:
    record = {"kind": 1, "offset": 8, "size": 16}
    raw = make_raw(OPERATION, *({**record, "flags": 1 << bit} for bit in range(8)))
    found = operations(raw, ids(*range(8)))
    with_file, with_range, passed = (
        [row for row in range(8) if found[name][row]]
        for name in ("file_id", "offset_bytes", "passthrough")
    )
    assert [with_file, with_range, passed] == [[1], [2], [3]]
    assert found["op_id"].to_list() == list(range(8))
    assert known_files(raw)["flags"].to_list() == [2]


def test_hits_of_no_kind_are_dropped_and_the_rest_is_in_order(make_raw: Any) -> None:
    raw = make_raw(HIT, *({"start_ns": at, "kind": kind} for at, kind in ((9, 1), (5, 3), (1, 0))))
    found = hits(raw, ids(4, 5, 6))
    assert found.select("start_ns", "file_id", "kind").rows() == [(5, 5, "fault"), (9, 4, "read")]


def test_touches_of_unknown_files_are_dropped_and_the_rest_is_in_order(make_raw: Any) -> None:
    keys = ((3, 2), (2, 2), (2, 1), (1, 9), (1, 0))
    counted = pl.concat(
        [
            make_raw(TOUCH_KEY, *({"bucket": at, "granule": where} for at, where in keys)),
            make_raw(TOUCH, *({"bytes_read": n} for n in range(1, 6))),
        ],
        how="horizontal",
    )
    found = touches(counted, ids(4, 4, 4, 3, None), rows("operations"))
    names = ("file_id", "granule", "start_ns", "bytes_read")
    assert found.select(names).rows() == [
        (3, 9, 100_000_000, 4),
        (4, 1, 200_000_000, 3),
        (4, 2, 200_000_000, 2),
        (4, 2, 300_000_000, 1),
    ]


def test_long_reads_are_spread_over_their_granules(make_raw: Any) -> None:
    """At its end. Only reads with a known file, range and end that are longer than 16 MiB."""
    nothing = pl.concat([make_raw(TOUCH_KEY), make_raw(TOUCH)], how="horizontal")
    long = {"file_id": 4, "offset_bytes": 3, "result": LONG + 1, "end_ns": 250_000_000}
    found = touches(
        nothing,
        ids(),
        rows(
            "operations",
            {**long, "kind": "read"},
            {**long, "kind": "splice", "file_id": 5, "offset_bytes": MIB},
            {**long, "kind": "read", "file_id": 6, "offset_bytes": 0, "result": 17 * MIB},
            {**long, "kind": "fault"},
            {**long, "kind": "read", "result": LONG},
            {**long, "kind": "read", "file_id": None},
            {**long, "kind": "read", "offset_bytes": None},
            {**long, "kind": "read", "end_ns": None},
        ),
    )
    assert found.filter(file_id=4).select("granule", "bytes_read").rows() == [
        (0, MIB - 3),
        *((granule, MIB) for granule in range(1, 16)),
        (16, 4),
    ]
    assert found.filter(file_id=5).select("granule", "bytes_read").rows() == [
        *((granule, MIB) for granule in range(1, 17)),
        (17, 1),
    ]
    assert found.filter(file_id=6).select("granule", "bytes_read").rows() == [
        (granule, MIB) for granule in range(17)
    ]
    assert set(found.select("start_ns", "pages_mapped", "pages_inserted").rows()) == {
        (200_000_000, 0, 0)
    }


def test_operations_know_only_what_their_flags_say(make_raw: Any) -> None:
    raw = make_raw(
        OPERATION,
        {
            "start_ns": 5,
            "end_ns": 9,
            "kind": 1,
            "flags": 2 | 4,
            "offset": 8,
            "size": 16,
            "result": 16,
        },
        {"start_ns": 6, "end_ns": 0, "kind": 7, "flags": 0, "offset": 8, "size": 16, "result": -2},
    )
    found = operations(raw, ids(4, 4))
    wanted = ("op_id", "kind", "end_ns", "file_id", "offset_bytes", "size_bytes", "result")
    assert found.select(wanted).rows() == [
        (0, "read", 9, 4, 8, 16, 16),
        (1, "metadata", None, None, None, None, -2),
    ]


def test_hits_and_touches(make_raw: Any) -> None:
    raw = make_raw(
        HIT,
        {"start_ns": 5, "end_ns": 9, "kind": 3, "count": 7, "empty": 1, "ns": 3, "max_ns": 2},
        {"start_ns": 6, "kind": 1},
    )
    found = hits(raw, ids(4, None))
    assert found.select("file_id", "kind", "count", "empty", "ns", "max_ns").rows() == [
        (4, "fault", 7, 1, 3, 2)
    ]
    keys = make_raw(TOUCH_KEY, *({"bucket": 3, "granule": 2},) * 2)
    values = make_raw(
        TOUCH, {"bytes_read": 5, "pages_mapped": 1}, {"bytes_read": 6, "pages_inserted": 2}
    )
    both = pl.concat([keys, values], how="horizontal")
    touched = touches(both, ids(4, 4), rows("operations"))
    assert touched.rows() == [(4, 2, 300_000_000, 11, 1, 2)]
