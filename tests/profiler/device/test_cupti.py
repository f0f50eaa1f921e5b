"""Records of the injected library become what devices did and what threads called."""

from __future__ import annotations

from typing import Any

from cvmprof.probes.events import GPU_PAGEABLE, GPU_RECORD, TASK
from cvmprof.probes.gpu import GPU_RECORD_KINDS
from cvmprof.profiler.device.cupti import CuptiRecords, cupti_records
from cvmprof.profiler.kernel.host_ids import HostIds
from cvmprof.profiler.run.gpu_files import GpuProcess
from cvmprof.tests.profiler.conftest import raw

NOBODY = HostIds(None)


def gpu_record(kind: str, **values: Any) -> dict[str, Any]:
    usual = {"start_ns": 10, "end_ns": 20, "pid": 5, "context": 1}
    return {**usual, "kind": GPU_RECORD_KINDS.index(kind), **values}


def process(*records: dict[str, Any], lines: tuple[dict[str, Any], ...] = ()) -> GpuProcess:
    return GpuProcess(raw(GPU_RECORD, *records), lines)


def name(number: int, text: str) -> dict[str, Any]:
    return {"kind": "name", "number": number, "text": text}


def device(number: int, uuid: str, **more: Any) -> dict[str, Any]:
    return {"kind": "device", "device": number, "uuid": uuid, **more}


def read(*processes: GpuProcess, host_ids: HostIds = NOBODY) -> CuptiRecords:
    return cupti_records(processes, host_ids, (5, 1000))


def test_operations_have_their_device_and_the_name_of_their_kernel() -> None:
    one = process(
        gpu_record("kernel", device=1, stream=7, correlation=3, name=2),
        gpu_record("copy_in", device=0, bytes=99, correlation=4, flags=GPU_PAGEABLE),
        lines=(name(2, "gemm<float>"), device(0, "GPU-a"), device(1, "GPU-b")),
    )
    columns = ("device", "kind", "name", "stream", "bytes", "pageable", "correlation", "source")
    assert read(one).ops.sort("correlation").select(columns).rows() == [
        ("GPU-b", "kernel", "gemm<float>", 7, None, False, 3, "cupti"),
        ("GPU-a", "copy_in", None, 0, 99, True, 4, "cupti"),
    ]


def test_every_kind_of_operation() -> None:
    kinds = GPU_RECORD_KINDS[1:-1]
    given = [gpu_record(kind, correlation=n) for n, kind in enumerate(kinds, 1)]
    ops = read(process(*given)).ops
    assert ops.sort("correlation")["kind"].to_list() == list(kinds)


def test_the_same_number_is_another_device_in_another_process() -> None:
    """And one device may have different numbers; one that is not described is named by number."""
    two = [
        process(gpu_record("kernel", correlation=1), lines=(device(0, "GPU-a", name="H100"),)),
        process(
            gpu_record("kernel", pid=6, correlation=2),
            gpu_record("kernel", pid=6, correlation=3, device=1),
            gpu_record("kernel", pid=6, correlation=4, device=2),
            lines=(device(0, "GPU-b", memory_bytes=80), device(1, "GPU-a", name="H100")),
        ),
    ]
    found = read(*two)
    assert found.ops.sort("correlation")["device"].to_list() == [
        "GPU-a", "GPU-b", "GPU-a", "device 2 of process 6",
    ]  # fmt: skip
    assert found.devices.sort("device").select("device", "name", "memory_bytes").rows() == [
        ("GPU-a", "H100", None), ("GPU-b", None, 80), ("device 2 of process 6", None, None),
    ]  # fmt: skip


def test_calls_are_known_by_any_of_their_names() -> None:
    """A call of an unknown function, or of one without a name, is none."""
    one = process(
        gpu_record("call", tid=8, correlation=1, name=1, result=-1),
        gpu_record("call", tid=9, correlation=2, name=2),
        gpu_record("call", tid=9, correlation=3, name=3),
        gpu_record("call", tid=9, correlation=4, name=4),
        lines=(
            name(1, "cuMemcpyHtoD_v2_ptds"),
            name(2, "cudaLaunchKernel_ptsz_v7000"),
            name(3, "?"),
        ),
    )
    columns = ("kind", "function", "tid", "count", "result", "correlation")
    assert read(one).calls.sort("correlation").select(columns).rows() == [
        ("copy", "cuMemcpyHtoD", 8, 1, -1, 1), ("launch", "cudaLaunchKernel", 9, 1, 0, 2),
    ]  # fmt: skip


def test_correlations_count_without_sign_and_zero_is_none() -> None:
    given = (gpu_record("kernel", correlation=(1 << 32) - 1), gpu_record("kernel", start_ns=11))
    assert read(process(*given)).ops.sort("start_ns")["correlation"].to_list() == [
        (1 << 32) - 1, None,
    ]  # fmt: skip


def test_records_that_make_no_sense_are_left_out() -> None:
    """Without a time, ended before they began, of a kind that is not known."""
    given = (
        gpu_record("kernel", start_ns=0),
        gpu_record("kernel", end_ns=9),
        gpu_record("none"),
        {**gpu_record("kernel"), "kind": 8},
        gpu_record("kernel", end_ns=10, correlation=7),
    )
    found = read(process(*given))
    assert found.ops["correlation"].to_list() == [7]
    assert found.calls.height == 0


def test_what_is_outside_the_recorded_time_is_left_out_or_cut_off() -> None:
    """The recording is from 5 to 1000."""
    spans = ((4, 9), (5, 9), (999, 5000), (1000, 1000), (1001, 1002))
    given = [
        gpu_record("kernel", start_ns=start, end_ns=end, correlation=number)
        for number, (start, end) in enumerate(spans, 1)
    ]
    found = read(process(*given)).ops.sort("correlation")
    assert found.select("correlation", "start_ns", "end_ns").rows() == [
        (2, 5, 9), (3, 999, 1000), (4, 1000, 1000),
    ]  # fmt: skip


def test_more_lost_than_a_number_holds_is_the_largest() -> None:
    many = tuple({"kind": "dropped", "count": (1 << 62) - 1} for _ in range(3))
    assert read(process(lines=many)).dropped == (1 << 63) - 1


def test_lines_that_make_no_sense_are_left_out() -> None:
    lines: tuple[dict[str, Any], ...] = (
        name(1, "good"),
        {"kind": "name", "number": "1", "text": "bad"},
        {"kind": "name", "number": 1 << 70, "text": "bad"},
        {"kind": "name", "number": 1, "text": 5},
        {"kind": "device", "device": 0, "uuid": 5, "name": [1], "memory_bytes": "many"},
        {"kind": "device", "device": -1, "uuid": "GPU-x"},
        {"kind": "dropped", "count": 3},
        {"kind": "dropped", "count": -9},
        {"kind": "dropped", "count": 1 << 90},
        {"kind": "dropped", "count": 4},
    )
    found = read(process(gpu_record("kernel", name=1), lines=lines))
    assert found.ops.select("device", "name").rows() == [("device 0 of process 5", "good")]
    assert found.dropped == 7


def test_tasks_in_a_pid_namespace_get_the_hosts_ids() -> None:
    life = {"start_ns": 1, "time_ns": 1, "pid": 500, "role": 1, "namespace_pid": 5, "kind": 2}
    events = raw(
        TASK, {**life, "tid": 500, "namespace_tid": 5}, {**life, "tid": 508, "namespace_tid": 8}
    )
    one = process(
        gpu_record("kernel", correlation=1),
        gpu_record("call", tid=8, correlation=1, name=1),
        lines=(name(1, "cuLaunchKernel"),),
    )
    found = read(one, host_ids=HostIds(events))
    assert found.ops["pid"].to_list() == [500]
    assert found.calls.select("pid", "tid").rows() == [(500, 508)]
