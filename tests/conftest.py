"""What every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """Return the directory that is the package ``cvmprof``."""
    return HERE.parent
