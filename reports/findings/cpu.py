"""Who could run and had no CPU: the client, or the command; who had it, and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from ..escape import visible
from ..material import WHOLE_COMMAND
from ..numbers.cpu import Cpu, Had, Holder, Lack, Quota, Whose
from ..numbers.statistics import Statistics
from ..words import capital, duration, percent, plural
from .finding import WORTH, Finding

#: what had the CPU for a smaller share of the lack is not worth advice
_LEAST_ADVISED = 0.2
#: share of the time in which the command's threads wanted a CPU, and had none, above which there
#: are too many of them
_TOO_MANY = 0.4
#: what had the CPU that is named
_NAMED = 3
_NAMELESS = "a program whose name is not known"
#: share of a lack that is left without a word
_LEAST_LEFT = 0.005
_OURS = {
    "quota": "a quota of its cgroup",
    "command": "the command's own threads",
    "client": "the client's threads",
}


def client_lacked_cpu(s: Statistics) -> Iterator[Finding]:
    """Say how long the command waited for a client that had no CPU, and why it had none."""
    lack = worst_lack(s, "client")
    if lack is not None:
        whose = "the command" if lack.subject == WHOLE_COMMAND else f"“{lack.subject}”"
        headline = f"{capital(whose)} waited for the client, which had no CPU, for {_of(lack)}."
        yield _finding(s.cpu, lack, headline, f"{capital(_divided(lack, lack.threads))}. ")


def command_lacked_cpu(s: Statistics) -> Iterator[Finding]:
    """Say how long the command itself had no CPU, and why; or that it has too many threads."""
    lack = worst_lack(s, "command")
    if lack is not None:
        whose = "The command" if lack.subject == WHOLE_COMMAND else f"“{lack.subject}”"
        headline = f"{whose} could run and had no CPU for {_of(lack)}."
        yield _finding(s.cpu, lack, headline, "")
        return
    wanted_ns = s.cpu.ran_ns + s.cpu.lacked_ns
    many = s.cpu.wanting > (s.cpu.usable or s.cpu.wanting)
    if many and s.cpu.lacked_ns > max(_TOO_MANY * wanted_ns, WORTH * s.command_time.wall_ns):
        lacked = f"{duration(s.cpu.lacked_ns)} ({percent(s.cpu.lacked_ns / wanted_ns)})"
        headline = (
            f"The command's threads wanted a CPU for {duration(wanted_ns)}, summed over them, and "
            f"had none for {lacked} of it."
        )
        yield Finding("note", headline, _too_many(s.cpu))


def worst_lack(s: Statistics, whose: Whose) -> Lack | None:
    """Return the lack of the whole command, else of the phase that lacked most.

    None where it is not worth a sentence.
    """
    found = [
        lack
        for lack in s.cpu.lacks
        if lack.whose == whose and lack.held_ns >= WORTH * max(lack.of_ns, 1)
    ]
    of_command = (lack for lack in found if lack.subject == WHOLE_COMMAND)
    return next(of_command, next(iter(found), None))


def _of(lack: Lack) -> str:
    of_it = f"{duration(lack.ns)} of its {duration(lack.of_ns)} ({percent(lack.share)})"
    if lack.replied_ns < _LEAST_LEFT * lack.ns:
        return of_it
    return f"{of_it}, {duration(lack.replied_ns)} of it with its answer there (`reply`)"


def _finding(cpu: Cpu, lack: Lack, headline: str, spent: str) -> Finding:
    behind = f"{spent}It waited behind: {_before(lack)}."
    return Finding("advice", headline, " ".join([behind, *_advice(cpu, lack)]), lack.ns)


def _before(lack: Lack) -> str:
    """What had the CPU: the parts of the lack."""
    named = {_name(holder): holder.ns for holder in lack.holders[:_NAMED]}
    rest = sum(holder.ns for holder in lack.holders[_NAMED:])
    return _divided(lack, {**named, "others": rest} if rest else named)


def _divided(lack: Lack, parts: dict[str, int]) -> str:
    """The parts of a lack and what they leave of it, unless that is next to nothing."""
    named = [f"{name} {duration(ns)}" for name, ns in parts.items()]
    left = lack.ns - sum(parts.values())
    return ", ".join(
        [*named, f"not known {duration(left)}"] if left >= _LEAST_LEFT * lack.ns else named
    )


def _name(holder: Holder) -> str:
    """A neighbour is said to be one: its name may well be that of the command's own program."""
    if holder.kind != "neighbour":
        return _OURS[holder.kind]
    users = " and ".join(map(visible, holder.users))
    of_users = f" of user{'s' * (len(holder.users) > 1)} {users}" if users else ""
    many = f"{holder.processes:,} other processes"
    which = many if holder.processes > 1 else f"another process, pid {holder.pid}"
    return f"{visible(holder.name or _NAMELESS)} ({which}{of_users})"


def _advice(cpu: Cpu, lack: Lack) -> Iterator[str]:
    """What would help, where it is worth it, the most helpful first."""
    kinds: set[Had] = {holder.kind for holder in lack.holders}
    for kind in sorted(kinds, key=lambda kind: (-lack.held_by(kind), kind)):
        ns = lack.held_by(kind)
        if ns < _LEAST_ADVISED * lack.ns:
            continue
        shorter = f"would shorten up to {duration(ns)} of it"
        match kind:
            case "quota":
                yield f"{_quota(cpu, lack)} A higher quota {shorter}."
            case "neighbour":
                yield f"Other programs elsewhere, or more CPUs{_has(cpu, lack)}, {shorter}."
            case "command":
                yield f"{_too_many(cpu)} Fewer that compute at once {shorter}."
            case "client":
                yield f"More CPUs{_has(cpu, lack)} {shorter}."


def _quota(cpu: Cpu, lack: Lack) -> str:
    """Say which quota it was, and how often it was used up."""
    used_up = [each for each in cpu.quotas if each.whose == lack.whose and each.throttled_periods]
    if not used_up:
        return "The cgroup with the quota cannot be seen from here."
    return " ".join(map(_throttled, used_up[:1]))


def _throttled(quota: Quota) -> str:
    times = f"{quota.throttled_periods:,} of {plural(quota.periods, 'period')}"
    return (
        f"The cgroup {visible(quota.path)} may use {quota.cpus:g} of a CPU (cpu.max, or "
        f"cpu.cfs_quota_us): it had used that up in {times}, and was kept waiting for "
        f"{duration(quota.throttled_ns)}, summed over the CPUs."
    )


def _too_many(cpu: Cpu) -> str:
    return f"Up to {cpu.wanting:,} of the command's threads wanted a CPU at once{_there_are(cpu)}."


def _there_are(cpu: Cpu) -> str:
    if cpu.is_bound:
        return f"; its affinity or cpuset allows {cpu.allowed:,} of {cpu.cpus:,}"
    return "" if cpu.cpus is None else f"; there {'is' if cpu.cpus == 1 else 'are'} {cpu.cpus:,}"


def _has(cpu: Cpu, lack: Lack) -> str:
    if cpu.is_bound and lack.whose == "command":
        return f" than the {cpu.allowed:,} of {cpu.cpus:,} that its affinity or cpuset allows"
    return "" if cpu.cpus is None else f" than {cpu.cpus:,}"
