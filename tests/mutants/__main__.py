"""Mutates the joins, statistics and findings at random and runs the fast tests on each mutant.

``python -m mutants [--sample N] [--seed S] [MODULE…]`` in tests/, by ``make mutants``. Mutants are
made by cosmic-ray, in copies of the tree. Prints each mutant that lives, as a diff, and the share
that the tests killed. A mutant that lives is a gap in the tests, dead code, or changes nothing: a
person judges.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import Queue
from typing import Any

from .operators import OF_COSMIC_RAY, OPERATORS

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "profiler/intervals.py", "profiler/kernel/*.py", "profiler/client/*.py", "profiler/wire/*.py",
    "profiler/device/*.py", "profiler/attribution/*.py", "profiler/health/*.py",
    "reports/material.py", "reports/numbers/*.py", "reports/findings/*.py",
)  # fmt: skip
FAST_TESTS = (
    "tests/profiler", "--ignore=tests/profiler/record", "--ignore=tests/profiler/session",
    "tests/reports", "--ignore=tests/reports/page/test_browser.py",
)  # fmt: skip
_PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x", "--tb=no")
_TIMEOUT_S = 600
_AT_ONCE = 2


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: Path
    operator: str
    occurrence: int


def main() -> int:
    """Run the mutants; the exit status is 0 unless the tests fail without any."""
    options = _options()
    paths = [path for pattern in options.module or MODULES for path in sorted(ROOT.glob(pattern))]
    modules = [path.relative_to(ROOT) for path in paths if path.name != "__init__.py"]
    mutants = [mutant for module in modules for mutant in _mutants_of(module)]
    chosen = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
    print(f"{len(chosen)} of {len(mutants)} mutants, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="cvmprof-mutants-") as where:
        copies = Queue[Path]()
        for number in range(_AT_ONCE):
            copies.put(_copy(Path(where) / str(number)))
        if not _passes(copies.queue[0], FAST_TESTS):
            print("the fast tests fail without any mutant")
            return 1
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            killed = sum(pool.map(partial(_is_killed, copies=copies), chosen))
    print(f"killed {killed} of {len(chosen)}: {killed / max(len(chosen), 1):.0%}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("module", nargs="*", help="pattern below the root (default: the joins)")
    return parser.parse_args()


def _operator(name: str) -> Any:
    if name in OPERATORS:
        return OPERATORS[name]
    return import_module("cosmic_ray.operators.provider").OperatorProvider()[name]()


def _mutants_of(module: Path) -> Iterator[Mutant]:
    syntax = import_module("cosmic_ray.ast")
    source = (ROOT / module).read_text(encoding="utf-8")
    nodes, annotations = list(syntax.ast_nodes(syntax.get_ast(source))), _annotations(source)
    for name in (*OPERATORS, *OF_COSMIC_RAY):
        operator = _operator(name)
        positions = (place for node in nodes for place in operator.mutation_positions(node))
        for occurrence, (start, _) in enumerate(positions):
            if not any(begin <= start < end for begin, end in annotations):
                yield Mutant(module, name, occurrence)


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations begin and end (line, column): they change nothing."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found.append(node.returns)
    return [
        ((each.lineno, each.col_offset), (each.end_lineno or 0, each.end_col_offset or 0))
        for each in found
        if each is not None
    ]


def _copy(to: Path) -> Path:
    """A copy of the tree, importable as cvmprof through its directory ``as_package``."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    (to / "as_package").mkdir()
    (to / "as_package" / "cvmprof").symlink_to("..")
    return to


def _is_killed(mutant: Mutant, copies: Queue[Path]) -> bool:
    """Whether a test fails with the mutant; one that lives is printed."""
    copy = copies.get()
    file = copy / mutant.module
    original = file.read_text(encoding="utf-8")
    mutate = import_module("cosmic_ray.mutating").mutate_code
    mutated: str = mutate(original, _operator(mutant.operator), mutant.occurrence)
    try:
        file.write_text(mutated, encoding="utf-8")
        killed = not all(_passes(copy, tests) for tests in _tests_of(copy, mutant.module))
    finally:
        file.write_text(original, encoding="utf-8")
        copies.put(copy)
    if not killed:
        print(_diff(mutant, original, mutated), flush=True)
    return killed


def _tests_of(copy: Path, module: Path) -> Iterator[tuple[str, ...]]:
    """The module's own tests, then those of its room, then all fast ones: most die early."""
    own = Path("tests") / module.parent / f"test_{module.name}"
    yield from ((str(place),) for place in (own, own.parent) if (copy / place).exists())
    yield FAST_TESTS


def _passes(copy: Path, tests: tuple[str, ...]) -> bool:
    environment = {
        **os.environ, "PYTHONPATH": str(copy / "as_package"), "PYTHONDONTWRITEBYTECODE": "1"
    }  # fmt: skip
    try:
        done = subprocess.run(
            [*_PYTEST, *tests], cwd=copy, env=environment, check=False, timeout=_TIMEOUT_S,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode in (0, 5)  # 5: no test was collected


def _diff(mutant: Mutant, original: str, mutated: str) -> str:
    lines = difflib.unified_diff(original.splitlines(), mutated.splitlines(), lineterm="", n=0)
    changed = [line for line in lines if not line.startswith(("---", "+++"))]
    return "\n".join([f"LIVES {mutant.module}: {mutant.operator}", *changed])


if __name__ == "__main__":
    sys.exit(main())
