"""A command that kills the recorder which records it, and goes on: ``python -m kernels.killer TO``.

Writes how many BPF programs there were before and after.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from cvmprof.profiler import record

from .loaded import left_of, programs

#: what it ends with
STATUS = 7


def main(to: Path) -> None:
    """Kills it, and says so."""
    session = os.getppid()
    children = Path(f"/proc/{session}/task/{session}/children").read_text().split()
    (recorder,) = (child for child in children if _records(child))
    attached = len(programs())
    os.kill(int(recorder), signal.SIGKILL)
    to.write_text(json.dumps({"attached": attached, "left": left_of(set())}))
    sys.exit(STATUS)


def _records(pid: str) -> bool:
    """Whether a process is a recorder; one that has ended has no command line."""
    return record.__name__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
