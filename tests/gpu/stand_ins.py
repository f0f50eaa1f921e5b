"""Compile the stand-ins of CUDA's libraries, and a program that uses them.

`standins/` says what each does. Devices take time but compute nothing; every call and operation is
logged, which is the truth that tests compare with.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "standins"
#: where pip puts the CUPTI of CUDA 13, below a virtual environment
WHEEL = Path("lib/python3.12/site-packages/nvidia/cu13/lib")
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden", "-pthread")


@dataclass(frozen=True)
class StandIns:
    """Where the compiled ones are.

    ``libraries`` is a directory with libcuda.so.1 and libcudart.so.13; ``cupti`` and
    ``older_cupti`` are virtual environments with a libcupti.so.13; ``threads`` is to be preloaded.
    """

    libraries: Path
    program: Path
    cupti: Path
    older_cupti: Path
    threads: Path

    @property
    def libcuda(self) -> Path:
        """The driver's library."""
        return self.libraries / "libcuda.so.1"

    def environment(self, log: Path | None = None, **switches: object) -> dict[str, str]:
        """Variables for a process that shall use them, with CUPTI in its virtual environment.

        ``log`` gets a line for each call and operation; ``switches`` are variables, without their
        prefix ``STANDIN_``.
        """
        named = {f"STANDIN_{name}": str(value) for name, value in switches.items()}
        if log is not None:
            named["STANDIN_LOG"] = str(log)
        paths = {"LD_LIBRARY_PATH": str(self.libraries), "VIRTUAL_ENV": str(self.cupti)}
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("STANDIN_", "CUDA_", "CVMPROF_", "CONDA_"))
        }
        return {**inherited, **paths, **named}


def compile_stand_ins(directory: Path) -> StandIns:
    """Compile all of them into a directory."""
    compiled = StandIns(
        libraries=directory / "libraries",
        program=directory / "program",
        cupti=directory / "venv",
        older_cupti=directory / "older-venv",
        threads=directory / "threads.so",
    )
    libcuda, libcudart = compiled.libcuda, compiled.libraries / "libcudart.so.13"
    _library(libcuda, "libcuda.c")
    _library(libcudart, "libcudart.c", str(libcuda))
    _library(compiled.cupti / WHEEL / "libcupti.so.13", "libcupti.c", str(libcuda))
    _library(compiled.older_cupti / WHEEL / "libcupti.so.13", "libcupti.c", str(libcuda), "-DOLDER")
    _library(compiled.threads, "threads.c")
    _compile(compiled.program, "program.c", str(libcuda), str(libcudart))
    return compiled


def read_log(path: Path) -> list[dict[str, Any]]:
    """The calls and operations of all processes that logged to a file, in the order of their lines.

    A call has its function, an operation its name, device, context, stream and whether its memory
    is pageable; both have kind, start_ns, end_ns, bytes, correlation, pid and tid.
    """
    return [json.loads(line) for line in path.read_text().splitlines()]


def _library(path: Path, source: str, *others: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _compile(path, source, "-shared", f"-Wl,-soname,{path.name}", *others)


def _compile(path: Path, source: str, *options: str) -> None:
    command = ["gcc", *_FLAGS, "-o", str(path), str(SOURCES / source), *options, "-ldl"]
    subprocess.run(command, check=True)
