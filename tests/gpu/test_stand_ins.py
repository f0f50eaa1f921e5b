"""The stand-ins do in the order of time what they log."""

from __future__ import annotations

import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from cvmprof.tests.gpu.stand_ins import StandIns, read_log


def run(stand_ins: StandIns, log: Path, *steps: object) -> list[dict[str, Any]]:
    command = [str(stand_ins.program), *map(str, steps)]
    subprocess.run(command, env=stand_ins.environment(log), check=True, timeout=60)
    return read_log(log)


def test_kernels_of_a_stream_run_one_after_the_other(stand_ins: StandIns, tmp_path: Path) -> None:
    lines = run(stand_ins, tmp_path / "log", "init", "launch", 7, 300, "sync", 1)
    kernels = [line for line in lines if line["kind"] == "kernel"]
    assert [kernel["end_ns"] - kernel["start_ns"] for kernel in kernels] == [300_000] * 7
    for before, after in pairwise(kernels):
        assert before["end_ns"] <= after["start_ns"]
    waited = next(line for line in lines if line.get("function") == "cuStreamSynchronize")
    assert waited["start_ns"] < kernels[-1]["end_ns"] <= waited["end_ns"]


def test_each_operation_has_the_correlation_of_its_call(
    stand_ins: StandIns, tmp_path: Path
) -> None:
    steps = ("init", "threads", 3, "launch", 13, 5, "graph", 11, 4, "in", 7, 100, "set", 5, 9)
    lines = run(stand_ins, tmp_path / "log", *steps)
    submitting = {
        "kernel": "cuLaunchKernel",
        "graph": "cuGraphLaunch",
        "copy_in": "cuMemcpyHtoDAsync_v2",
        "memset": "cuMemsetD8Async",
    }
    calls = {
        line["correlation"]: (line["function"], line["tid"])
        for line in lines
        if line["kind"] == "call"
    }
    operations = [line for line in lines if line["kind"] != "call"]
    assert Counter(line["kind"] for line in operations) == {
        "kernel": 13, "graph": 11, "copy_in": 7, "memset": 5,
    }  # fmt: skip
    for line in operations:
        assert calls[line["correlation"]] == (submitting[line["kind"]], line["tid"])


def test_a_copy_reads_the_memory_of_a_mapped_file(stand_ins: StandIns, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(bytes(range(256)) * 500)
    command = [str(stand_ins.program), "init", "file", str(model)]
    environment = stand_ins.environment()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    assert done.stdout == b"sum %d\n" % (500 * 255 * 128)


def test_functions_by_address_and_of_the_threads_stream(
    stand_ins: StandIns, tmp_path: Path
) -> None:
    lines = run(
        stand_ins,
        tmp_path / "log",
        "init",
        "ptsz",
        "proc",
        "launch",
        3,
        5,
        "graph",
        2,
        4,
        "sync",
        1,
    )
    functions = Counter(line["function"] for line in lines if line["kind"] == "call")
    assert functions["cuLaunchKernel_ptsz"] == 3
    assert functions["cuGraphLaunch_ptsz"] == 2
    assert functions["cuStreamSynchronize_ptsz"] == 1


def test_the_driver_is_called_inside_the_runtimes_functions(
    stand_ins: StandIns, tmp_path: Path
) -> None:
    lines = run(stand_ins, tmp_path / "log", "init", "runtime", 5, 100)
    calls = {line["function"]: line for line in lines if line["kind"] == "call"}
    outer, inner = calls["cudaLaunchKernel_v7000"], calls["cuLaunchKernel"]
    assert outer["correlation"] == inner["correlation"]
    assert outer["start_ns"] <= inner["start_ns"] <= inner["end_ns"] <= outer["end_ns"]
