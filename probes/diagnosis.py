"""What can be observed on a kernel, by what, what is missing and how to get it.

Facts in, rows out: nothing is attached here, and no kernel is asked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from . import catalog
from .compiler import Compiler
from .conditions import Lack
from .kernel import KernelFacts, saved

#: what an event tells
_TELLS = {
    "system call": "opens, reads and the like",
    "page fault": "reads of mapped files",
    "page fault end": "how long those took",
    "page-cache insertion": "pages brought into memory",
    "fault-around": "pages mapped beside the one read",
    "request queued": "what the kernel asks of CVMFS",
    "request ended": "the answers",
    "asynchronous read": "reads by io_uring and AIO",
    "off CPU": "when a thread does not run",
    "wake": "whom it waited for",
    "interrupt": "wakes that no thread made",
    "task": "processes and threads",
    "operation": "file operations",
    "touch": "which parts of a file were read",
    "file": "names of files and mounts",
    "request served": "when CVMFS took a request",
    "download": "HTTP requests",
    "cache directory": "hits, misses, objects stored",
    "socket sample": "the network's round trips and losses have no rows",
    "daemon call": "what CVMFS did with a request",
}
_LOST = {
    "page fault": "page faults have no rows; what they waited for is told, but not by file",
    "page fault end": "page faults have no end",
    "page-cache insertion": "pages_inserted stays 0 in the table touches",
    "fault-around": "pages_mapped stays 0 in the table touches; nothing else needs it",
    "request queued": "FUSE requests have no rows, and reads no cause within the mount",
    "request ended": "FUSE requests have no rows, and reads no cause within the mount",
    "asynchronous read": "reads by io_uring and AIO have no rows; what they waited for is told, "
    "but not by file; all other reads are told",
    "interrupt": "a wake by an interrupt is taken for one by the task that it interrupted",
    "daemon call": "what CVMFS does with a request is told by its system calls alone",
    **{event.name: "nothing can be recorded" for event in catalog.EVENTS if event.mandatory},
}
_COMMANDS, _DAEMONS = "the command's", "the client's"
#: what is told by programs that are attached for something else: by whose system calls
_TOLD_BY = {
    "operation": _COMMANDS, "touch": _COMMANDS, "file": _COMMANDS, "request served": _DAEMONS,
    "download": _DAEMONS, "cache directory": _DAEMONS,
}  # fmt: skip


@dataclass(frozen=True)
class Observed:
    """One logical event on one kernel, and what it tells.

    ``family`` is None where nothing observes it; then ``reason`` says why not, ``lost`` what a run
    lacks, and ``ways_out`` how to get it: any one of them will do.
    """

    event: str
    tells: str
    family: str | None
    targets: tuple[str, ...]
    reason: str | None = None
    lost: str | None = None
    ways_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """What a kernel lets be seen, and all that is known of it.

    ``hindrances`` keep anything from being recorded here and now; the events are those that would
    be seen without them. ``backends`` has why one cannot be asked for, None where it can.
    ``bcc`` is the one to record with, None where it was not asked for.
    """

    release: str
    machine: str
    hindrances: tuple[Lack, ...]
    events: tuple[Observed, ...]
    backends: dict[str, str | None]
    missing_members: tuple[str, ...]
    kernel: dict[str, Any]
    conditions: dict[str, Any]
    bcc: Compiler | None = None

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self)


def diagnose(facts: KernelFacts, backend: str = "auto", bcc: Compiler | None = None) -> Diagnosis:
    """What a recording on this kernel would attach."""
    able = replace(facts, conditions=facts.conditions.without_hindrances())
    return Diagnosis(
        release=facts.release,
        machine=facts.machine,
        hindrances=(*_hindrances(facts, able), *_lack_of_bcc(bcc)),
        events=(
            *(_observed(event, able, backend) for event in catalog.EVENTS),
            *(_derived(name, able) for name in catalog.DERIVED_EVENTS),
        ),
        backends={name: refusal(name, able) for name in catalog.BACKENDS},
        missing_members=catalog.missing_offsets(facts),
        kernel=saved(facts),
        conditions=asdict(facts.conditions),
        bcc=bcc,
    )


def refusal(backend: str, facts: KernelFacts) -> str | None:
    """Why a backend cannot be asked for on this kernel: the event, and what it lacks."""
    for event in catalog.EVENTS:
        found = catalog.resolve(event, facts, backend)
        needed = event.mandatory or catalog.is_forced(event, backend)
        if needed and isinstance(found, catalog.Unsupported):
            return f"{event.name}: {found.reason}"
    return None


def lost(event: str) -> str | None:
    """What a run lacks where an event was not observed; None for one that is not of ours."""
    return _LOST.get(event)


def _hindrances(facts: KernelFacts, able: KernelFacts) -> tuple[Lack, ...]:
    found = list(facts.conditions.hindrances())
    if facts.untold is not None:  # then nothing else is known
        return (*found, facts.untold)
    members = catalog.lack_of_members(facts)
    if members is not None:
        found.append(members)
    for event in catalog.EVENTS:
        lacking = catalog.resolve(event, able)
        if event.mandatory and isinstance(lacking, catalog.Unsupported):
            found.append(Lack(f"{event.name}: {lacking.reason}", " or ".join(lacking.ways_out)))
    return tuple(found)


def _lack_of_bcc(bcc: Compiler | None) -> tuple[Lack, ...]:
    if bcc is None or bcc.refusal is None:
        return ()
    return (Lack(bcc.refusal, bcc.way_out or ""),)


def _observed(event: catalog.LogicalEvent, facts: KernelFacts, backend: str) -> Observed:
    found = catalog.resolve(event, facts, backend)
    if isinstance(found, catalog.Unsupported):
        return _unseen(event.name, found)
    targets = tuple(dict.fromkeys(point.target for point in found.points))
    return Observed(event.name, _TELLS[event.name], found.points[0].family, targets)


def _derived(name: str, facts: KernelFacts) -> Observed:
    if name in _TOLD_BY:
        return Observed(name, _TELLS[name], "system call", (_TOLD_BY[name],))
    lacking = catalog.lack_of_uprobes(facts)
    if lacking is not None:
        return _unseen(name, lacking)
    return Observed(name, _TELLS[name], catalog.uprobe_family(facts), ("its functions",))


def _unseen(name: str, why: catalog.Unsupported) -> Observed:
    return Observed(name, _TELLS[name], None, (), why.reason, lost(name), why.ways_out)
