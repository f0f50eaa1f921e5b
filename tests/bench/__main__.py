"""Runs the benchmarks: ``python tests/bench [NAME…]``, by ``make bench``.

Each ``bench_*.py`` here has a function ``rows()`` that measures and yields
(what, measured, to reach, reached): three texts, and whether it was reached, None where there is
nothing to reach. Each file runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
MARKS = {True: "yes", False: "NO", None: ""}


def print_rows(path: Path) -> None:
    """Load one file of benchmarks and print its rows as they are measured."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    rows: Iterable[tuple[str, str, str, bool | None]] = module.rows()
    for what, measured, reach, reached in rows:
        print(f"{what:<64} {measured:>16} {reach:>16} {MARKS[reached]:>5}", flush=True)


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; return how many broke (not how many fell short)."""
    if names[:1] == ["--one"]:
        print_rows(Path(names[1]))
        return 0
    paths = [path for path in sorted(HERE.glob("bench_*.py")) if not names or path.stem in names]
    print(f"{'what':<64} {'measured':>16} {'to reach':>16} {'':>5}", flush=True)
    commands = [[sys.executable, str(HERE), "--one", str(path)] for path in paths]
    return sum(subprocess.run(command).returncode != 0 for command in commands)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
