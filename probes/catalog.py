"""What is observed and by which attach points, in order of preference.

A `LogicalEvent` is something that happens to the system; its alternatives are the ways to see it.
Resolving an event against a kernel's facts is pure: it gives the alternative to attach, or the
reason why none can be. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from .conditions import Lack
from .kernel import (
    DEVICE_OFFSETS,
    OFFSETS,
    OPTIONAL_OFFSETS,
    KernelFacts,
)

RAW_TRACEPOINT = "raw_tracepoint"
FENTRY, FEXIT = "fentry", "fexit"
KPROBE, KRETPROBE = "kprobe", "kretprobe"
SOFTWARE_EVENT = "perf_software"
UPROBE = "uprobe"
#: all functions of a library through one link; taking it off waits once, not once for each
UPROBE_MULTI = "uprobe_multi"

#: ends the name of a program that does, behind the one it is named after, what that one missed: on
#: a kernel that preempts programs, whoever comes to one on the same CPU meanwhile does not run it
AGAIN = "_again"

#: what may be asked for by name, and the families that it stands for
BACKENDS = {
    "auto": (),
    "fentry": (FENTRY, FEXIT),
    "kprobe": (KPROBE, KRETPROBE),
    "tracepoint": (RAW_TRACEPOINT,),
}

#: linux/perf_event.h: PERF_COUNT_SW_PAGE_FAULTS_MIN, _MAJ
SOFTWARE_EVENTS = {"page-faults-minor": 5, "page-faults-major": 6}


@dataclass(frozen=True)
class AttachPoint:
    """One place in the kernel and the program that runs there."""

    family: str
    target: str
    program: str


@dataclass(frozen=True)
class LogicalEvent:
    """Something that is observed. ``alternatives`` are sets of attach points, the cheapest first;
    ``mandatory`` ones are those without which a recording would say nothing.
    """

    name: str
    alternatives: tuple[tuple[AttachPoint, ...], ...]
    mandatory: bool = False


@dataclass(frozen=True)
class Attachment:
    """The alternative that a kernel can serve."""

    event: str
    points: tuple[AttachPoint, ...]


@dataclass(frozen=True)
class Unsupported:
    """No alternative can be served; why, and the ways to get it, the one for the best first."""

    event: str
    reason: str
    ways_out: tuple[str, ...] = ()


def _raw(target: str, program: str) -> AttachPoint:
    return AttachPoint(RAW_TRACEPOINT, target, program)


def _function(family: str, target: str, program: str) -> tuple[AttachPoint, ...]:
    return (AttachPoint(family, target, program),)


def _read(entry: str, end: str) -> tuple[AttachPoint, ...]:
    target, program = "fuse_file_read_iter", "on_asynchronous_read"
    return (
        AttachPoint(end, target, f"{program}_{end}"),  # first: an entry seen alone would stay open
        AttachPoint(entry, target, f"{program}_{entry}"),
    )


def _queued(family: str) -> tuple[tuple[AttachPoint, ...], ...]:
    program = f"on_request_queued_{family}"
    return tuple(_function(family, target, program) for target in QUEUEING_FUNCTIONS)


#: where a request enters the queue of /dev/fuse; the first is called through a pointer only, the
#: second is from before commit 5de8acb41c86 ("fuse: cleanup request queuing towards virtiofs")
#: (in v6.12)
QUEUEING_FUNCTIONS = ("fuse_dev_queue_req", "queue_request_and_unlock")
#: the function whose argument the programs read, by the name that their macro has
ARGUMENT_FUNCTIONS = {
    "QUEUED": QUEUEING_FUNCTIONS,
    "ENDED": ("fuse_request_end",),
    "FAULT": ("filemap_fault",),
    "READ": ("fuse_file_read_iter",),
}


def _with_seconds(
    points: tuple[AttachPoint, ...], where: Callable[[AttachPoint], bool]
) -> tuple[AttachPoint, ...]:
    """With a second program behind some of them."""
    doubled = (_doubled(point) if where(point) else (point,) for point in points)
    return tuple(each for pair in doubled for each in pair)


def _doubled(point: AttachPoint) -> tuple[AttachPoint, ...]:
    """A point and the one behind it, in the order of attaching."""
    again = replace(point, program=point.program + AGAIN)
    # a trampoline calls first what was attached last
    return (again, point) if point.family in (FENTRY, FEXIT) else (point, again)


def preempts(facts: KernelFacts) -> bool:
    """Whether a kernel may preempt a task within it, and so within programs."""
    return facts.preemption not in ("none", "voluntary")


def _is_preempted(facts: KernelFacts, point: AttachPoint) -> bool:
    """Whether a task may be preempted in a point's program, so that others miss it."""
    if point.family in (FENTRY, FEXIT):
        return preempts(facts)
    return facts.preemptible_tracepoints and _may_be_doubled(point)


def _may_miss(facts: KernelFacts, points: tuple[AttachPoint, ...]) -> bool:
    """Whether hits may be skipped, where even tracepoints are preempted: kprobes are not, but one
    for a return has few instances.
    """
    each = (_is_preempted(facts, point) or point.family == KRETPROBE for point in points)
    return facts.preemptible_tracepoints and any(each)


def _may_be_doubled(point: AttachPoint) -> bool:
    if point.family == RAW_TRACEPOINT:
        return point.target in _PREEMPTIBLE
    return point.family in (FENTRY, FEXIT)


#: tracepoints outside of interrupts and of what must not be preempted anyway
_PREEMPTIBLE = frozenset((
    "sys_enter", "sys_exit", "mm_filemap_fault", "mm_filemap_add_to_page_cache",
    "mm_filemap_map_pages", "fuse_request_send", "fuse_request_end", "task_newtask",
    "sched_process_exit",
))  # fmt: skip


def _interrupt_points() -> tuple[AttachPoint, ...]:
    pairs = (
        ("softirq", "softirq"),
        ("irq_handler", "irq_handler"),
        ("local_timer", "local_timer"),
        ("call_function", "call_function"),
        ("call_function_single", "call_function"),
    )
    # the exits first: an entry seen alone would leave its CPU marked for ever
    return tuple(
        _raw(f"{target}_{edge}", f"on_{program}_{edge}")
        for edge in ("exit", "entry")
        for target, program in pairs
    )


#: in the order of the counters EVENT_*; attached in the order of ATTACH_ORDER
EVENTS = (
    LogicalEvent(
        "system call",
        ((_raw("sys_exit", "on_syscall_exit"), _raw("sys_enter", "on_syscall_entry")),),
        mandatory=True,
    ),
    LogicalEvent(
        "page fault",
        (
            (_raw("mm_filemap_fault", "on_filemap_fault_entry"),),
            _function(FENTRY, "filemap_fault", "on_filemap_fault_fentry"),
            _function(KPROBE, "filemap_fault", "on_filemap_fault_kprobe"),
        ),
    ),
    LogicalEvent(
        "page fault end",
        (
            # no kretprobe: it can be missed, where more faults wait than it has instances
            (
                AttachPoint(SOFTWARE_EVENT, "page-faults-minor", "on_page_fault_minor"),
                AttachPoint(SOFTWARE_EVENT, "page-faults-major", "on_page_fault_major"),
                _raw("signal_generate", "on_signal_generate"),
                _raw("signal_deliver", "on_signal_deliver"),
            ),
        ),
    ),
    LogicalEvent(
        "page-cache insertion",
        ((_raw("mm_filemap_add_to_page_cache", "on_page_cache_insertion"),),),
    ),
    LogicalEvent("fault-around", ((_raw("mm_filemap_map_pages", "on_fault_around"),),)),
    LogicalEvent(
        "request queued",
        (
            (_raw("fuse_request_send", "on_request_queued"),),
            *_queued(FENTRY),
            *_queued(KPROBE),
        ),
    ),
    LogicalEvent(
        "request ended",
        (
            (_raw("fuse_request_end", "on_request_ended"),),
            _function(FENTRY, "fuse_request_end", "on_request_ended_fentry"),
            _function(KPROBE, "fuse_request_end", "on_request_ended_kprobe"),
        ),
    ),
    # every other read is a system call, which tells all of it; this one costs each of them a look
    LogicalEvent("asynchronous read", (_read(FENTRY, FEXIT), _read(KPROBE, KRETPROBE))),
    LogicalEvent("off CPU", ((_raw("sched_switch", "on_switch"),),), mandatory=True),
    LogicalEvent("wake", ((_raw("sched_waking", "on_waking"),),), mandatory=True),
    LogicalEvent(
        "interrupt", (_interrupt_points(), _interrupt_points()[:2] + _interrupt_points()[5:7])
    ),
    LogicalEvent(
        "task",
        (
            (
                _raw("sched_process_free", "on_free"),
                _raw("sched_process_exit", "on_exit"),
                _raw("sched_process_exec", "on_exec"),
                # not sched_process_fork: the kernel's own threads within a process have none
                _raw("task_newtask", "on_fork"),
            ),
        ),
        mandatory=True,
    ),
)
#: observed by programs attached elsewhere: by the daemon's system calls, or by uprobes per library
DERIVED_EVENTS = (
    "operation", "touch", "file", "request served", "download", "cache directory", "daemon call",
)  # fmt: skip
EVENT_NAMES = tuple(event.name for event in EVENTS) + DERIVED_EVENTS


def lack_of_uprobes(facts: KernelFacts) -> Unsupported | None:
    """Why daemon functions cannot be probed on a kernel, if they cannot."""
    if facts.uprobes:
        return None
    way_out = "boot a kernel built with CONFIG_UPROBE_EVENTS"
    return Unsupported("daemon call", "this kernel is built without uprobes", (way_out,))


def uprobe_family(facts: KernelFacts) -> str:
    """How daemon functions are probed on a kernel."""
    return UPROBE_MULTI if "UPROBE_MULTI_TYPE" in facts.enumerators else UPROBE


@dataclass(frozen=True)
class DaemonFunction:
    """A function of the client to probe: its qualified C++ name, and the programs' name for it."""

    qualified_name: str
    function: str
    #: whether a client may do without it
    optional: bool = False

    @property
    def entry(self) -> str:
        """The program at its entry."""
        return f"on_{_identifier(self.function)}_entry"

    @property
    def exit(self) -> str:
        """The program at its return."""
        return f"on_{_identifier(self.function)}_exit"


def _identifier(name: str) -> str:
    return name.replace("::", "_").lower()


_FUSE_CALLBACKS = (
    "lookup", "getattr", "readlink", "opendir", "releasedir", "readdir", "open", "read", "release",
    "statfs", "getxattr", "listxattr",
)  # fmt: skip
#: the cache managers beside the one that keeps files: not every client has them
_CACHE_MANAGERS = ("Ram", "External", "Tiered", "Streaming")
#: several names for one function where versions of the client differ
DAEMON_FUNCTIONS = (
    *(DaemonFunction(f"cvmfs::cvmfs_{name}", f"cvmfs_{name}") for name in _FUSE_CALLBACKS),
    DaemonFunction("cvmfs::Fetcher::Fetch", "Fetcher::Fetch"),
    DaemonFunction("download::DownloadManager::Fetch", "DownloadManager::Fetch"),
    *(
        DaemonFunction(f"{name}CacheManager::Open", f"{name}CacheManager::Open", optional=True)
        for name in _CACHE_MANAGERS
    ),
    DaemonFunction("PosixCacheManager::Open", "CacheManager::Open"),
)


def resolve(
    event: LogicalEvent, facts: KernelFacts, backend: str = "auto"
) -> Attachment | Unsupported:
    """The first alternative of which the kernel has every attach point, or why there is none."""
    found = candidates(event, facts, backend)
    return found if isinstance(found, Unsupported) else found[0]


def candidates(
    event: LogicalEvent, facts: KernelFacts, backend: str = "auto"
) -> tuple[Attachment, ...] | Unsupported:
    """Every alternative that the kernel should have, the preferred first, or why there is none.
    Where even tracepoints are preempted, those that may miss something come last. Behind one that
    no kernel refuses to attach there is no other.

    A backend asked for by name holds for the events that it has an alternative for.
    """
    lacks, usable = list[Lack](facts.conditions.hindrances()), list[Attachment]()
    if facts.untold is not None:
        lacks.append(facts.untold)
    ways = sorted(_of_backend(event, backend), key=partial(_may_miss, facts))
    for points in () if lacks else ways:
        lacking = [lack for point in points if (lack := _lacks(point, facts))]
        lacks += lacking
        if not lacking:
            chosen = _with_seconds(points, partial(_is_preempted, facts))
            usable.append(Attachment(event.name, chosen))
            if not any(map(_may_be_refused, points)):
                break
    if usable:
        return tuple(usable)
    reasons = dict.fromkeys(lack.reason for lack in lacks)
    ways_out = dict.fromkeys(lack.way_out for lack in lacks)
    return Unsupported(event.name, "; ".join(reasons), tuple(ways_out))


def every_point() -> tuple[AttachPoint, ...]:
    """Every attach point once, with those that may stand behind others, in the order of attaching
    each event.
    """
    every = (points for event in EVENTS for points in event.alternatives)
    return tuple(
        dict.fromkeys(point for points in every for point in _with_seconds(points, _may_be_doubled))
    )


#: the programs that others may stand behind; not those of system calls, which tell themselves what
#: both have missed
PAIRS = tuple(
    dict.fromkeys(
        point.program.removesuffix(AGAIN)
        for point in every_point()
        if point.program.endswith(AGAIN) and point.target not in ("sys_enter", "sys_exit")
    )
)


def functions_programs(facts: KernelFacts, backend: str | None) -> frozenset[str]:
    """The programs that may be attached to functions, or stand behind another; None: all there are
    for the functions of this kernel.
    """
    if backend is None:
        known = {*facts.functions, *facts.raw_tracepoints}
        points = [point for point in every_point() if point.target in known]
    else:
        found = (candidates(event, facts, backend) for event in EVENTS)
        chosen = (each for one in found if not isinstance(one, Unsupported) for each in one)
        points = [each for one in chosen for each in one.points]
    return frozenset(
        each.program for each in points if _may_be_refused(each) or each.program.endswith(AGAIN)
    )


def _may_be_refused(point: AttachPoint) -> bool:
    return point.family in (FENTRY, FEXIT, KPROBE, KRETPROBE)


def is_forced(event: LogicalEvent, backend: str) -> bool:
    """Whether a backend asked for by name holds for this event: then it is mandatory."""
    alternatives = _of_backend(event, backend)
    return backend != "auto" and len(alternatives) < len(event.alternatives)


def _of_backend(event: LogicalEvent, backend: str) -> tuple[tuple[AttachPoint, ...], ...]:
    families = BACKENDS[backend]
    of_it = (each for each in event.alternatives if any(one.family in families for one in each))
    return tuple(of_it) or event.alternatives


def missing_offsets(facts: KernelFacts) -> tuple[str, ...]:
    """Struct members that the programs need and this kernel's BTF does not have."""
    ways = {name for way in DEVICE_OFFSETS for name in way}
    needed = {name: f"{struct}.{path}" for name, struct, path in OFFSETS if name not in ways}
    missing = tuple(
        place
        for name, place in needed.items()
        if name not in facts.offsets and name not in OPTIONAL_OFFSETS
    )
    if any(all(name in facts.offsets for name in way) for way in DEVICE_OFFSETS):
        return missing
    return (*missing, "fuse_req.fm")


def lack_of_members(facts: KernelFacts) -> Lack | None:
    """What a kernel does not tell of its structs, if it does not tell all that is needed."""
    missing = missing_offsets(facts)
    if not missing:
        return None
    if "fuse_req.flags" in missing and all(name.startswith("fuse_") for name in missing):
        return _lack_of_fuse(facts)
    fact = f"the kernel {facts.release} lacks what is read of it: {', '.join(missing)}"
    return Lack(fact, "boot a newer kernel: Linux 6.12 or later has it all")


def _lack_of_fuse(facts: KernelFacts) -> Lack:
    silent = f"the kernel {facts.release} tells nothing of FUSE"
    built = facts.config.get("FUSE_FS")
    if built == "n":
        return Lack(f"the kernel {facts.release} is built without FUSE", "boot one that has it")
    if built == "m" and facts.config.get("DEBUG_INFO_BTF_MODULES") != "n":
        return Lack(f"{silent}: its module is not loaded", "modprobe fuse")
    way_out = "boot a kernel that has FUSE built in (CONFIG_FUSE_FS=y)"
    return Lack(f"{silent}: it is a module there, or absent", way_out)


#: tracepoints that 6.1 lacks and 6.12 has
_NEWER_TRACEPOINTS = frozenset(
    ("mm_filemap_fault", "mm_filemap_map_pages", "fuse_request_send", "fuse_request_end")
)
_REPORT = "please report this kernel to the cvmprof project"


def _lacks(point: AttachPoint, facts: KernelFacts) -> Lack | None:
    """What a kernel lacks of an attach point; None where it has it."""
    if point.family == RAW_TRACEPOINT:
        if point.target in facts.raw_tracepoints:
            return None
        newer = point.target in _NEWER_TRACEPOINTS
        way_out = f"boot a newer kernel: 6.12 has {point.target}" if newer else _REPORT
        return Lack(f"this kernel lacks the tracepoint {point.target}", way_out)
    if point.family == SOFTWARE_EVENT:
        known = point.target in SOFTWARE_EVENTS
        return None if known else Lack(f"no software event {point.target}", _REPORT)
    return _lacks_function(point, facts)


def _lacks_function(point: AttachPoint, facts: KernelFacts) -> Lack | None:
    by_kprobe = point.family in (KPROBE, KRETPROBE)
    lack = _lacks_kprobes(point.target, facts) if by_kprobe else _lacks_trampolines(facts)
    if lack is None and not facts.conditions.ftrace_enabled:
        reason = "function tracing is switched off (kernel.ftrace_enabled is 0)"
        lack = Lack(reason, "sysctl kernel.ftrace_enabled=1")
    if lack is not None:
        return lack
    function = facts.functions.get(point.target)
    if function is None:
        return Lack(f"this kernel lacks the function {point.target}", _REPORT)
    if by_kprobe or function.described:
        return None
    reason = f"BTF does not describe {point.target}, which is in {function.module}"
    return Lack(reason, "boot a kernel whose modules have type information (Linux 5.11 or later)")


def _lacks_kprobes(target: str, facts: KernelFacts) -> Lack | None:
    if not facts.kprobes:
        way_out = "boot a kernel built with CONFIG_KPROBE_EVENTS"
        return Lack("this kernel is built without kprobes", way_out)
    if not facts.conditions.kprobes_enabled:
        reason = "kprobes are switched off (/sys/kernel/debug/kprobes/enabled is 0)"
        return Lack(reason, "echo 1 > /sys/kernel/debug/kprobes/enabled")
    if target in facts.conditions.blacklisted:
        return Lack(f"this kernel allows no kprobe on {target}", _REPORT)
    return None


def _lacks_trampolines(facts: KernelFacts) -> Lack | None:
    refused = facts.conditions.fentry_refused
    if facts.trampolines and refused:
        reason = f"this kernel refuses fentry programs ({refused})"
        return Lack(reason, "boot a kernel that takes them, or one that has kprobes")
    if facts.trampolines:
        return None
    way_out = "boot a kernel built with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"
    return Lack("this kernel is built without BPF trampolines", way_out)
