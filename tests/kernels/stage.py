"""What a guest runs, compiled here since emulation is slow: a copy of the package; programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from cvmprof.profiler.session.launch import interpreter

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = _ROOT / "tests/profiler/record"
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


def compile_daemon(directory: Path) -> None:
    """Compiles ``cvmfs2``, which only calls functions that are named as the client's."""
    directory.mkdir()
    library = str(directory / "libcvmfs_fuse3.so")
    linking = ("-shared", "-fPIC", "-Wl,-soname,libcvmfs_fuse3.so")
    _compile("client.cc", library, *linking)
    _compile("daemon.cc", str(directory / "cvmfs2"), library, "-pthread", "-Wl,-rpath,$ORIGIN")


def _compile(source: str, made: str, *flags: str) -> None:
    command = ["g++", "-O1", "-g0", "-o", made, str(_SOURCES / source), *flags]
    subprocess.run(command, check=True)
