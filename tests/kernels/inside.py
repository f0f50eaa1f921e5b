"""What runs in a guest: the lab, and one recording of the workload by each backend.

Leaves the facts of the kernel and, for each backend, the spool of its run, the reason why it is
refused, or the backend that attaches the very same; where programs are preempted, what is recorded
of reads without those on system calls; what is recorded of a client of many threads, and of a
stand-in of the CUDA driver. At last a recorder is killed. Nothing is decided here: the tables are
made and checked outside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cvmprof.errors import CvmprofError
from cvmprof.probes import catalog, kernel
from cvmprof.probes.diagnosis import refusal
from cvmprof.profiler.record.attach import check_backend
from cvmprof.profiler.session.launch import interpreter
from cvmprof.profiler.session.session import Recorded, TraceOptions, record
from cvmprof.runners.lab.cold import cold
from cvmprof.runners.lab.lab import Lab, accesses

from .inside_lab import mounted
from .loaded import left_of, programs
from .skipped import POINTS

_WORKLOAD = Path(__file__).with_name("workload.py")


def main(published: Path, stand_ins: Path, daemon: Path) -> None:
    """Records with each backend."""
    shared = Path(os.environ["SHARED"])
    facts = kernel.diagnosed_kernel()
    text = json.dumps(kernel.saved(facts), indent=1, sort_keys=True)
    (shared / "facts.json").write_text(text + "\n")
    with mounted(published) as (lab, mountpoint):
        for backend in catalog.BACKENDS:
            (shared / backend).mkdir()
            result = _told(facts, backend) or _record(lab, mountpoint, backend, shared / backend)
            _keep(shared / backend / "result.json", {"backend": backend, **result})
        if facts.preemptible_tracepoints:
            for point in POINTS:
                _run_module("skipped", mountpoint / "read.bin", shared / point, point)
        _run_module("preempted", daemon / "cvmfs2", shared / "preempted")
        _run_module(
            "driver_calls", stand_ins / "libraries", stand_ins / "program", shared / "driver"
        )
        _keep(shared / "killed.json", _kill_a_recorder(facts, shared / "killer.json"))


def _run_module(name: str, *arguments: object) -> None:
    """Run a module of this package by the recorder's interpreter."""
    command = [interpreter(), "-m", f"{__package__}.{name}", *map(str, arguments)]
    subprocess.run(command, check=True)


def _told(facts: kernel.KernelFacts, backend: str) -> dict[str, Any] | None:
    """What the facts already say: that a backend is refused, or that it attaches as another."""
    try:
        check_backend(facts, backend)
    except CvmprofError as error:
        return {"refused": error.fact}
    others = (each for each in catalog.BACKENDS if not refusal(each, facts))
    same = [each for each in others if _points(facts, each) == _points(facts, backend)]
    return {"same_as": same[-1]} if same[-1] != backend else None


def _points(facts: kernel.KernelFacts, backend: str) -> list[object]:
    return [catalog.resolve(event, facts, backend) for event in catalog.EVENTS]


def _record(lab: Lab, mountpoint: Path, backend: str, to: Path) -> dict[str, Any]:
    cold([mountpoint])
    before, served, began = programs(), len(accesses(lab)), time.monotonic()
    run = Path(f"/run/{backend}.cvmprof")
    command = ["/usr/bin/python3", "-I", str(_WORKLOAD), str(mountpoint)]
    recorded = _recorded(command, run, backend)
    shutil.copytree(run, to / "run.cvmprof")
    return {
        "status": recorded.status,
        "losses": list(recorded.losses),
        "trouble": recorded.trouble.fact if recorded.trouble else None,
        "served": [each.path for each in accesses(lab)[served:]],
        "programs_left": left_of(before),
        "took_s": round(time.monotonic() - began, 1),
    }


def _recorded(command: list[str], run: Path, backend: str) -> Recorded:
    """Leaves out what makes tables, outside: importing it here takes longer than all the rest."""
    options = TraceOptions(run, backend=backend, mount_counters=False, ready_timeout_s=600.0)
    return record(command, options, "0", preload=lambda: None)


def _kill_a_recorder(facts: kernel.KernelFacts, to: Path) -> dict[str, Any]:
    """What a command saw that killed its recorder, and how the session took it."""
    backend = "auto" if refusal("fentry", facts) else "fentry"
    command = [sys.executable, "-m", f"{__package__}.killer", str(to)]
    recorded = _recorded(command, Path("/run/killed.cvmprof"), backend)
    return {
        "backend": backend,
        **json.loads(to.read_text()),
        "status": os.waitstatus_to_exitcode(recorded.status),
        "trouble": recorded.trouble.fact if recorded.trouble else None,
    }


def _keep(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1))


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except CvmprofError as error:
        sys.exit(f"{error.fact}; {error.help_text}")
