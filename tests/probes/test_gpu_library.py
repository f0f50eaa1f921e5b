"""The injected library compiles, without a warning, and says what is missing where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cvmprof.errors import CvmprofError, MissingDependency
from cvmprof.probes import gpu_library
from cvmprof.probes.events import GPU_RECORD


def test_it_compiles_without_a_warning_and_exports_one_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_library, "FLAGS", (*gpu_library.FLAGS, "-Werror", "-Wshadow"))
    gpu_library.compile_library(tmp_path / "library.so")
    assert [path.name for path in tmp_path.iterdir()] == ["library.so"]
    assert (tmp_path / "library.so").stat().st_mode & 0o777 == 0o755
    command = ["nm", "-D", "--defined-only", str(tmp_path / "library.so")]
    exported = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line.split()[2] for line in exported.splitlines()] == ["InitializeInjection"]


def test_the_header_has_the_record_and_the_functions() -> None:
    header = gpu_library.header()
    assert GPU_RECORD.c_struct() in header
    assert "GPU_RECORD_COPY_IN" in header
    assert '"cuLaunchKernel"' in header
    assert '"cudaLaunchKernel"' in header


def test_without_a_compiler_one_line_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cvmprof.probes.gpu_library"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "gcc is not installed: what GPUs do will not be recorded by CUPTI "
        "(install gcc, then make install again)\n"
    )


def test_what_was_compiled_before_stays_where_compiling_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library.so"
    library.write_text("before")
    monkeypatch.setattr(gpu_library, "header", lambda: "#error no header\n")
    with pytest.raises(CvmprofError, match=r"does not compile: .*no header"):
        gpu_library.compile_library(library)
    assert library.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["library.so"]


def test_a_compiler_that_is_missing_is_a_missing_dependency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="gcc is not installed"):
        gpu_library.compile_library(tmp_path / "library.so")
