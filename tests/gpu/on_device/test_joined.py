"""Stalls in the tables against the server's log."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cvmprof.runners.lab.lab import Access
from cvmprof.tests.gpu.on_device.joined import Tables, check_stalls
from cvmprof.tests.gpu.on_device.rows import Report, read_rows

FIRST, SECOND, OTHER = (digit * 40 for digit in "abc")


def access(object_hash: str, request_ns: int, fault: str | None) -> Access:
    path = f"/cvmfs/x/data/{object_hash[:2]}/{object_hash[2:]}P"
    return Access(1, path, 200, 9, request_ns, request_ns + 1, request_ns + 2, fault)


#: in no order, and one that was not delayed
SERVED = [
    access(SECOND, 500, "delay"),
    access(OTHER, 300, None),
    access(FIRST, 100, "delay"),
]


def tables(fetched: dict[int, str]) -> Tables:
    """A kernel, then two long stalls and a short one; thread 7 waits for a fetch in each."""
    segments = [
        (7, 0, 90, "first_byte", 9),  # before the stalls
        (7, 100, 110, "transfer", 3),
        (7, 110, 190, "first_byte", 1),
        (8, 100, 190, "first_byte", 3),  # another thread
        (7, 190, 196, "unknown", None),
        (8, 190, 200, "unknown", None),
        (7, 300, 310, "transfer", 3),
        (7, 480, 590, "decompress", 2),
    ]
    return {
        "gpu_ops": pl.DataFrame({"kind": ["kernel", "copy_in"], "end_ns": [95, 20]}),
        "stalls": pl.DataFrame(
            {
                "waiting_tid": [7, 7, 7, 7],
                "start_ns": [500, 0, 300, 100],
                "end_ns": [600, 95, 312, 200],
            }
        ),
        "segments": pl.DataFrame(
            segments, ["tid", "start_ns", "end_ns", "cause", "fetch_id"], orient="row"
        ),
        "fetches": pl.DataFrame(
            {
                "fetch_id": list(fetched),
                "object_hash": list(fetched.values()),
                "file_id": 4,
                "offset_bytes": [100 * number for number in fetched],
                "unpacked_bytes": 100,
            }
        ),
        "tensors": pl.DataFrame(
            {
                "file_id": [4, 4, 4, 5],
                "name": ["a", "b", "c", "other"],
                "offset_bytes": [50, 150, 250, 100],
                "size_bytes": [50, 100, 100, 200],
            }
        ),
    }


def verdicts(tmp_path: Path, fetched: dict[int, str]) -> list[tuple[str, str, bool | None]]:
    report = Report("late", tmp_path / "rows")
    check_stalls(tables(fetched), SERVED, "b, b, c", report)
    return [(row.expected, row.found, row.good) for row in read_rows(report.file)]


def test_each_of_the_worst_stalls_is_blamed_on_a_delayed_chunk(tmp_path: Path) -> None:
    unknown, *found = verdicts(tmp_path, {1: FIRST, 2: SECOND, 3: OTHER, 9: OTHER})
    assert unknown == ("≤ 2 %", "3.00 %", False)  # 6 ns of 200
    assert found == [(FIRST, FIRST, True), (SECOND, SECOND, True), ("b, b, c", "b, b, c", True)]


def test_blame_on_another_chunk_is_seen(tmp_path: Path) -> None:
    _, *found = verdicts(tmp_path, {1: SECOND, 2: FIRST, 3: OTHER, 9: OTHER})
    assert found == [
        (FIRST, SECOND, False),
        (SECOND, FIRST, False),
        ("b, b, c", "b, b, c", True),
    ]


def test_a_stall_without_a_fetch_is_seen(tmp_path: Path) -> None:
    _, *found = verdicts(tmp_path, {1: FIRST, 3: OTHER})
    assert found == [
        (FIRST, FIRST, True),
        (SECOND, "None", False),
        ("b, b, c", "b", False),
    ]
