"""Idle gaps of devices."""

from __future__ import annotations

from typing import Any

from cvmprof.profiler.attribution.stalls import stalls
from cvmprof.tests.profiler.rows import rows


def found(*given: tuple[str, int, int, int | None]) -> list[tuple[int, str, int, int, int]]:
    names: tuple[str, ...] = ("device", "start_ns", "end_ns", "tid")
    operations = rows("gpu_ops", *(dict[str, Any](zip(names, row, strict=True)) for row in given))
    idle = stalls(operations, start_ns=100, threshold_ns=10)
    return idle.select("stall_id", "device", "start_ns", "end_ns", "waiting_tid").rows()


def test_a_gap_is_from_the_latest_end_to_the_next_beginning() -> None:
    """Of one device; an operation inside another ends nothing."""
    assert found(
        ("d", 130, 140, 3), ("d", 100, 120, 1), ("d", 105, 110, 2), ("e", 100, 125, 4)
    ) == [(0, "d", 120, 130, 3)]


def test_gaps_count_from_the_commands_start_and_from_the_threshold_on() -> None:
    """What ended by then is past; a gap before an operation of no known thread is left out."""
    assert found(("d", 10, 100, 1), ("d", 110, 120, 2), ("d", 129, 130, 3)) == [
        (0, "d", 100, 110, 2)
    ]
    assert found(("d", 10, 101, 1), ("d", 110, 120, 2)) == []
    assert found(("d", 110, 120, None), ("d", 130, 140, 5)) == [(0, "d", 120, 130, 5)]


def test_stalls_are_numbered_by_time_and_device() -> None:
    gaps = (("e", 150, 160, 1), ("d", 150, 160, 2), ("c", 100, 110, 3), ("c", 120, 130, 4))
    assert found(*gaps) == [
        (0, "d", 100, 150, 2),
        (1, "e", 100, 150, 1),
        (2, "c", 110, 120, 4),
    ]
