"""Busy time and gaps of devices, from operations in any order."""

from __future__ import annotations

from cvmprof.tests.gpu.on_device.activity import Activity, Gap, Operation, worst


def kernel(device: int, start_ns: int, end_ns: int) -> Operation:
    return Operation("kernel", device, start_ns, end_ns, 0)


ACTIVITY = Activity((
    kernel(1, 500, 600),
    kernel(0, 100, 200),
    kernel(0, 150, 180),
    Operation("copy", 0, 200, 300, 4096),
    kernel(0, 300, 340),
    kernel(0, 190, 230),
    Operation("memset", 0, 340, 350, 64),
    Operation("copy", 0, 350, 360, 1),
))  # fmt: skip


def test_operations_are_counted_by_kind() -> None:
    assert [ACTIVITY.count(kind) for kind in ("kernel", "copy", "memset")] == [5, 2, 1]
    assert ACTIVITY.bytes_copied() == 4097


def test_kernels_that_overlap_are_busy_once() -> None:
    assert ACTIVITY.busy_ns() == (230 - 100) + (340 - 300) + (600 - 500)


def test_gaps_are_between_kernels_of_one_device() -> None:
    assert ACTIVITY.gaps() == [Gap(0, 230, 300)]
    assert Activity(()).gaps() == []


def test_the_worst_gaps_come_in_the_order_of_time() -> None:
    gaps = [Gap(0, 0, 5), Gap(0, 10, 30), Gap(0, 40, 41), Gap(0, 50, 90)]
    assert worst(gaps, 2) == [Gap(0, 10, 30), Gap(0, 50, 90)]
