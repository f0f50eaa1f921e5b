"""Compile the library that CUDA's driver loads into the command's processes, and say where it is.

Run as a program it compiles, once: ``make`` does so for a clone, and the installation for itself.
Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..errors import CvmprofError, MissingDependency
from .events import gpu_definitions
from .gpu import DRIVER_FUNCTIONS, RUNTIME_FUNCTIONS

SOURCES = Path(__file__).resolve().parent / "injection"
#: beside its sources, so that who may change one may change the other
LIBRARY = SOURCES / "libcvmprof_gpu.so"
HEADER = "gpu_layouts.h"

# Never unloaded: CUPTI calls into it until the process ends.
FLAGS = (
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-fPIC",
    "-fvisibility=hidden",
    "-pthread",
    "-shared",
    "-Wl,-z,nodelete",
)
_SCALARS = (
    "typedef uint64_t u64; typedef int64_t s64; typedef uint32_t u32; typedef int32_t s32;\n"
    "typedef uint16_t u16; typedef int16_t s16; typedef uint8_t u8;\n"
)


def header() -> str:
    """What the library's sources include: the layout of its records, and the functions recorded."""
    return "".join((
        "#pragma once\n#include <stdint.h>\n",
        _SCALARS,
        gpu_definitions(),
        _names("gpu_driver_functions", DRIVER_FUNCTIONS),
        _names("gpu_runtime_functions", RUNTIME_FUNCTIONS),
    ))  # fmt: skip


def compile_library(library: Path = LIBRARY) -> None:
    """Compile the library to a path; what was there before is replaced in one step.

    Raises MissingDependency where there is no compiler, CvmprofError where compiling fails.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise MissingDependency(
            "gcc is not installed: what GPUs do will not be recorded by CUPTI",
            "install gcc, then make install again",
        )
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".compiling-") as name:
        work = Path(name)
        (work / HEADER).write_text(header(), encoding="ascii")
        sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
        _run([compiler, *FLAGS, f"-I{work}", "-o", str(work / library.name), *sources, "-ldl"])
        (work / library.name).chmod(0o755)
        os.replace(work / library.name, library)


def _names(name: str, functions: Iterable[str]) -> str:
    quoted = "".join(f'"{function}", ' for function in functions)
    return f"static const char *const {name}[] __attribute__((unused)) = {{ {quoted}0 }};\n"


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "error" in line] or ["no message"]
        fact = f"the library that records what GPUs do does not compile: {lines[0]}"
        raise CvmprofError(fact, "see that gcc and the C library's headers are complete")


if __name__ == "__main__":
    try:
        compile_library()
    except CvmprofError as error:
        print(f"{error.fact} ({error.help_text})", file=sys.stderr)
