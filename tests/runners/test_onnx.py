"""Running a model: results, phases, refusals, and that the weights are mapped and not read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cvmprof.errors import CvmprofError
from cvmprof.runners.model import build_model
from cvmprof.runners.onnx import run_model

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
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime offers CUDA")
    with pytest.raises(CvmprofError, match="no CUDA"):
        run_model(model, provider="cuda")


def test_the_example_marks_its_phases_and_prints_a_stable_checksum(
    model: Path, repository_root: Path
) -> None:
    reader, writer = os.pipe()
    program = subprocess.Popen(
        [sys.executable, example(repository_root), str(model), "--runs", "2", "--threads", "1"],
        env={**os.environ, "CVMPROF_PHASE_FD": str(writer)},
        pass_fds=[writer],
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    with open(reader, encoding="ascii") as lines:
        marks = [json.loads(line) for line in lines]
    out, _ = program.communicate(timeout=60)
    assert program.returncode == 0
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


def test_the_lines_without_cvmprof_write_what_phase_writes(repository_root: Path) -> None:
    reader, writer = os.pipe()
    program = subprocess.Popen(
        [sys.executable, "-I", example(repository_root, "phases_without_cvmprof.py")],
        env={**os.environ, "CVMPROF_PHASE_FD": str(writer)},
        pass_fds=[writer],
    )
    os.close(writer)
    with open(reader, encoding="ascii") as lines:
        marks = [json.loads(line) for line in lines]
    assert program.wait(timeout=60) == 0
    assert [set(mark) for mark in marks] == [{"name", "event", "time_ns", "pid", "tid"}] * 2
    assert [(mark["name"], mark["event"]) for mark in marks] == [("load", "begin"), ("load", "end")]
    assert marks[1]["time_ns"] - marks[0]["time_ns"] >= 100_000_000


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
