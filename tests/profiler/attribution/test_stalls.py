"""Gaps between the kernels of devices."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.profiler.attribution.stalls import stalls
from cvmprof.profiler.device.side import DeviceSide
from cvmprof.tests.profiler.rows import rows

Given = tuple[str, int, int, int | None]


def found(*given: Given) -> list[tuple[Any, ...]]:
    names: tuple[str, ...] = ("device", "start_ns", "end_ns", "tid")
    kernels = rows("gpu_ops", *(dict[str, Any](zip(names, row, strict=True)) for row in given))
    return (
        gaps(DeviceSide(ops=kernels))
        .select("stall_id", "device", "start_ns", "end_ns", "waiting_tid")
        .rows()
    )


def gaps(device: DeviceSide) -> pl.DataFrame:
    return stalls(device, start_ns=100, threshold_ns=10)


def test_a_gap_is_from_the_latest_end_to_the_next_beginning() -> None:
    """Of one device; a kernel inside another ends nothing."""
    assert found(
        ("d", 130, 140, 3), ("d", 100, 120, 1), ("d", 105, 110, 2), ("e", 100, 125, 4)
    ) == [(0, "d", 120, 130, 3)]


def test_gaps_count_from_the_commands_start_and_from_the_threshold_on() -> None:
    """What ended by then is past; who ended a gap may not be known."""
    assert found(("d", 10, 100, 1), ("d", 110, 120, 2), ("d", 129, 130, 3)) == [
        (0, "d", 100, 110, 2)
    ]
    assert found(("d", 10, 101, 1), ("d", 110, 120, 2)) == []
    assert found(("d", 110, 120, None), ("d", 130, 140, 5)) == [
        (0, "d", 100, 110, None),
        (1, "d", 120, 130, 5),
    ]


def test_stalls_are_numbered_by_time_and_device() -> None:
    given = (("e", 150, 160, 1), ("d", 150, 160, 2), ("c", 100, 110, 3), ("c", 120, 130, 4))
    assert found(*given) == [
        (0, "d", 100, 150, 2),
        (1, "e", 100, 150, 1),
        (2, "c", 110, 120, 4),
    ]


def op(kind: str, start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"device": "d", "kind": kind, "start_ns": start, "end_ns": end, **more}


def test_copies_and_memory_sets_end_no_gap_and_copies_are_named() -> None:
    """Two copies at the same time count once, and one of another device not at all."""
    ops = rows(
        "gpu_ops",
        op("kernel", 100, 110),
        op("copy_in", 105, 130),
        op("copy_in", 120, 140),
        op("copy_out", 150, 155),
        op("memset", 156, 160),
        op("copy_in", 150, 190, device="e"),
        op("graph", 200, 210),
        op("kernel", 230, 240),
    )
    columns = ("start_ns", "end_ns", "copying_in_ns", "copying_out_ns")
    assert gaps(DeviceSide(ops=ops)).select(columns).rows() == [
        (110, 200, 30, 5), (210, 230, 0, 0),
    ]  # fmt: skip


def test_a_kernel_is_submitted_when_its_call_returns_inside_the_gap() -> None:
    calls = rows(
        "gpu_calls",
        *(
            {"gpu_call_id": number, "start_ns": 1, "end_ns": end, "source": "cupti"}
            for number, end in enumerate((130, 90, 170, None))
        ),
    )
    starts = (140, 150, 160, 200)
    ops = rows(
        "gpu_ops",
        *(
            op("kernel", start, start, tid=5, gpu_call_id=number)
            for number, start in enumerate(starts)
        ),
    )
    found = gaps(DeviceSide(ops=ops, calls=calls)).select("start_ns", "submitted_ns", "end_ns")
    assert found.rows() == [
        (100, 130, 140),
        (140, 140, 150),  # submitted before the gap began
        (150, 160, 160),  # its call returned later than it began
        (160, 200, 200),  # its call never returned
    ]


def call(kind: str, start: int, end: int | None, **more: Any) -> dict[str, Any]:
    usual = {"function": "cuX", "pid": 3, "tid": 4, "source": "cuda_api"}
    return {"kind": kind, "start_ns": start, "end_ns": end, **usual, **more}


def by_calls(*calls: dict[str, Any]) -> list[tuple[Any, ...]]:
    columns = ("device", "source", "start_ns", "end_ns", "waiting_tid", "submitted_ns")
    return gaps(DeviceSide(calls=rows("gpu_calls", *calls))).select(columns).rows()


def test_by_calls_alone_a_gap_is_from_a_synchronisation_to_the_next_submit() -> None:
    gap = ("CUDA of process 3", "cuda_api")
    assert by_calls(
        call("launch", 120, 125, tid=7),
        call("copy", 130, 180, function="cuMemcpyHtoDAsync"),  # waits for nothing
        call("synchronize", 181, 190),
        call("launch", 210, 215, tid=8),
        call("copy", 216, 230, function="cuMemcpyDtoH"),  # waits for the device
        call("load", 231, 239),
        call("launch", 250, 251, tid=9),
    ) == [(*gap, 100, 120, 7, 120), (*gap, 190, 210, 8, 210), (*gap, 230, 250, 9, 250)]


def test_by_calls_alone_each_process_has_gaps_of_its_own() -> None:
    assert by_calls(
        call("launch", 110, 111), call("synchronize", 112, 113), call("launch", 130, 131),
        call("launch", 120, 121, pid=5),
    ) == [
        ("CUDA of process 3", "cuda_api", 100, 110, 4, 110),
        ("CUDA of process 5", "cuda_api", 100, 120, 4, 120),
        ("CUDA of process 3", "cuda_api", 113, 130, 4, 130),
    ]  # fmt: skip


def test_what_was_not_watched_is_no_gap_and_ends_none() -> None:
    """From 130 to 160 launches were not watched; other devices do not care."""
    unwatched = pl.DataFrame({"start_ns": [130], "end_ns": [160]})
    calls = rows(
        "gpu_calls",
        call("launch", 100, 101), call("synchronize", 102, 110),
        call("launch", 175, 176), call("synchronize", 177, 180), call("launch", 200, 201),
    )  # fmt: skip
    kernels = rows("gpu_ops", op("kernel", 100, 110), op("kernel", 150, 160))
    found = gaps(DeviceSide(ops=kernels, calls=calls, unwatched=unwatched))
    assert found.select("device", "start_ns", "end_ns").rows() == [
        ("d", 110, 150), ("CUDA of process 3", 160, 175), ("CUDA of process 3", 180, 200),
    ]  # fmt: skip
