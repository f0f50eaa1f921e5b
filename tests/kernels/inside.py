"""What runs in a guest: the lab, and one recording of the workload for each backend asked for.

Leaves the facts of the kernel and, for each backend, the spool of its run or the error that refused
it. Nothing is decided here: the tables are made and checked outside.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import time
from pathlib import Path

from cvmprof.errors import CvmprofError
from cvmprof.probes import kernel
from cvmprof.profiler import session
from cvmprof.profiler.attributes import collect
from cvmprof.runners.lab.cold import cold
from cvmprof.runners.lab.lab import Lab, accesses, mount, serve, stop
from cvmprof.runners.lab.mounting import MountOptions

_BPF, _PROG_GET_NEXT_ID = 321, 11
_WORKLOAD = Path(__file__).with_name("workload.py")


def main(published: Path, backends: list[str]) -> None:
    """Records with each backend."""
    session.READY_TIMEOUT_S = 300.0
    shared = Path(os.environ["SHARED"])
    facts = json.dumps(kernel.saved(kernel.running_kernel()), indent=1, sort_keys=True)
    (shared / "facts.json").write_text(facts + "\n")
    shutil.copytree(published, "/run/lab", dirs_exist_ok=True)
    lab = Lab(Path("/run/lab"))
    serve(lab)
    mountpoint = mount(lab, options=MountOptions(client="lab"))
    try:
        for backend in backends:
            _record(lab, mountpoint, backend, shared / backend)
    finally:
        stop(lab, force=True)


def _record(lab: Lab, mountpoint: Path, backend: str, to: Path) -> None:
    to.mkdir()
    cold([mountpoint])
    before, served, began = _programs(), len(accesses(lab)), time.monotonic()
    command = ["/usr/bin/python3", "-I", str(_WORKLOAD), str(mountpoint)]
    run = Path(f"/run/{backend}.cvmprof")
    options = session.TraceOptions(run, backend=backend)
    result: dict[str, object] = {"backend": backend}
    try:
        recorded = session.record(command, options, "0")
        collect(run)
        shutil.copytree(run, to / "run.cvmprof")
        result["status"] = recorded.status
        result["losses"] = list(recorded.losses)
        result["trouble"] = recorded.trouble.fact if recorded.trouble else None
    except CvmprofError as error:
        result["refused"] = error.fact
    result["served"] = [each.path for each in accesses(lab)[served:]]
    result["programs_left"] = _programs_after(before)
    result["took_s"] = round(time.monotonic() - began, 1)
    (to / "result.json").write_text(json.dumps(result, indent=1))


def _programs_after(before: set[int]) -> int:
    """Programs of BPF that are still there when the recorder has had its time to end."""
    deadline = time.monotonic() + 60
    while (left := len(_programs() - before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _programs() -> set[int]:
    """Identifiers of all BPF programs in the kernel."""
    libc, found = ctypes.CDLL(None, use_errno=True), set[int]()
    attributes = (ctypes.c_uint32 * 32)()
    while libc.syscall(_BPF, _PROG_GET_NEXT_ID, attributes, ctypes.sizeof(attributes)) == 0:
        attributes[0] = attributes[1]
        found.add(int(attributes[1]))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
