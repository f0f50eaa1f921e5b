"""The stand-ins of CUDA's libraries and the injected library, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvmprof.probes.gpu_library import compile_library
from cvmprof.tests.gpu.injected import Injection
from cvmprof.tests.gpu.stand_ins import StandIns, compile_stand_ins


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> StandIns:
    return compile_stand_ins(tmp_path_factory.mktemp("stand-ins"))


@pytest.fixture(scope="session")
def gpu_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("injection") / "libcvmprof_gpu.so"
    compile_library(library)
    return library


@pytest.fixture
def injection(stand_ins: StandIns, gpu_library: Path, tmp_path: Path) -> Injection:
    return Injection(stand_ins, gpu_library, tmp_path)
