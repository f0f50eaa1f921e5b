"""What is observed and by which attach points, in order of preference.

A `LogicalEvent` is something that happens in the system; its alternatives are ways to observe it.
`resolve` is pure: from a kernel's facts it returns the alternative to attach, or the reason why
there is none. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from .conditions import Lack
from .gpu import BYTES_ARGUMENTS, COUNTED_KINDS
from .gpu import DRIVER_FUNCTIONS as DRIVER_NAMES
from .kernel import DEVICE_OFFSETS, OFFSETS, OPTIONAL_OFFSETS, KernelFacts

RAW_TRACEPOINT = "raw_tracepoint"
FENTRY, FEXIT = "fentry", "fexit"
KPROBE, KRETPROBE = "kprobe", "kretprobe"
SOFTWARE_EVENT = "perf_software"
UPROBE = "uprobe"
#: all functions of a library through one link: detaching waits once, not once for each function
UPROBE_MULTI = "uprobe_multi"

#: suffix of backup programs. On a preemptible kernel a program is skipped for a task that reaches
#: it while another task is preempted inside it on that CPU; the backup, attached behind it, handles
#: those hits.
BACKUP = "_backup"

#: what --backend accepts, and the families that it stands for
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
    """A place in the kernel, and the program that runs there.

    ``calls`` is the C expression that the program evaluates. In it ``{1}`` to ``{4}`` are the
    arguments there, ``{argument}`` the one that `kernel.FUNCTIONS` names, ``{result}`` what the
    function returned, ``{backup}`` whether the program is a backup, ``{ctx}`` the context itself.
    """

    family: str
    target: str
    program: str
    calls: str = ""


@dataclass(frozen=True)
class LogicalEvent:
    """Something that is observed.

    ``shows`` is what it contributes to a run, ``without`` what a run lacks if it is not observed.
    ``alternatives`` are sets of attach points, the cheapest first; empty if programs attached for
    another event observe it. ``system_calls_of``: whose system calls those are, if they are, and
    ``functions_of`` whose functions, if uprobes on them observe it. Nothing can be recorded without
    a ``mandatory`` event.
    """

    name: str
    shows: str
    without: str
    alternatives: tuple[tuple[AttachPoint, ...], ...] = ()
    mandatory: bool = False
    system_calls_of: str = ""
    functions_of: str = ""


@dataclass(frozen=True)
class Attachment:
    """The alternative that a kernel supports."""

    event: str
    points: tuple[AttachPoint, ...]


@dataclass(frozen=True)
class Unsupported:
    """A kernel supports no alternative: why, and what would help, the preferred one's first."""

    event: str
    reason: str
    ways_out: tuple[str, ...] = ()


def _raw(target: str, program: str, calls: str) -> AttachPoint:
    return AttachPoint(RAW_TRACEPOINT, target, program, calls)


def _function(family: str, target: str, program: str, calls: str) -> tuple[AttachPoint, ...]:
    return (AttachPoint(family, target, f"{program}_{family}", calls),)


def _read(entry: str, end: str) -> tuple[AttachPoint, ...]:
    """The end first: an entry whose end is not seen would stay open. fexit has the result behind
    the two arguments.
    """
    target, program = "fuse_file_read_iter", "on_asynchronous_read"
    result = "{3}" if end == FEXIT else "{result}"
    ends = _function(end, target, program, f"end_asynchronous_read({result})")
    return ends + _function(entry, target, program, "begin_asynchronous_read({1}, {2}, {backup})")


def _queued(family: str) -> tuple[tuple[AttachPoint, ...], ...]:
    calls = "request_queued({argument}, {backup})"
    return tuple(
        _function(family, target, "on_request_queued", calls) for target in QUEUEING_FUNCTIONS
    )


#: what puts a request into the queue of /dev/fuse. The first is called through a pointer only; the
#: second is from before commit 5de8acb41c86 ("fuse: cleanup request queuing towards virtiofs")
#: (in v6.12)
QUEUEING_FUNCTIONS = ("fuse_dev_queue_req", "queue_request_and_unlock")


def _with_backups(
    points: tuple[AttachPoint, ...], where: Callable[[AttachPoint], bool]
) -> tuple[AttachPoint, ...]:
    """The points, with backups for some of them."""
    pairs = (_with_backup(point) if where(point) else (point,) for point in points)
    return tuple(each for pair in pairs for each in pair)


def _with_backup(point: AttachPoint) -> tuple[AttachPoint, ...]:
    """A point and its backup, in the order of attaching."""
    backup = replace(point, program=point.program + BACKUP)
    # a trampoline calls the program that was attached last first
    return (backup, point) if point.family in (FENTRY, FEXIT) else (point, backup)


def preempts(facts: KernelFacts) -> bool:
    """Whether a kernel can preempt a task in kernel code, and so in programs."""
    return facts.preemption not in ("none", "voluntary")


def _is_preemptible(facts: KernelFacts, point: AttachPoint) -> bool:
    """Whether a task can be preempted in a point's program, so that the program misses others."""
    if point.family in (FENTRY, FEXIT):
        return preempts(facts)
    return facts.preemptible_tracepoints and _may_have_backup(point)


def _may_miss(facts: KernelFacts, points: tuple[AttachPoint, ...]) -> bool:
    """Whether hits may be skipped where even tracepoints are preemptible. Kprobes are not, but a
    return probe has few instances.
    """
    each = (_is_preemptible(facts, point) or point.family == KRETPROBE for point in points)
    return facts.preemptible_tracepoints and any(each)


def _may_have_backup(point: AttachPoint) -> bool:
    if point.family == RAW_TRACEPOINT:
        return point.target in _PREEMPTIBLE
    return point.family in (FENTRY, FEXIT)


#: tracepoints that are hit neither in interrupts nor with preemption disabled
_PREEMPTIBLE = frozenset((
    "sys_enter", "sys_exit", "mm_filemap_fault", "mm_filemap_add_to_page_cache",
    "mm_filemap_map_pages", "fuse_request_send", "fuse_request_end", "task_newtask",
    "sched_process_exit",
))  # fmt: skip


def _interrupt_points() -> tuple[AttachPoint, ...]:
    kinds = (
        ("softirq", "softirq", "SOFT"),
        ("irq_handler", "irq_handler", "DEVICE"),
        ("local_timer", "local_timer", "TIMER"),
        ("call_function", "call_function", "CALL"),
        ("call_function_single", "call_function", "CALL"),
    )
    # exits first: an entry whose exit is not seen would mark its CPU for ever
    return tuple(
        _raw(
            f"{target}_{edge}", f"on_{program}_{edge}", f"set_interrupt(INTERRUPT_{kind}, {value})"
        )
        for edge, value in (("exit", 0), ("entry", 1))
        for target, program, kind in kinds
    )


_NOTHING = "nothing can be recorded"
_NO_REQUESTS = "FUSE requests have no rows, and reads no cause within the mount"
_NO_FILE = "their waits are recorded, but not which file they read"

#: in the order of the counters EVENT_*; the last is attached first
EVENTS = (
    LogicalEvent(
        "system call",
        "opens, reads and the like",
        _NOTHING,
        (
            (
                _raw("sys_exit", "on_syscall_exit", "leave_syscall({ctx}, {backup})"),
                _raw("sys_enter", "on_syscall_entry", "enter_syscall({ctx}, {backup})"),
            ),
        ),
        mandatory=True,
    ),
    LogicalEvent(
        "page fault",
        "reads of mapped files",
        f"page faults have no rows: {_NO_FILE}",
        (
            (_raw("mm_filemap_fault", "on_filemap_fault_entry", "begin_fault_at({1}, {2})"),),
            _function(FENTRY, "filemap_fault", "on_filemap_fault", "begin_fault_of({argument})"),
            _function(KPROBE, "filemap_fault", "on_filemap_fault", "begin_fault_of({argument})"),
        ),
    ),
    LogicalEvent(
        "page fault end",
        "how long page faults took",
        "page faults have no end",
        (
            # no kretprobe: it misses faults if more of them wait at once than it has instances
            (
                AttachPoint(
                    SOFTWARE_EVENT, "page-faults-minor", "on_page_fault_minor", "end_fault(0)"
                ),
                AttachPoint(
                    SOFTWARE_EVENT, "page-faults-major", "on_page_fault_major", "end_fault(0)"
                ),
                _raw("signal_generate", "on_signal_generate", "signal_generated({1}, {3})"),
                _raw("signal_deliver", "on_signal_deliver", "signal_delivered({1})"),
            ),
        ),
    ),
    LogicalEvent(
        "page-cache insertion",
        "pages brought into memory",
        "pages_inserted stays 0 in the table touches",
        (
            (
                _raw(
                    "mm_filemap_add_to_page_cache",
                    "on_page_cache_insertion",
                    "page_cache_insertion({1}, {backup})",
                ),
            ),
        ),
    ),
    LogicalEvent(
        "fault-around",
        "pages mapped around a fault",
        "pages_mapped stays 0 in the table touches; nothing else needs it",
        (
            (
                _raw(
                    "mm_filemap_map_pages",
                    "on_fault_around",
                    "fault_around({1}, {2}, {3}, {backup})",
                ),
            ),
        ),
    ),
    LogicalEvent(
        "request queued",
        "what the kernel asks CVMFS for",
        _NO_REQUESTS,
        (
            (_raw("fuse_request_send", "on_request_queued", "request_queued({1}, {backup})"),),
            *_queued(FENTRY),
            *_queued(KPROBE),
        ),
    ),
    LogicalEvent(
        "request ended",
        "the answers",
        _NO_REQUESTS,
        (
            (_raw("fuse_request_end", "on_request_ended", "request_ended({1})"),),
            _function(FENTRY, "fuse_request_end", "on_request_ended", "request_ending({argument})"),
            _function(KPROBE, "fuse_request_end", "on_request_ended", "request_ending({argument})"),
        ),
    ),
    # all other reads are system calls of their own; this one costs each of those a function call
    LogicalEvent(
        "asynchronous read",
        "reads by io_uring and AIO",
        f"reads by io_uring and AIO have no rows: {_NO_FILE}; all other reads are recorded",
        (_read(FENTRY, FEXIT), _read(KPROBE, KRETPROBE)),
    ),
    LogicalEvent(
        "off CPU",
        "when a thread does not run",
        _NOTHING,
        ((_raw("sched_switch", "on_switch", "task_switch({ctx})"),),),
        mandatory=True,
    ),
    LogicalEvent(
        "wake",
        "which thread woke it",
        _NOTHING,
        ((_raw("sched_waking", "on_waking", "task_waking({1})"),),),
        mandatory=True,
    ),
    LogicalEvent(
        "interrupt",
        "wakes that no thread made",
        "a wake by an interrupt counts as one by the task that it interrupted",
        (_interrupt_points(), _interrupt_points()[:2] + _interrupt_points()[5:7]),
    ),
    LogicalEvent(
        "task",
        "processes and threads",
        _NOTHING,
        (
            (
                _raw("sched_process_free", "on_free", "task_freed({1})"),
                _raw("sched_process_exit", "on_exit", "task_ends({1}, {backup})"),
                _raw("sched_process_exec", "on_exec", "task_executes({1}, {2})"),
                # not sched_process_fork, which is not hit for the kernel's own threads in a process
                _raw("task_newtask", "on_fork", "task_begins({1}, {backup})"),
            ),
        ),
        mandatory=True,
    ),
)
_COMMAND, _CLIENT, _DRIVER = "the command's", "the client's", "the CUDA driver's"
#: observed by programs that are attached for another event, or by uprobes for each library
DERIVED_EVENTS = (
    LogicalEvent(
        "operation", "file operations", "file operations have no rows", system_calls_of=_COMMAND
    ),
    LogicalEvent(
        "touch",
        "which parts of a file were read",
        "the table touches has no rows",
        system_calls_of=_COMMAND,
    ),
    LogicalEvent(
        "file",
        "names of files and mounts",
        "files and mounts have no names",
        system_calls_of=_COMMAND,
    ),
    LogicalEvent(
        "request served",
        "when CVMFS took a request",
        "how long a request waited for CVMFS to take it is unknown",
        system_calls_of=_CLIENT,
    ),
    LogicalEvent(
        "download", "HTTP requests", "HTTP requests have no rows", system_calls_of=_CLIENT
    ),
    LogicalEvent(
        "cache directory",
        "hits, misses, objects stored",
        "whether an object was in the client's cache is unknown",
        system_calls_of=_CLIENT,
    ),
    LogicalEvent(
        "daemon call",
        "what CVMFS did with a request",
        "what CVMFS does with a request is known from its system calls only",
        functions_of=_CLIENT,
    ),
    LogicalEvent(
        "GPU call",
        "copies and waits of the driver",
        "without CUPTI, calls of the CUDA driver have no rows",
        functions_of=_DRIVER,
    ),
    LogicalEvent(
        "GPU launch",
        "launches of kernels",
        "without CUPTI, launches have no rows",
        functions_of=_DRIVER,
    ),
)
EVENT_NAMES = tuple(event.name for event in EVENTS + DERIVED_EVENTS)
#: observed by the session, not by a program
SOCKET_SAMPLES = LogicalEvent(
    "socket sample",
    "the network's round trips and losses",
    "the network's round trips and losses have no rows",
)
#: written by the library that the driver loads into the command's processes
GPU_ACTIVITY = LogicalEvent(
    "GPU activity",
    "what GPUs did, and which calls asked",
    "when a GPU was busy is not known",
)
GPU_SAMPLES = LogicalEvent(
    "GPU sample",
    "load, memory and power of GPUs",
    "load, memory and power of GPUs have no rows",
)
OF_SESSION = (SOCKET_SAMPLES, GPU_ACTIVITY, GPU_SAMPLES)
BY_NAME = {event.name: event for event in (*EVENTS, *DERIVED_EVENTS, *OF_SESSION)}


def lack_of_uprobes(event: LogicalEvent, facts: KernelFacts) -> Unsupported | None:
    """Why the functions of an event cannot be probed on a kernel; None if they can."""
    if facts.uprobes:
        return None
    way_out = "boot a kernel built with CONFIG_UPROBE_EVENTS"
    return Unsupported(event.name, "this kernel is built without uprobes", (way_out,))


def uprobe_family(facts: KernelFacts) -> str:
    """How the functions of libraries are probed on a kernel."""
    return UPROBE_MULTI if "UPROBE_MULTI_TYPE" in facts.enumerators else UPROBE


@dataclass(frozen=True)
class DaemonFunction:
    """A function of the client to probe: its qualified C++ name, and its name in the programs."""

    qualified_name: str
    function: str
    #: whether some clients lack it
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
#: the cache managers besides the one that keeps files: not every client has them
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


@dataclass(frozen=True)
class DriverFunction:
    """A function of the CUDA driver to probe, whatever its version: its name and number in the
    programs, and which argument is the number of bytes that it moves, if one is.
    """

    name: str
    number: int
    kind: str
    bytes_argument: int = 0

    @property
    def counted(self) -> bool:
        """Whether its calls are only counted, at their entry."""
        return self.kind in COUNTED_KINDS

    @property
    def cookie(self) -> int:
        """What its programs are attached with."""
        return self.number | self.bytes_argument << 8

    @property
    def entry(self) -> str:
        """The program at its entry, for kernels that attach each function by itself."""
        return f"on_{self.name.lower()}_entry"

    @property
    def exit(self) -> str:
        """The program at its return; none where calls are only counted."""
        return f"on_{self.name.lower()}_exit"


DRIVER_FUNCTIONS = tuple(
    DriverFunction(name, number, kind, BYTES_ARGUMENTS.get(name, 0))
    for number, (name, kind) in enumerate(DRIVER_NAMES.items(), 1)
)


def resolve(
    event: LogicalEvent, facts: KernelFacts, backend: str = "auto"
) -> Attachment | Unsupported:
    """The first alternative whose attach points the kernel all has, or why there is none."""
    usable = candidates(event, facts, backend)
    return usable if isinstance(usable, Unsupported) else usable[0]


def candidates(
    event: LogicalEvent, facts: KernelFacts, backend: str = "auto"
) -> tuple[Attachment, ...] | Unsupported:
    """Every alternative that the kernel should support, the preferred first, or why there is none.

    If even tracepoints are preemptible, alternatives that may miss hits come last. The list ends
    with an alternative that kernels never refuse. A backend applies to the events that it has an
    alternative for.
    """
    lacks, usable = list[Lack](facts.conditions.hindrances()), list[Attachment]()
    if facts.untold is not None:
        lacks.append(facts.untold)
    ways = sorted(_of_backend(event, backend), key=partial(_may_miss, facts))
    for points in () if lacks else ways:
        lacking = [lack for point in points if (lack := _lacks(point, facts))]
        lacks += lacking
        if not lacking:
            chosen = _with_backups(points, partial(_is_preemptible, facts))
            usable.append(Attachment(event.name, chosen))
            if not any(map(_may_be_refused, points)):
                break
    if usable:
        return tuple(usable)
    reasons = dict.fromkeys(lack.reason for lack in lacks)
    ways_out = dict.fromkeys(lack.way_out for lack in lacks)
    return Unsupported(event.name, "; ".join(reasons), tuple(ways_out))


def every_point() -> tuple[AttachPoint, ...]:
    """Every attach point once, with all possible backups, in each event's order of attaching."""
    every = (points for event in EVENTS for points in event.alternatives)
    return tuple(
        dict.fromkeys(
            point for points in every for point in _with_backups(points, _may_have_backup)
        )
    )


#: the programs that may have a backup, except those of system calls, which count themselves what
#: both missed
PAIRS = tuple(
    dict.fromkeys(
        point.program.removesuffix(BACKUP)
        for point in every_point()
        if point.program.endswith(BACKUP) and point.target not in ("sys_enter", "sys_exit")
    )
)


def compiled_points(facts: KernelFacts, backend: str | None) -> tuple[AttachPoint, ...]:
    """The attach points whose programs are compiled, each program once.

    All that neither depend on a function nor are backups; of the others those that a backend may
    attach, or without a backend all that this kernel has the function or tracepoint for.
    """
    chosen = _chosen(facts, backend)
    points = dict[str, AttachPoint]()
    for point in every_point():
        if not _is_optional(point) or point in chosen:
            points.setdefault(point.program, point)
    return tuple(points.values())


def _chosen(facts: KernelFacts, backend: str | None) -> set[AttachPoint]:
    if backend is None:
        present = {*facts.functions, *facts.raw_tracepoints}
        return {point for point in every_point() if point.target in present}
    each = (candidates(event, facts, backend) for event in EVENTS)
    usable = (attachment for one in each if not isinstance(one, Unsupported) for attachment in one)
    return {point for attachment in usable for point in attachment.points}


def _is_optional(point: AttachPoint) -> bool:
    return _may_be_refused(point) or point.program.endswith(BACKUP)


def _may_be_refused(point: AttachPoint) -> bool:
    return point.family in (FENTRY, FEXIT, KPROBE, KRETPROBE)


def is_forced(event: LogicalEvent, backend: str) -> bool:
    """Whether a backend applies to this event, which is mandatory then."""
    alternatives = _of_backend(event, backend)
    return backend != "auto" and len(alternatives) < len(event.alternatives)


def _of_backend(event: LogicalEvent, backend: str) -> tuple[tuple[AttachPoint, ...], ...]:
    families = BACKENDS[backend]
    usable = (each for each in event.alternatives if any(one.family in families for one in each))
    return tuple(usable) or event.alternatives


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
    """Which struct members a kernel's type information lacks; None if it has all."""
    missing = missing_offsets(facts)
    if not missing:
        return None
    if "fuse_req.flags" in missing and all(name.startswith("fuse_") for name in missing):
        return _lack_of_fuse(facts)
    fact = f"the kernel {facts.release} lacks struct members that are read: {', '.join(missing)}"
    return Lack(fact, "boot a newer kernel: Linux 6.12 or later has all of them")


def _lack_of_fuse(facts: KernelFacts) -> Lack:
    untyped = f"the kernel {facts.release} has no type information about FUSE"
    built = facts.config.get("FUSE_FS")
    if built == "n":
        return Lack(f"the kernel {facts.release} is built without FUSE", "boot one that has it")
    if built == "m" and facts.config.get("DEBUG_INFO_BTF_MODULES") != "n":
        return Lack(f"{untyped}: its module is not loaded", "modprobe fuse")
    way_out = "boot a kernel that has FUSE built in (CONFIG_FUSE_FS=y)"
    return Lack(f"{untyped}: it is a module, or absent", way_out)


#: tracepoints that 6.1 lacks and 6.12 has: commits ("filemap: add trace events for get_pages,
#: map_pages, and fault") and 396b209e405a ("fuse: add simple request tracepoints") (both in v6.12)
_NEWER_TRACEPOINTS = frozenset(
    ("mm_filemap_fault", "mm_filemap_map_pages", "fuse_request_send", "fuse_request_end")
)
_REPORT = "please report this kernel to the cvmprof project"


def _lacks(point: AttachPoint, facts: KernelFacts) -> Lack | None:
    """What a kernel lacks for an attach point; None if it has everything."""
    if point.family == RAW_TRACEPOINT:
        if point.target in facts.raw_tracepoints:
            return None
        newer = point.target in _NEWER_TRACEPOINTS
        way_out = f"boot a newer kernel: 6.12 has {point.target}" if newer else _REPORT
        return Lack(f"this kernel lacks the tracepoint {point.target}", way_out)
    if point.family == SOFTWARE_EVENT:
        known = point.target in SOFTWARE_EVENTS
        return None if known else Lack(f"there is no software event {point.target}", _REPORT)
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
        return Lack(reason, "boot a kernel that accepts them, or one that has kprobes")
    if facts.trampolines:
        return None
    way_out = "boot a kernel built with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"
    return Lack("this kernel is built without BPF trampolines", way_out)
