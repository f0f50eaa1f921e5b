"""The phases of a traced program that uses the real ONNX Runtime and marks none itself."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from cvmprof import open_run
from cvmprof.profiler.session import instrument
from cvmprof.profiler.session.instrument import STARTUP, instrumented
from cvmprof.runners.model import SMALLEST_SIZE_BYTES, build_model

INFER = """
import hashlib, multiprocessing, os, sys, threading
import numpy, onnxruntime
TOKENS = {"tokens": numpy.arange(32).reshape(1, 32)}
def infer(runs):
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    for _ in range(runs):
        (logits,) = session.run(None, TOKENS)
    binding = session.io_binding()
    binding.bind_cpu_input("tokens", TOKENS["tokens"])
    binding.bind_output("logits")
    session.run_with_iobinding(binding)
    return hashlib.sha256(logits.tobytes()).hexdigest(), os.getpid(), threading.get_native_id()
"""
IN_ONE_PROCESS = """
if __name__ == "__main__":
    print(*infer(2))
    try:
        onnxruntime.InferenceSession("missing.onnx")
    except onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile as error:
        print(type(error).__name__)
"""
IN_A_SPAWNED_ONE = """
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.apply(infer, [1]))
"""
#: marks its own phases
MARKING = """
from cvmprof import phase
if __name__ == "__main__":
    with phase("load"):
        session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    session.run(None, TOKENS)
    with phase("run"):
        session.run(None, TOKENS)
"""

#: prints the variables that the process was started with
PRINT_ENVIRONMENT = """
import json
variables = open("/proc/self/environ").read().split("\\0")
print(json.dumps(dict(each.split("=", 1) for each in variables if each)))
"""


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"), SMALLEST_SIZE_BYTES, layers=1)


def traced(place: Path, model: Path, program: str, *options: str) -> tuple[str, pl.DataFrame]:
    """Trace a program; return what it printed, and its phases."""
    script = place / "infer.py"
    script.write_text(textwrap.dedent(program))
    command = ["--", sys.executable, str(script), str(model)]
    done = subprocess.run(
        [sys.executable, "-m", "cvmprof", "trace", "--no-report", *options, "-o", "a", *command],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "cvmprof: run a\n")
    return done.stdout, open_run(place / "a").tables["phases"]


def untraced(place: Path, model: Path, program: str) -> str:
    script = place / "infer.py"
    script.write_text(textwrap.dedent(program))
    command = [sys.executable, str(script), str(model)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_loading_and_running_a_model_are_phases(tmp_path: Path, model: Path) -> None:
    program = INFER + IN_ONE_PROCESS
    printed, phases = traced(tmp_path, model, program)
    checksum, pid, tid, error = printed.split()
    assert [checksum, error] == [untraced(tmp_path, model, program).split()[i] for i in (0, 3)]
    expected = [("load", "onnxruntime"), *[("run", "onnxruntime")] * 3, ("load", "onnxruntime")]
    assert phases.select("name", "framework").rows() == expected
    assert phases.select("pid", "tid").unique().rows() == [(int(pid), int(tid))]
    edges = [time_ns for row in phases.select("start_ns", "end_ns").rows() for time_ns in row]
    assert edges == sorted(edges)
    run = open_run(tmp_path / "a")
    assert run.tables["gpu_ops"].height == 0
    assert run.tables["stalls"].height == 0


def test_a_spawned_process_marks_phases_too(tmp_path: Path, model: Path) -> None:
    printed, phases = traced(tmp_path, model, INFER + IN_A_SPAWNED_ONE)
    _, pid, tid = printed.split()
    named = [("load", int(pid), int(tid)), *[("run", int(pid), int(tid))] * 2]
    assert phases.select("name", "pid", "tid").rows() == named


def test_what_the_program_names_itself_is_not_marked_twice(tmp_path: Path, model: Path) -> None:
    _, phases = traced(tmp_path, model, INFER + MARKING)
    named = [("load", None), ("run", "onnxruntime"), ("run", None)]
    assert phases.select("name", "framework").rows() == named
    operations = open_run(tmp_path / "a").tables["gpu_ops"]
    times = ("start_ns", "end_ns")
    assert operations.select(times).rows() == phases.select(times).rows()[2:]


def test_switched_off_the_environment_is_untouched(tmp_path: Path, model: Path) -> None:
    printed, _ = traced(tmp_path, model, PRINT_ENVIRONMENT, "--instrument", "off", "--gpu", "off")
    seen = json.loads(printed)
    assert seen.pop("CVMPROF_PHASES").endswith(f":{tmp_path}/a/spool/phases.jsonl")
    assert seen == json.loads(untraced(tmp_path, model, PRINT_ENVIRONMENT))


def test_switched_off_nothing_is_marked(tmp_path: Path, model: Path) -> None:
    _, phases = traced(tmp_path, model, INFER + IN_ONE_PROCESS, "--instrument", "off")
    assert phases.height == 0


def test_a_relative_run_is_found_from_every_directory(tmp_path: Path, model: Path) -> None:
    program = "import os; os.chdir('/')\n" + INFER + IN_ONE_PROCESS
    _, phases = traced(tmp_path, model, program)
    assert phases["name"].to_list() == ["load", "run", "run", "run", "load"]


@pytest.mark.parametrize("startup", ["/a:b/startup", "/no/such/startup"])
def test_a_place_that_cannot_be_named_or_read_leaves_the_environment(
    monkeypatch: pytest.MonkeyPatch, startup: str
) -> None:
    environment = {"PATH": "/bin"}
    assert instrumented(environment)["PYTHONPATH"] == STARTUP
    monkeypatch.setattr(instrument, "STARTUP", startup)
    assert instrumented(environment) == {"PATH": "/bin"}
