"""What a phase marker costs the program that it stands in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

PROGRAM = """
import os, sys, timeit
reading, writing = os.pipe()
if sys.argv[1] == "traced":
    os.environ["CVMPROF_PHASE_FD"] = str(writing)
    if os.fork() == 0:
        os.close(writing)
        while os.read(reading, 65536):
            pass
        os._exit(0)
from cvmprof import phase
def one():
    with phase("x"):
        pass
print(min(timeit.repeat(one, number=20000, repeat=5)) / 20000 * 1e9)
"""


def rows() -> Iterator[tuple[str, str, str, bool | None]]:
    for state, reach_ns in (("not traced", 1_000), ("traced", 50_000)):
        out = subprocess.run(
            [sys.executable, "-c", PROGRAM, state], capture_output=True, text=True, check=True
        ).stdout
        cost_ns = float(out)
        within = cost_ns <= reach_ns
        yield f"one phase, {state}", f"{cost_ns:.0f} ns", f"≤ {reach_ns} ns", within
