"""A recorder as the session starts it, but for what a test changes: DESCRIPTOR CHANGES.

Changes are JSON: ``ring_pages`` by layout; ``perf_uprobes`` as on a kernel without uprobe_multi;
``system_calls`` observed "twice" as on a kernel that preempts their programs, or by the backups
alone ("again"), as if the programs before them were always missed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

from cvmprof.probes import catalog, events
from cvmprof.probes.kernel import KernelFacts, running_kernel
from cvmprof.profiler.record import recorder
from cvmprof.profiler.record.__main__ import main

DESCRIPTOR, CHANGES = int(sys.argv[1]), json.loads(sys.argv[2])
PAGES: dict[str, int] = CHANGES.get("ring_pages", {})


def older_kernel() -> KernelFacts:
    """The running kernel, less what v6.6 added."""
    facts = running_kernel()
    left = {name: value for name, value in facts.enumerators.items() if name != "UPROBE_MULTI_TYPE"}
    return replace(facts, enumerators=left)


def preempting_kernel() -> KernelFacts:
    """The running kernel, as if it preempted the programs of system calls."""
    return replace(running_kernel(), preemptible_tracepoints=True)


def only_the_backup(point: catalog.AttachPoint) -> tuple[catalog.AttachPoint, ...]:
    """Of the programs on system calls only the backups."""
    if point.target in ("sys_enter", "sys_exit"):
        return (replace(point, program=point.program + catalog.BACKUP),)
    return (point,)


events.RINGS = tuple(
    replace(layout, ring_pages=PAGES.get(layout.name, layout.ring_pages)) for layout in events.RINGS
)
changed: Any = recorder
if CHANGES.get("perf_uprobes"):
    changed.running_kernel = older_kernel
if CHANGES.get("system_calls"):
    changed.running_kernel = preempting_kernel
if CHANGES.get("system_calls") == "again":
    changed = catalog
    changed._with_backup = only_the_backup
main(DESCRIPTOR)
