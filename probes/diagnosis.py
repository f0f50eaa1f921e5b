"""What can be observed on a kernel and how, what cannot, and what would help.

Pure: facts in, rows out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from . import catalog
from .catalog import LogicalEvent
from .compiler import Compiler
from .conditions import Lack
from .gpus import Gpus
from .kernel import KernelFacts, saved


@dataclass(frozen=True)
class Observed:
    """One logical event on one kernel.

    ``tells``: what the event shows. ``family`` is None if nothing observes it: then ``reason`` says
    why, ``lost`` what a run lacks without it, and each of ``ways_out`` would help.
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
    """What can be observed on a kernel, and all that is known about it.

    ``hindrances`` are reasons why nothing can be recorded now; ``events`` says what could be
    observed without them. ``backends``: why each is not supported, None if it is. ``bcc``: the one
    that is used for recording; ``gpus``: the machine's. None if nobody looked for them.
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
    gpus: Gpus | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def diagnose(
    facts: KernelFacts,
    backend: str = "auto",
    bcc: Compiler | None = None,
    gpus: Gpus | None = None,
) -> Diagnosis:
    """What a recording on this kernel would attach, beside what else the machine has for it."""
    able = replace(facts, conditions=facts.conditions.without_hindrances())
    return Diagnosis(
        release=facts.release,
        machine=facts.machine,
        hindrances=(*_hindrances(facts, able), *_lack_of_bcc(bcc)),
        events=(
            *(_observed(event, able, backend) for event in catalog.EVENTS),
            *(_derived(event, able) for event in catalog.DERIVED_EVENTS),
        ),
        backends={name: refusal(name, able) for name in catalog.BACKENDS},
        missing_members=catalog.missing_offsets(facts),
        kernel=saved(facts),
        conditions=asdict(facts.conditions),
        bcc=bcc,
        gpus=gpus,
    )


def refusal(backend: str, facts: KernelFacts) -> str | None:
    """Why this kernel does not support a backend: the event, and what is missing for it."""
    for event in catalog.EVENTS:
        chosen = catalog.resolve(event, facts, backend)
        needed = event.mandatory or catalog.is_forced(event, backend)
        if needed and isinstance(chosen, catalog.Unsupported):
            return f"{event.name}: {chosen.reason}"
    return None


def lost(event: str) -> str | None:
    """What a run lacks without an event, by its name; None if there is no such event."""
    known = catalog.BY_NAME.get(event)
    return None if known is None else known.without


def _hindrances(facts: KernelFacts, able: KernelFacts) -> tuple[Lack, ...]:
    lacks = list(facts.conditions.hindrances())
    if facts.untold is not None:  # then nothing else is known
        return (*lacks, facts.untold)
    members = catalog.lack_of_members(facts)
    if members is not None:
        lacks.append(members)
    for event in catalog.EVENTS:
        lacking = catalog.resolve(event, able)
        if event.mandatory and isinstance(lacking, catalog.Unsupported):
            lacks.append(Lack(f"{event.name}: {lacking.reason}", " or ".join(lacking.ways_out)))
    return tuple(lacks)


def _lack_of_bcc(bcc: Compiler | None) -> tuple[Lack, ...]:
    if bcc is None or bcc.refusal is None:
        return ()
    return (Lack(bcc.refusal, bcc.way_out or ""),)


def _observed(event: LogicalEvent, facts: KernelFacts, backend: str) -> Observed:
    chosen = catalog.resolve(event, facts, backend)
    if isinstance(chosen, catalog.Unsupported):
        return _unseen(event, chosen)
    targets = tuple(dict.fromkeys(point.target for point in chosen.points))
    return Observed(event.name, event.shows, chosen.points[0].family, targets)


def _derived(event: LogicalEvent, facts: KernelFacts) -> Observed:
    if event.system_calls_of:
        return Observed(event.name, event.shows, "system call", (event.system_calls_of,))
    lacking = catalog.lack_of_uprobes(event, facts)
    if lacking is not None:
        return _unseen(event, lacking)
    functions = f"{event.functions_of} functions"
    return Observed(event.name, event.shows, catalog.uprobe_family(facts), (functions,))


def _unseen(event: LogicalEvent, why: catalog.Unsupported) -> Observed:
    return Observed(event.name, event.shows, None, (), why.reason, event.without, why.ways_out)
