"""How often backup programs stood in for others, on this kernel as if it preempted them, with
``both`` attached or the ``second`` alone: DIRECTORY MODE. Records in this process.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cvmprof.probes import catalog
from cvmprof.probes.catalog import BACKUP, AttachPoint
from cvmprof.probes.kernel import KernelFacts, running_kernel
from cvmprof.profiler.record import recorder
from cvmprof.profiler.record.names import JOURNAL
from cvmprof.tests.profiler.record.in_process import recorder_in

_PAGES = 1000


def main(directory: Path, mode: str) -> None:
    """Prints what was counted."""
    changed: Any = recorder
    changed.running_kernel = _preempting
    if mode == "second":
        changed = catalog
        changed._with_backup = _only_the_backup
    recording = recorder_in(directory, {"all_files": True})
    recording.trace(os.getpid())
    (directory / "written").write_bytes(bytes(_PAGES * 4096))
    losses = recording.stop(was_asked=True)["losses"]
    told = (json.loads(line) for line in (directory / JOURNAL).read_text().splitlines())
    hits = next(note["rows"] for note in told if note["kind"] == "hits")
    print(
        json.dumps(
            {
                "stood_in": recording._state.stood_in()["on_page_cache_insertion"],
                "losses": losses,
                "hits": next(row["hits"] for row in hits if row["event"] == "page-cache insertion"),
            }
        )
    )
    sys.stdout.flush()
    os._exit(0)  # as the recorder does: the kernel takes off what was attached


def _preempting() -> KernelFacts:
    return replace(running_kernel(), preemptible_tracepoints=True)


def _only_the_backup(point: AttachPoint) -> tuple[AttachPoint, ...]:
    return (replace(point, program=point.program + BACKUP),)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
