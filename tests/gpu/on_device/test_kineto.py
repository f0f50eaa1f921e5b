"""What torch's profiler exports, read."""

from __future__ import annotations

import json
from pathlib import Path

from cvmprof.tests.gpu.on_device.activity import Operation
from cvmprof.tests.gpu.on_device.kineto import read_trace, write_trace


def test_operations_of_devices_are_read(tmp_path: Path) -> None:
    events = [
        {"ph": "X", "cat": "kernel", "name": "k", "ts": 10.5, "dur": 2.25, "args": {"device": 1}},
        {"ph": "X", "cat": "gpu_memcpy", "ts": 1, "dur": 1, "args": {"device": 0, "bytes": 64}},
        {"ph": "X", "cat": "gpu_memset", "ts": 3, "dur": 1, "args": {"device": 0, "bytes": 8}},
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 9, "dur": 1},
        {"ph": "s", "cat": "ac2g", "id": 7, "ts": 9},
        {"ph": "M", "name": "process_name", "ts": 0, "args": {"name": "python"}},
    ]  # fmt: skip
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"schemaVersion": 1, "traceEvents": events}))
    assert read_trace(trace).operations == (
        Operation("kernel", 1, 10_500, 12_750, 0),
        Operation("copy", 0, 1_000, 2_000, 64),
        Operation("memset", 0, 3_000, 4_000, 8),
    )


def test_a_log_of_the_stand_ins_becomes_a_trace(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    common = {"name": "x", "device": 0, "start_ns": 1_000_000, "end_ns": 1_002_500, "bytes": 16}
    kinds = ("kernel", "call", "copy_in", "graph", "memset", "copy_out")
    write_trace(trace, [{**common, "kind": kind} for kind in kinds])
    assert read_trace(trace).operations == tuple(
        Operation(kind, 0, 1_000_000, 1_002_500, 16)
        for kind in ("kernel", "copy", "kernel", "memset", "copy")
    )
