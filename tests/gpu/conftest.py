"""The stand-ins of CUDA's libraries, compiled once."""

from __future__ import annotations

import pytest

from cvmprof.tests.gpu.stand_ins import StandIns, compile_stand_ins


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> StandIns:
    return compile_stand_ins(tmp_path_factory.mktemp("stand-ins"))
