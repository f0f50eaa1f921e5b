"""Running a model: results, phases, refusals, and that the weights are mapped and not read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cvmprof.commands.run import provider_line
from cvmprof.errors import CvmprofError, MissingDependency
from cvmprof.phases import named
from cvmprof.runners.model import build_model
from cvmprof.runners.onnx import ModelRun, run_model
from cvmprof.tests.runners.stand_in_runtime import CPU, CUDA, TENSORRT, Runtime

MIB = 1 << 20


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"), 5 * MIB)


def example(repository_root: Path, name: str = "infer.py") -> str:
    return str(repository_root / "docs" / "examples" / name)


def test_a_model_gives_the_same_outputs_at_every_load(model: Path) -> None:
    first, second = run_model(model, runs=3), run_model(model, runs=1)
    assert re.fullmatch(r"[0-9a-f]{64}", first.checksum)
    assert first.checksum == second.checksum
    assert (first.provider, len(first.run_ns)) == ("CPUExecutionProvider", 3)
    assert first.load_ns > 0 and min(first.run_ns) > 0


def test_other_weights_give_other_outputs(model: Path, tmp_path: Path) -> None:
    other = build_model(tmp_path, 5 * MIB, seed=1)
    assert run_model(other, runs=1).checksum != run_model(model, runs=1).checksum


def test_a_model_that_is_absent_or_damaged_is_refused_in_one_line(
    model: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a model")
    alone = Path(shutil.copy(model, tmp_path / "alone.onnx"))
    for path in (tmp_path / "absent.onnx", damaged, alone):
        with pytest.raises(CvmprofError) as refusal:
            run_model(path)
        assert str(path) in refusal.value.fact
        assert "\n" not in refusal.value.fact


def test_cuda_is_refused_where_onnx_runtime_has_none(model: Path) -> None:
    onnxruntime: Any = import_module("onnxruntime")
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime offers CUDA")
    with pytest.raises(MissingDependency, match="this ONNX Runtime has no CUDAExecutionProvider"):
        run_model(model, provider="cuda")
    done = run_model(model, runs=1, provider="auto")
    assert (done.provider, done.unused) == (CPU, f"this ONNX Runtime has no {CUDA}")
    assert done.checksum == run_model(model, runs=1).checksum


def test_every_node_of_the_model_is_counted(model: Path) -> None:
    onnx: Any = import_module("onnx")
    count = len(onnx.load(str(model), load_external_data=False).graph.node)
    assert run_model(model, runs=1).nodes == {CPU: count}


def test_the_steady_time_is_the_median_of_all_but_the_first_run() -> None:
    done = ModelRun(CPU, None, None, 7, (900, 30, 10, 20), "")
    assert done.steady_ns == 20
    assert replace(done, run_ns=(900,)).steady_ns is None


# --- a GPU, played by a stand-in ------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runtime]:
    """Puts a runtime with a GPU in the place of ONNX Runtime."""

    def put(**ordered: Any) -> Runtime:
        runtime = Runtime(**ordered)
        monkeypatch.setattr("cvmprof.runners.onnx.onnxruntime", runtime)
        return runtime

    return put


Gpu = Callable[..., Runtime]


def test_inputs_are_put_on_the_device_once_and_outputs_stay_there(gpu: Gpu, model: Path) -> None:
    runtime = gpu(nodes={CUDA: 5, CPU: 2})
    done = run_model(model, runs=3, provider="cuda")
    assert (done.provider, done.nodes, done.unused) == (CUDA, {CUDA: 5, CPU: 2}, None)
    assert runtime.calls == [
        ("preload",),
        ("session", (CUDA, CPU), 0),
        ("input", "tokens", [[0, 3, 6, 9]], "cuda"),
        ("output", "logits", "cuda", 0),
        ("run", 1),
        ("synchronize",),
        ("copy out",),
        ("run", 2),
        ("synchronize",),
        ("run", 3),
        ("synchronize",),
    ]
    assert done.checksum == hashlib.sha256((1).to_bytes(8, "little")).hexdigest()


def test_tensorrt_is_asked_for_with_cuda_behind_it(gpu: Gpu, model: Path) -> None:
    runtime = gpu(nodes={TENSORRT: 7})
    assert run_model(model, runs=1, provider="tensorrt").provider == TENSORRT
    assert ("session", (TENSORRT, CUDA, CPU), 0) in runtime.calls


REFUSALS: list[tuple[str, dict[str, Any], str, str]] = [
    ("cuda", {"offered": [CPU]}, f"this ONNX Runtime has no {CUDA}", "pip install"),
    ("tensorrt", {"offered": [CUDA, CPU]}, f"this ONNX Runtime has no {TENSORRT}", "install Tens"),
    (
        "cuda",
        {"working": [CPU], "unfound": "Failed to load libcublas.so.13\nand more"},
        f"ONNX Runtime could not load its {CUDA}: Failed to load libcublas.so.13",
        "pip install",
    ),
    ("tensorrt", {"working": [CUDA, CPU]}, f"ONNX Runtime could not load its {TENSORRT}", "inst"),
    ("cuda", {"nodes": {CPU: 9}}, f"{CUDA} can run no node of {{model}}", "pip install"),
    (
        "cuda",
        {"load_error": RuntimeError("CUDA failure 100:\n no device")},
        f"ONNX Runtime cannot load {{model}} by {CUDA}: CUDA failure 100: no device",
        "see if it loads with --provider cpu; if so, pip install",
    ),
]


@pytest.mark.parametrize(("provider", "ordered", "fact", "way_out"), REFUSALS)
def test_a_gpu_that_does_not_run_the_model_is_refused_and_auto_takes_the_cpu(
    gpu: Gpu, model: Path, provider: str, ordered: dict[str, Any], fact: str, way_out: str
) -> None:
    runtime = gpu(**ordered)
    with pytest.raises(MissingDependency) as refusal:
        run_model(model, provider=provider)
    assert refusal.value.fact == fact.format(model=model)
    assert refusal.value.help_text.startswith(way_out)
    assert not [call for call in runtime.calls if call[0] == "run"]
    if provider == "cuda":
        done = run_model(model, runs=2, provider="auto")
        assert (done.provider, done.unused) == (CPU, refusal.value.fact)
        assert ("input", "tokens", [[0, 3, 6, 9]], "cpu") in runtime.calls
        assert [call for call in runtime.calls if call[0] == "severity"] == [
            ("severity", 4),
            ("severity", 2),
        ], "errors that are expected are not printed, others are"


def test_auto_takes_cuda_where_it_works(gpu: Gpu, model: Path) -> None:
    gpu()
    done = run_model(model, runs=1, provider="auto")
    assert (done.provider, done.nodes, done.unused) == (CUDA, None, None)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_prints_the_provider_and_the_times_apart(model: Path) -> None:
    command = [sys.executable, "-m", "cvmprof", "run", str(model)]
    four = subprocess.check_output([*command, "--runs", "4"], text=True, timeout=60)
    one = subprocess.check_output([*command, "--runs", "1"], text=True, timeout=60)
    seconds = r"\d+\.\d{3} s"
    nodes = r"provider: CPUExecutionProvider, (\d+) of \1 nodes\n"
    head = rf"{nodes}load: {seconds}\nfirst run: {seconds}\n"
    assert re.fullmatch(rf"{head}steady run: {seconds} \(median of 3\)\n", four)
    assert re.fullmatch(head, one)


def test_the_command_fails_in_two_lines_where_the_provider_is_not_there(model: Path) -> None:
    command = [sys.executable, "-m", "cvmprof", "run", str(model), "--provider", "tensorrt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.splitlines() == [
        f"cvmprof: this ONNX Runtime has no {TENSORRT}",
        "  try: install TensorRT and pip install 'cvmprof[gpu]', or choose --provider cuda",
    ]


@pytest.mark.parametrize(
    ("done", "line"),
    [
        (
            ModelRun(CUDA, {CUDA: 5, CPU: 2}, None, 1, (1,), ""),
            f"{CUDA}, 5 of 7 nodes, {CPU}: 2",
        ),
        (
            ModelRun(CUDA, None, None, 1, (1,), ""),
            f"{CUDA} (ONNX Runtime before 1.24 does not say which nodes it ran)",
        ),
    ],
)
def test_how_the_nodes_were_divided_is_printed(done: ModelRun, line: str) -> None:
    assert provider_line(done) == f"provider: {line}"


# --- examples -------------------------------------------------------------------------------------


def run_of(place: Path) -> tuple[Path, dict[str, str]]:
    """A file for phases, and the environment of a program that finds it."""
    file = place / "phases.jsonl"
    file.touch()
    return file, {**os.environ, "CVMPROF_PHASES": named(str(file), file.stat())}


def test_the_example_marks_its_phases_and_prints_a_stable_checksum(
    model: Path, repository_root: Path, tmp_path: Path
) -> None:
    file, environment = run_of(tmp_path)
    arguments = [example(repository_root), str(model), "--runs", "2", "--threads", "1"]
    out = subprocess.run(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    marks = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(mark["name"], mark["event"]) for mark in marks] == [
        (name, event) for name in ("load", "run", "run") for event in ("begin", "end")
    ]
    checksums = re.findall(r"checksum: ([0-9a-f]{16})", out)
    assert len(checksums) == 2 and len(set(checksums)) == 1


def test_the_example_works_without_cvmprof(model: Path, repository_root: Path) -> None:
    """A module called cvmprof that cannot be imported stands for its absence."""
    code = (
        "import runpy, sys; sys.modules['cvmprof'] = None\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    arguments = [example(repository_root), str(model), "--runs", "1"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "checksum: " in ended.stdout


def test_the_lines_without_cvmprof_write_what_phase_writes(
    repository_root: Path, tmp_path: Path
) -> None:
    file, environment = run_of(tmp_path)
    program = [sys.executable, "-I", example(repository_root, "phases_without_cvmprof.py")]
    subprocess.run(program, env=environment, check=True)
    marks = [json.loads(line) for line in file.read_text().splitlines()]
    assert [set(mark) for mark in marks] == [{"name", "event", "time_ns", "pid", "tid"}] * 2
    assert [(mark["name"], mark["event"]) for mark in marks] == [("load", "begin"), ("load", "end")]
    assert marks[1]["time_ns"] - marks[0]["time_ns"] >= 100_000_000


@pytest.mark.parametrize(
    "variable", [None, "", "64", "1:2:/no/such", "1:2:{file}", "{device}:{inode}:/dev/null"]
)
def test_the_lines_without_cvmprof_do_nothing_without_the_very_file(
    repository_root: Path, tmp_path: Path, variable: str | None
) -> None:
    file, environment = run_of(tmp_path)
    del environment["CVMPROF_PHASES"]
    if variable is not None:
        status = file.stat()
        environment["CVMPROF_PHASES"] = variable.format(
            file=file, device=status.st_dev, inode=status.st_ino
        )
    program = [sys.executable, "-I", example(repository_root, "phases_without_cvmprof.py")]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert file.read_bytes() == b""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_weights_are_mapped_and_never_read(
    model: Path, repository_root: Path, tmp_path: Path
) -> None:
    calls = "openat,read,pread64,readv,preadv,mmap"
    log = tmp_path / "strace"
    program = [sys.executable, example(repository_root), str(model), "--runs", "1"]
    subprocess.run(
        ["strace", "-f", "-y", "-e", f"trace={calls}", "-o", str(log), *program],
        check=True,
        capture_output=True,
    )
    lines = [line for line in log.read_text().splitlines() if "<" + str(model) + ".data>" in line]
    names = [line.split("(")[0].split()[-1] for line in lines]
    assert set(names) == {"openat", "mmap"}
    assert names.count("mmap") >= 24
