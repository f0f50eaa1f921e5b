"""What each backend costs in the kernel, counted in instructions: ``make bench-kernels``.

A page fault on a cold page of a mounted file, whose chunk the daemon has, in a guest with one CPU
whose clock counts instructions; no client function is probed. In tests/: ``python -m kernels.cost
[KERNEL]``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cvmprof.probes import catalog
from cvmprof.probes.diagnosis import refusal
from cvmprof.probes.kernel import restored, running_kernel, saved
from cvmprof.profiler.session.launch import interpreter
from cvmprof.runners.lab.build import client_program

from .cost_inside import LOOPS, NOTHING
from .guest import run_in_guest
from .images import CACHE, image_of
from .inside_lab import mounted
from .matrix import KERNELS
from .publishing import published
from .stage import stage

#: one CPU, and one nanosecond of its clock for each instruction
COUNTING = ("--qemu-opts=-icount shift=0",)


def main(name: str) -> int:
    """Boots a kernel, measures every backend that it has, and prints the table."""
    image = image_of(next(kernel for kernel in KERNELS if kernel.name == name))
    where = Path(tempfile.mkdtemp(prefix="cost-", dir=CACHE))
    client_program()
    command = [
        "env",
        f"PYTHONPATH={stage(where / 'stage')}",
        sys.executable,
        "-m",
        "kernels.cost",
        "--inside",
        str(published(where / "lab")),
    ]
    ended = run_in_guest(image, command, where / "guest", COUNTING)
    if ended.status != 0:
        print(f"the guest failed with {ended.status}: see {where}")
        return 1
    measured = json.loads((ended.shared / "cost.json").read_text())
    facts = restored(json.loads((ended.shared / "facts.json").read_text()))
    print(f"{image.release}: instructions of a page fault that waits for a FUSE request")
    for line in _lines(measured, {each: refusal(each, facts) for each in catalog.BACKENDS}):
        print(line)
    shutil.rmtree(where)
    return 0


def _lines(measured: dict[str, dict[str, int]], refused: dict[str, str | None]) -> list[str]:
    bare = measured[NOTHING]["fault"]
    lines = [f"{'':12}{'median':>10}{'more':>10}{'ratio':>8}{'faults':>8}"]
    for backend, each in measured.items():
        fault = each["fault"]
        lines.append(
            f"{backend:12}{fault:>10.0f}{fault - bare:>10.0f}{fault / bare:>8.3f}{each['count']:>8}"
        )
    lines += [f"{name:12}cannot: {reason}" for name, reason in refused.items() if reason]
    clock = measured[NOTHING]["loop"] / (2 * LOOPS)
    return [*lines, f"a loop of {2 * LOOPS:,} instructions took {clock:.3f} ns for each"]


def inside(repository: Path) -> None:
    """In the guest: measures each backend in a process of its own."""
    shared, facts = Path(os.environ["SHARED"]), running_kernel()
    (shared / "facts.json").write_text(json.dumps(saved(facts)))
    backends = [name for name in catalog.BACKENDS if name != "auto" and not refusal(name, facts)]
    measured = dict[str, object]()
    with mounted(repository) as (_, mountpoint):
        for backend in (NOTHING, *backends):
            file = str(mountpoint / "mapped.bin")
            command = [interpreter(), "-m", "kernels.cost_inside", file, backend]
            measured[backend] = json.loads(subprocess.check_output(command))
    (shared / "cost.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]))
    else:
        sys.exit(main(*(sys.argv[1:] or ["6.12"])))
