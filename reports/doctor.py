"""The diagnosis of a kernel as text for a terminal."""

from __future__ import annotations

from ..profiler.diagnosis import Diagnosis, Observed

_FAMILIES = {
    "raw_tracepoint": "tracepoints", "perf_software": "software events", "uprobe": "uprobes",
    "uprobe_multi": "uprobes, one link", "fentry": "fentry", "kprobe": "kprobe",
    "system call": "system calls",
}  # fmt: skip


def render_doctor(diagnosis: Diagnosis) -> str:
    """The kernel, each event with what observes it, and of what is missing the way to get it."""
    lines = [f"kernel {diagnosis.release}, {diagnosis.machine}", ""]
    for observed in diagnosis.events:
        lines += _event(observed)
    lines += ["", "backends, by these facts (a kernel may still refuse one when it is attached)"]
    for name, refused in diagnosis.backends.items():
        lines.append(f"  {name:<22}{f'no: {refused}' if refused else 'yes'}")
    if diagnosis.missing_members:
        lines += ["", f"missing struct members: {', '.join(diagnosis.missing_members)}"]
    return "\n".join(lines) + "\n"


def _event(observed: Observed) -> list[str]:
    if observed.family is not None:
        targets = ", ".join(observed.targets)
        return [f"  {observed.event:<22}{_FAMILIES[observed.family]}: {targets}"]
    return [
        f"  {observed.event:<22}NOT OBSERVED: {observed.reason}",
        f"  {'':<22}so {observed.lost}",
        f"  {'':<22}to get it: {observed.way_out}",
    ]
