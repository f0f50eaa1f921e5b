"""What can be observed on a kernel, by what, what is missing and how to get it.

Facts in, rows out: nothing is attached here, and no kernel is asked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..probes import catalog
from ..probes.kernel import KernelFacts

_LOST = {
    "page fault": "page faults have no rows; what they waited for shows as blocked or unknown",
    "page fault end": "page faults have no end",
    "page-cache insertion": "pages_inserted stays 0 in the table touches",
    "fault-around": "pages_mapped stays 0 in the table touches; nothing else needs it",
    "request queued": "FUSE requests have no rows, and reads no cause within the mount",
    "request ended": "FUSE requests have no rows, and reads no cause within the mount",
    "interrupt": "a wake by an interrupt is taken for one by the task that it interrupted",
}
_WAYS = {
    "fault-around": "a newer kernel: 6.12 has the tracepoint mm_filemap_map_pages",
}
_ANY_WAY = "a kernel built with CONFIG_KPROBES, or a newer one: 6.12 has the tracepoints"
_REPORT = "please report this kernel to the cvmprof project"
_SYSCALLS = "system call"


@dataclass(frozen=True)
class Observed:
    """One logical event on one kernel.

    ``family`` is None where nothing observes it; then ``reason`` says why not, ``lost`` what a run
    lacks, and ``way_out`` how to get it.
    """

    event: str
    family: str | None
    targets: tuple[str, ...]
    reason: str | None
    lost: str | None
    way_out: str | None


@dataclass(frozen=True)
class Diagnosis:
    """What a kernel lets be seen, and the struct members that it lacks."""

    release: str
    machine: str
    backends: dict[str, str | None]
    events: tuple[Observed, ...]
    missing_members: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self)


def diagnose(facts: KernelFacts, backend: str = "auto") -> Diagnosis:
    """What a recording on this kernel would attach."""
    uprobes = catalog.uprobe_family(facts)
    derived = {"daemon call": (uprobes, "the client's functions")}
    return Diagnosis(
        facts.release,
        facts.machine,
        {name: refusal(name, facts) for name in catalog.BACKENDS},
        (
            *(_observed(event, facts, backend) for event in catalog.EVENTS),
            *(_derived(name, *derived.get(name, (_SYSCALLS, "of the daemon")))
              for name in catalog.DERIVED_EVENTS),
        ),
        catalog.missing_offsets(facts),
    )  # fmt: skip


def refusal(backend: str, facts: KernelFacts) -> str | None:
    """Why a backend cannot be asked for on this kernel: the event, and what it lacks."""
    for event in catalog.EVENTS:
        found = catalog.resolve(event, facts, backend)
        needed = event.mandatory or catalog.is_forced(event, backend)
        if needed and isinstance(found, catalog.Unsupported):
            return f"{event.name}: {found.reason}"
    return None


def _observed(event: catalog.LogicalEvent, facts: KernelFacts, backend: str) -> Observed:
    found = catalog.resolve(event, facts, backend)
    if isinstance(found, catalog.Unsupported):
        way_out = _WAYS.get(event.name, _REPORT if event.mandatory else _ANY_WAY)
        return Observed(event.name, None, (), found.reason, _LOST.get(event.name), way_out)
    targets = tuple(point.target for point in found.points)
    return Observed(event.name, found.points[0].family, targets, None, None, None)


def _derived(name: str, family: str, what: str) -> Observed:
    return Observed(name, family, (what,), None, None, None)
