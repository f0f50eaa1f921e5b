"""Decode bytes as the kernel writes them."""

from __future__ import annotations

import struct
from io import FileIO
from pathlib import Path
from typing import Any

import polars as pl

from cvmprof.probes import events
from cvmprof.profiler.run.decode import plain_frame, ring_frame

# time_ns, unique, pid, tid, opcode, reserved
FIRST = struct.pack("<QQIIII", 1_000_000_000_000, 0xFFFFFFFFFFFFFFFE, 200, 4_000_000, 15, 0)
SECOND = struct.pack("<QQIIII", 7, 4, 201, 202, 1, 0)


def decoded(path: Path, data: bytes) -> pl.DataFrame:
    path.write_bytes(data)
    with FileIO(path) as handle:
        return ring_frame(handle, events.SERVED)


def test_records_of_a_ring(tmp_path: Path) -> None:
    header = struct.pack("<II", 32, 3)
    frame = decoded(tmp_path / "r", header + FIRST + header + SECOND)
    assert frame.rows() == [
        (1_000_000_000_000, 0xFFFFFFFFFFFFFFFE, 200, 4_000_000, 15, 0),
        (7, 4, 201, 202, 1, 0),
    ]
    assert frame.dtypes[:3] == [pl.Int64, pl.UInt64, pl.Int32]


def test_a_torn_tail_is_left_out_at_every_length(tmp_path: Path) -> None:
    data = (struct.pack("<II", 32, 0) + SECOND) * 2
    for length in range(40, 80):
        assert decoded(tmp_path / "r", data[:length]).height == 1


def test_records_whose_header_is_not_the_layouts_are_left_out(tmp_path: Path) -> None:
    good, discarded, zero = (struct.pack("<II", n, 0) for n in (32, 32 | 1 << 30, 0))
    data = good + FIRST + discarded + SECOND + zero + bytes(32) + good + SECOND
    assert decoded(tmp_path / "r", data)["pid"].to_list() == [200, 201]


def test_more_records_than_one_block(tmp_path: Path) -> None:
    header = struct.pack("<II", 32, 0)
    records = [header + struct.pack("<QQIIII", n, 0, 0, 0, 0, 0) for n in range(70_001)]
    frame = decoded(tmp_path / "r", b"".join(records))
    assert frame["time_ns"].to_list() == list(range(70_001))


def test_an_absent_ring_has_all_columns_and_no_rows() -> None:
    frame = ring_frame(None, events.TASK)
    assert frame.height == 0
    assert "argv" in frame.columns


def test_payload_records_with_a_torn_tail() -> None:
    assert plain_frame(FIRST + SECOND[:31], events.SERVED)["tid"].to_list() == [4_000_000]


def test_an_object_keeps_its_zero_bytes() -> None:
    digest = bytes.fromhex("00112233445566770000000000000000aabb0000")
    call = struct.pack("<7Qq", 1, 2, 0, 4, 0, 0, 0, -2) + digest + struct.pack("<I", 1) + b"P"
    call += bytes(32 - 25) + struct.pack("<4I", 200, 201, 14, 0)
    row = plain_frame(call, events.CALL).row(0, named=True)
    assert row["object_a"] == 0x7766554433221100
    assert row["object_b"] == 0
    assert row["object_c"] == 0xBBAA
    assert (row["object_algorithm"], row["object_suffix"]) == (1, ord("P"))
    assert row["result"] == -2
    assert row["function"] == 14


def test_records_appended_while_a_ring_is_read_are_left_for_the_next_time(tmp_path: Path) -> None:
    """A recorder may still be writing."""
    path, layout = tmp_path / "task.ring", events.TASK
    record = layout.size.to_bytes(4, "little") + bytes(layout.stride - 4)
    path.write_bytes(3 * record)

    class Growing(FileIO):
        def readinto(self, buffer: Any, /) -> int | None:
            with path.open("ab") as more:
                more.write(5 * record)
            return super().readinto(buffer)

    with Growing(path) as handle:
        assert ring_frame(handle, layout).height == 3
