"""The device's side: operations and the calls that submitted them, over processes and sources."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cvmprof.probes.events import GPU_CALL, GPU_FUNCTIONS, GPU_LAUNCHES, GPU_RECORD
from cvmprof.probes.gpu import GPU_RECORD_KINDS
from cvmprof.profiler.device.side import DeviceSide, device_side
from cvmprof.profiler.kernel.side import file_accesses, kernel_side
from cvmprof.profiler.run.spool import Spool
from cvmprof.tests.profiler.conftest import SpoolWriter, record
from cvmprof.tests.profiler.rows import rows

KERNEL, CALL = (GPU_RECORD_KINDS.index(kind) for kind in ("kernel", "call"))
LAUNCH_NAME = {"kind": "name", "number": 1, "text": "cuLaunchKernel"}


def write(writer: SpoolWriter, pid: int, *records: dict[str, Any]) -> None:
    """Write the files of a process, as the injected library does."""
    place = writer.run / "spool" / "gpu"
    place.mkdir(exist_ok=True)
    lines = ({"kind": "device", "device": 0, "uuid": "GPU-a"}, LAUNCH_NAME)
    (place / f"{pid}-1.lines").write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole = b"".join(record(GPU_RECORD, pid=pid, **each).tobytes() for each in records)
    (place / f"{pid}-1.records").write_bytes(whole)


def launched(correlation: int, tid: int, start_ns: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A kernel and the call that submitted it."""
    call = {"start_ns": start_ns, "end_ns": start_ns + 2, "tid": tid, "name": 1, "kind": CALL}
    kernel = {"start_ns": start_ns + 5, "end_ns": start_ns + 9, "kind": KERNEL}
    return {**kernel, "correlation": correlation}, {**call, "correlation": correlation}


def side(writer: SpoolWriter, *phases: dict[str, Any]) -> DeviceSide:
    spool = Spool(writer.run)
    journal = spool.journal()
    kernel = kernel_side(spool, journal, file_accesses(spool, journal)[0])
    kernel = replace(kernel, start_ns=0)
    return device_side(spool, journal, kernel, rows("phases", *phases))


@pytest.fixture
def writer(spool_writer: SpoolWriter) -> SpoolWriter:
    spool_writer.begin()
    spool_writer.end(9000)
    return spool_writer


def test_a_kernel_has_the_thread_of_its_correlated_call_in_its_own_process(
    writer: SpoolWriter,
) -> None:
    """Both processes count their correlations from 1."""
    write(writer, 7, *launched(1, 71, 100), *launched(2, 72, 200))
    write(writer, 8, *launched(1, 81, 150), {"kind": KERNEL, "start_ns": 300, "end_ns": 301})
    found = side(writer)
    assert found.ops.select("start_ns", "pid", "tid", "gpu_call_id").rows() == [
        (105, 7, 71, 0), (155, 8, 81, 1), (205, 7, 72, 2), (300, 8, None, None),
    ]  # fmt: skip
    assert found.calls.select("gpu_call_id", "start_ns", "pid", "tid").rows() == [
        (0, 100, 7, 71), (1, 150, 8, 81), (2, 200, 7, 72),
    ]  # fmt: skip
    assert found.devices["device"].to_list() == ["GPU-a"]


def test_of_calls_inside_each_other_the_outer_one_submitted(writer: SpoolWriter) -> None:
    kernel, call = launched(1, 71, 100)
    write(writer, 7, kernel, {**call, "start_ns": 101, "tid": 99}, call)
    assert side(writer).ops.select("tid", "gpu_call_id").rows() == [(71, 0)]


def test_of_a_process_that_cupti_reported_on_uprobes_count_nothing(writer: SpoolWriter) -> None:
    write(writer, 7, *launched(1, 71, 100))
    function = GPU_FUNCTIONS.index("cuLaunchKernel")
    for pid in (7, 8):
        writer.ring(
            GPU_LAUNCHES, pid=pid, tid=pid, first_ns=50, last_ns=60, function=function, count=2
        )
        writer.ring(
            GPU_CALL, pid=pid, tid=pid, start_ns=70, end_ns=80, function=len(GPU_FUNCTIONS) - 1
        )
    found = side(writer).calls.select("pid", "start_ns", "source", "count").rows()
    assert found == [(8, 50, "cuda_api", 2), (8, 70, "cuda_api", 1), (7, 100, "cupti", 1)]


def test_inferences_stand_in_only_where_no_gpu_was_recorded(writer: SpoolWriter) -> None:
    write(writer, 7, *launched(1, 71, 100))
    run = {"name": "run", "start_ns": 10, "end_ns": 20}
    found = side(writer, {**run, "pid": 7, "tid": 71}, {**run, "pid": 8, "tid": 81})
    assert found.ops.select("pid", "source").rows() == [(7, "cupti")]


def test_who_only_asks_for_a_gpu_submits_nothing(writer: SpoolWriter) -> None:
    """As a program does that looks whether there is one, and computes on the CPU."""
    init = GPU_FUNCTIONS.index("cuInit")
    writer.ring(GPU_CALL, pid=8, tid=81, start_ns=1, end_ns=2, function=init)
    found = side(writer, {"name": "run", "start_ns": 10, "end_ns": 20, "pid": 8, "tid": 81})
    assert found.ops.select("pid", "source").rows() == [(8, "runner")]
    assert found.calls["kind"].to_list() == ["context"]


def test_without_a_gpu_there_is_nothing(writer: SpoolWriter) -> None:
    found = side(writer)
    frames = (found.ops, found.calls, found.devices, found.samples)
    assert [frame.height for frame in frames] == [0, 0, 0, 0]
    assert found.dropped == 0


def test_when_launches_were_not_watched(spool_writer: SpoolWriter) -> None:
    """The last time ends with the recording."""
    spool_writer.begin()
    for time_ns, watched in ((2000, False), (3000, True), (5000, False)):
        spool_writer.journal("launches", time_ns, watched=watched)
    spool_writer.end(9000)
    assert side(spool_writer).unwatched.rows() == [(2000, 3000), (5000, 9000)]
