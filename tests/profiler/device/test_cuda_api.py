"""Calls that uprobes saw."""

from __future__ import annotations

from cvmprof.probes.events import GPU_CALL, GPU_FUNCTIONS, GPU_LAUNCHES
from cvmprof.profiler.device.cuda_api import driver_calls
from cvmprof.tests.profiler.conftest import raw

TASK = {"pid": 5, "tid": 6}


def test_calls_with_their_kind_and_result_and_launches_counted() -> None:
    """The upper half of a result is whatever the register held; a call may never have returned."""
    copy, wait = GPU_FUNCTIONS.index("cuMemcpyHtoD"), GPU_FUNCTIONS.index("cuStreamSynchronize")
    launch = GPU_FUNCTIONS.index("cuLaunchKernel")
    result = (7 << 32) | 700
    found = driver_calls(
        raw(
            GPU_CALL,
            {**TASK, "start_ns": 10, "end_ns": 15, "bytes": 8, "function": copy, "result": result},
            {**TASK, "start_ns": 20, "function": wait, "result": 3},
            {**TASK, "start_ns": 21, "function": 0},
            {**TASK, "start_ns": 22, "function": len(GPU_FUNCTIONS)},
        ),
        raw(
            GPU_LAUNCHES,
            {**TASK, "first_ns": 1, "last_ns": 4, "function": launch, "count": 31},
        ),
    )
    columns = ("kind", "function", "start_ns", "end_ns", "count", "bytes", "result", "source")
    assert found.select(columns).rows() == [
        ("copy", "cuMemcpyHtoD", 10, 15, 1, 8, 700, "cuda_api"),
        ("synchronize", "cuStreamSynchronize", 20, None, 1, None, None, "cuda_api"),
        ("launch", "cuLaunchKernel", 1, 4, 31, None, None, "cuda_api"),
    ]
