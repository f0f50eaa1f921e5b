"""Tensors are matched with the files that the command used, by device and path."""

from __future__ import annotations

from typing import Any

from cvmprof.profiler.kernel.tensors import tensors
from cvmprof.tests.profiler.rows import rows

MOUNTS = rows("mounts", {"mount_id": 3, "device": "0:50"}, {"mount_id": 4, "device": "0:51"})
FILES = rows(
    "files",
    {"file_id": 0, "mount_id": 3, "path": "/a"},
    {"file_id": 1, "mount_id": 4, "path": "/a"},
    {"file_id": 2, "mount_id": 3},
)


def line(path: str | None, *listed: Any, device: str = "0:50") -> dict[str, Any]:
    return {"path": path, "device": device, "tensors": list(listed)}


def test_rows_by_file_and_offset_each_once() -> None:
    found = tensors(
        [
            line("/a", ["b", 10, 5, "F32", [5]], ["a", 0, 4, "I8", []]),
            line("/a", ["a", 0, 4, "I8", []], ["a", 5, 4, "I8", []]),
            line("/a", ["c", 0, 8, "F16", [2, 2]], device="0:51"),
            line("/unused", ["d", 0, 8, "F16", [4]]),
            line(None, ["e", 0, 8, "F16", [4]]),
        ],
        FILES,
        MOUNTS,
    )
    assert found.rows() == [
        (0, "a", 0, 4, "I8", []), (0, "a", 5, 4, "I8", []), (0, "b", 10, 5, "F32", [5]),
        (1, "c", 0, 8, "F16", [2, 2]),
    ]  # fmt: skip


def test_damaged_lines_are_skipped() -> None:
    sound = ["a", 0, 4, "I8", [4]]
    bad: list[Any] = [["a"], 7, None, ["b", "x", 4, "I8", [4]], ["c", 0, None, "I8", [4]]]
    found = tensors([{"path": "/a"}, line("/a", *bad, sound), {}], FILES, MOUNTS)
    assert found.rows() == [(0, "a", 0, 4, "I8", [4])]
    assert tensors([], FILES, MOUNTS).height == 0
