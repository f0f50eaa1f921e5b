"""The runner's inferences stand for the device."""

from __future__ import annotations

from cvmprof.profiler.device.runner import runner_operations
from cvmprof.tests.profiler.rows import rows


def test_each_ended_run_that_the_program_named_is_an_operation_of_the_device() -> None:
    thread = {"pid": 7, "tid": 8}
    found = runner_operations(
        rows(
            "phases",
            {**thread, "name": "run", "start_ns": 10, "end_ns": 20},
            {**thread, "name": "load", "start_ns": 1, "end_ns": 9},
            {**thread, "name": "run", "start_ns": 30},
            {**thread, "name": "run", "start_ns": 40, "end_ns": 41, "tid": 9},
            {**thread, "name": "run", "start_ns": 50, "end_ns": 51, "framework": "onnxruntime"},
        )
    )
    names = ("start_ns", "end_ns", "pid", "tid", "device", "kind", "source")
    assert found.select(names).rows() == [
        (10, 20, 7, 8, "runner", "run", "runner"),
        (40, 41, 7, 9, "runner", "run", "runner"),
    ]
