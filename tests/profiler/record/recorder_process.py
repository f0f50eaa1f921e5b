"""A recorder as the session starts it, but for what a test changes: DESCRIPTOR CHANGES.

Changes are JSON: ``ring_pages`` by layout, ``perf_uprobes`` as on a kernel without uprobe_multi.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

from cvmprof.probes import events
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


events.RINGS = tuple(
    replace(layout, ring_pages=PAGES.get(layout.name, layout.ring_pages)) for layout in events.RINGS
)
if CHANGES.get("perf_uprobes"):
    changed: Any = recorder
    changed.running_kernel = older_kernel
main(DESCRIPTOR)
