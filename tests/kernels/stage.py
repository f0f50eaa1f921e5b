"""What a guest runs: a copy of the package with everything compiled, since emulation is slow."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from cvmprof.profiler.session.launch import interpreter

_ROOT = Path(__file__).resolve().parents[2]
_ROOMS = ("probes", "profiler", "runners")


def stage(directory: Path) -> Path:
    """Copies the package below a directory, which then imports as ``cvmprof`` with it as path."""
    package = directory / "cvmprof"
    skipped = shutil.ignore_patterns("__pycache__")
    for room in _ROOMS:
        shutil.copytree(_ROOT / room, package / room, ignore=skipped)
    for file in _ROOT.glob("*.py"):
        shutil.copy(file, package)
    shutil.copytree(_ROOT / "tests/kernels", directory / "kernels", ignore=skipped)
    shutil.copy(_ROOT / "tests/truth/asynchronous.py", directory / "kernels")
    for python in dict.fromkeys((sys.executable, interpreter())):
        subprocess.run([python, "-m", "compileall", "-q", directory], check=True)
    return directory
