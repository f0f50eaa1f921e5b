"""Which tensor a wait counts for, on a file whose tensors lie at 100, 200, 300."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.attribution.tensors import TensorEvidence, tensor_waits
from cvmprof.tests.profiler.rows import rows

A, B, C = ({"name": name, "offset_bytes": at, "size_bytes": 100} for name, at in
           (("a", 100), ("b", 200), ("c", 300)))  # fmt: skip


def fault(op_id: int, offset: int, start: int, size: int = 10, **row: Any) -> dict[str, Any]:
    place = {"offset_bytes": offset, "size_bytes": size, "file_id": 0}
    return {"op_id": op_id, "kind": "fault", "start_ns": start, "tid": 1, **place, **row}


def wait(op_id: int | None, start: int, end: int, **row: Any) -> dict[str, Any]:
    ids = {"mount_id": 0, "unique": op_id}
    times = {"start_ns": start, "end_ns": end}
    return {"op_id": op_id, "cause": "transfer", "tid": 1, **ids, **times, **row}


def request(unique: int, offset: int | None, size: int | None = 50) -> dict[str, Any]:
    return {"mount_id": 0, "unique": unique, "offset_bytes": offset, "size_bytes": size}


def waits(
    tensors: list[dict[str, Any]],
    operations: list[dict[str, Any]],
    segments: list[dict[str, Any]],
    requests: tuple[dict[str, Any], ...] = (),
    chunks: tuple[dict[str, Any], ...] = (),
) -> pl.DataFrame:
    shaped = ({"shape": [25], "dtype": "F32", **tensor} for tensor in tensors)
    return tensor_waits(
        TensorEvidence(
            rows("tensors", *shaped),
            rows("operations", *operations),
            rows("segments", *segments),
            rows("fuse_requests", *requests),
            rows("chunks", *chunks),
        )
    )


def by_name(found: pl.DataFrame) -> dict[str, tuple[Any, ...]]:
    chosen = found.select("name", "first_need_ns", "wait_ns", "fetch_ids")
    return {name: tuple(values) for name, *values in chosen.iter_rows()}


def test_first_need_wait_fetches_and_chunks() -> None:
    found = waits(
        [A, B, C],
        [fault(0, 110, 5), fault(1, 210, 30), fault(2, 120, 60), fault(3, 210, 1, file_id=1)],
        [
            wait(0, 6, 10, fetch_id=7), wait(0, 10, 14, fetch_id=7, cause="reply"),
            wait(0, 14, 20, unique=None, cause="copy"), wait(2, 60, 61, fetch_id=5),
            wait(1, 30, 35), wait(3, 1, 4), wait(None, 70, 90, unique=9),
        ],
        (request(0, 110), request(1, 210), request(2, 120)),
        tuple(
            {"file_id": file_id, "object_hash": name, "offset_bytes": at, "size_bytes": size}
            for file_id, name, at, size in
            ((0, "x", 0, 150), (0, "y", 150, 150), (0, "z", 300, 90), (1, "other", 0, 500))
        ),
    )  # fmt: skip
    assert by_name(found) == {"a": (5, 9, [7, 5]), "b": (30, 5, []), "c": (None, 0, [])}
    assert found["chunks"].to_list() == [["x", "y"], ["y"], ["z"]]
    assert found.columns[:6] == ["file_id", "name", "offset_bytes", "size_bytes", "dtype", "shape"]


def test_each_nanosecond_counts_once_for_a_tensor_that_two_threads_wait_for() -> None:
    operations = [fault(0, 110, 5), fault(1, 120, 6, tid=2), fault(2, 310, 5, tid=3)]
    segments = [wait(0, 10, 20), wait(1, 12, 18, tid=2), wait(1, 18, 30, tid=2),
                wait(0, 40, 45), wait(2, 12, 18, tid=3)]  # fmt: skip
    found = by_name(waits([A, B, C], operations, segments))
    assert found == {"a": (5, 25, []), "b": (None, 0, []), "c": (5, 6, [])}


def test_a_read_of_several_tensors_waits_for_the_one_whose_bytes_were_requested() -> None:
    """The first request brings the header alone."""
    operations = [fault(0, 90, 5, size=310, kind="read")]
    segments = [wait(0, 10, 11, unique=1), wait(0, 11, 13, unique=2), wait(0, 13, 17, unique=3),
                wait(0, 17, 25, unique=4)]  # fmt: skip
    found = waits([A, B, C], operations, segments,
                  (request(1, 50), request(2, 150), request(3, 200), request(4, 390)))  # fmt: skip
    assert by_name(found) == {"a": (5, 2, []), "b": (5, 4, []), "c": (5, 8, [])}


def test_a_fault_waits_for_its_own_page_however_much_is_read_ahead() -> None:
    operations = [fault(0, 210, 5), fault(1, 310, 6)]
    found = waits([A, B, C], operations, [wait(0, 10, 12, unique=1), wait(1, 12, 15, unique=1)],
                  (request(1, 110, 400),))  # fmt: skip
    assert by_name(found) == {"a": (None, 0, []), "b": (5, 2, []), "c": (6, 3, [])}


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (195, 10, "a"),  # a page that two share: the first
        (95, 10, "a"),  # it begins in the page
        (80, 10, None),  # the header
        (80, 20, None),  # up to the first
        (399, 10, "c"),
        (400, 10, None),
    ],
)
def test_the_first_tensor_of_the_range_waits(offset: int, size: int, expected: str | None) -> None:
    found = waits([A, B, C], [fault(0, offset, 5, size=size)], [wait(0, 10, 17)])
    late = found.filter(pl.col("wait_ns") > 0)
    assert [(name, 7) for name in (expected,) if name] == late.select("name", "wait_ns").rows()


def test_a_request_for_other_bytes_or_of_unknown_range_counts_for_the_operation() -> None:
    operations = [fault(0, 210, 5), fault(1, 310, 5), fault(2, 110, 5)]
    segments = [wait(0, 1, 2, unique=1), wait(1, 2, 4, unique=2), wait(2, 4, 7, unique=3)]
    found = waits([A, B, C], operations, segments, (request(1, 0), request(2, None, None)))
    assert found["wait_ns"].to_list() == [3, 1, 2]


def test_bytes_that_several_hold_belong_to_one() -> None:
    tied = {**B, "name": "tied"}
    inner = {"name": "inner", "offset_bytes": 150, "size_bytes": 20}
    empty = {"name": "empty", "offset_bytes": 110, "size_bytes": 0}
    operations = [fault(0, 210, 5), fault(1, 155, 5), fault(2, 110, 5)]
    segments = [wait(0, 1, 2), wait(1, 2, 4), wait(2, 4, 7)]
    found = waits([A, empty, inner, B, tied], operations, segments)
    assert dict(found.select("name", "wait_ns").iter_rows()) == {
        "a": 3, "empty": 0, "inner": 2, "b": 1, "tied": 0,
    }  # fmt: skip


def test_no_tensors_and_no_operations() -> None:
    assert waits([], [fault(0, 1, 2)], [wait(0, 1, 2)]).height == 0
    found = waits([A], [], [])
    assert found.select("first_need_ns", "wait_ns", "chunks", "fetch_ids").rows() == [
        (None, 0, [], [])
    ]


def test_the_waits_of_tensors_are_those_of_their_operations() -> None:
    """Nothing is counted twice: one thread's faults over every byte of the file."""
    operations = [fault(n, 10 * n, 100 * n) for n in range(50)]
    segments = [wait(n, 100 * n, 100 * n + n + 1) for n in range(50)]
    found = waits([A, B, C], operations, segments)
    assert found["wait_ns"].to_list() == [
        sum(range(11, 21)), sum(range(21, 31)), sum(range(31, 41)),
    ]  # fmt: skip
    assert found["first_need_ns"].to_list() == [1000, 2000, 3000]
