"""What phases cost the program: those it marks itself, and those of its frameworks."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Iterator
from pathlib import Path

from cvmprof.phases import VARIABLE, named
from cvmprof.profiler.session.frameworks import Marks
from cvmprof.profiler.session.instrument import instrumented

PROGRAM = """
import timeit
from cvmprof import phase
def one():
    with phase("x"):
        pass
print(min(timeit.repeat(one, number=20000, repeat=5)) / 20000 * 1e9)
"""
STARTS = 25


def rows() -> Iterator[tuple[str, str, str, bool | None]]:
    with tempfile.TemporaryDirectory() as directory:
        yield from _phase_rows(Path(directory))
        yield _start_row(Path(directory))
        yield from _call_rows(Path(directory))


def _phase_rows(directory: Path) -> Iterator[tuple[str, str, str, bool | None]]:
    for state, variable, reach_ns in (
        ("not traced", "", 1_000),
        ("traced", _phase_file(directory), 50_000),
    ):
        environment = {**os.environ, VARIABLE: variable}
        program = [sys.executable, "-c", PROGRAM]
        cost_ns = float(subprocess.check_output(program, env=environment, text=True))
        within = cost_ns <= reach_ns
        yield f"one phase, {state}", f"{cost_ns:.0f} ns", f"≤ {reach_ns} ns", within


def _phase_file(directory: Path) -> str:
    path = directory / "phases.jsonl"
    path.touch()
    return named(str(path), path.stat())


def _start_row(directory: Path) -> tuple[str, str, str, bool | None]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    plain = {**own, "PYTHONPYCACHEPREFIX": str(directory / "compiled")}
    hooked = instrumented({**plain, VARIABLE: _phase_file(directory)})
    spent_s = {False: 0.0, True: 0.0}
    for environment in (plain, hooked):
        _cpu_s(environment)  # compiles
    for _ in range(STARTS):
        spent_s[False] += _cpu_s(plain)
        spent_s[True] += _cpu_s(hooked)
    ratio = spent_s[True] / spent_s[False]
    return "python -c pass, instrumented / not", f"{ratio:.3f}", "≤ 1.05", ratio <= 1.05


def _cpu_s(environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "pass"], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _call_rows(directory: Path) -> Iterator[tuple[str, str, str, bool | None]]:
    marks = Marks(_phase_file(directory))

    def call() -> None:
        marks.end(marks.begin("run", "onnxruntime"))

    for state, reach_ns in (("marked", 50_000), ("after the first 10,000", 2_000)):
        cost_ns = min(timeit.repeat(call, number=2_000, repeat=5)) / 2_000 * 1e9
        yield (
            f"one call of a framework, {state}",
            f"{cost_ns:.0f} ns",
            f"≤ {reach_ns} ns",
            cost_ns <= reach_ns,
        )
