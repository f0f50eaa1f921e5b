"""What is observed and by which attach points, in order of preference.

A `LogicalEvent` is something that happens to the system; its alternatives are the ways to see it.
Resolving an event against a kernel's facts is pure: it gives the alternative to attach, or the
reason why none can be. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from .kernel import OFFSETS, OPTIONAL_OFFSETS, KernelFacts

RAW_TRACEPOINT = "raw_tracepoint"
SOFTWARE_EVENT = "perf_software"
UPROBE = "uprobe"
#: all functions of a library through one link; taking it off waits once, not once for each
UPROBE_MULTI = "uprobe_multi"

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
    """Something that is observed. ``alternatives`` are sets of attach points, the preferred first;
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
    """No alternative can be served, and why."""

    event: str
    reason: str


def _raw(target: str, program: str) -> AttachPoint:
    return AttachPoint(RAW_TRACEPOINT, target, program)


def _interrupt_points() -> tuple[AttachPoint, ...]:
    pairs = (
        ("softirq", "softirq"), ("irq_handler", "irq_handler"), ("local_timer", "local_timer"),
        ("call_function", "call_function"), ("call_function_single", "call_function"),
    )  # fmt: skip
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
    LogicalEvent("page fault", ((_raw("mm_filemap_fault", "on_filemap_fault_entry"),),)),
    LogicalEvent(
        "page fault end",
        (
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
    LogicalEvent("request queued", ((_raw("fuse_request_send", "on_request_queued"),),)),
    LogicalEvent("request ended", ((_raw("fuse_request_end", "on_request_ended"),),)),
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
                _raw("sched_process_fork", "on_fork"),
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


def uprobe_family(facts: KernelFacts) -> str:
    """How daemon functions are probed on a kernel."""
    return UPROBE_MULTI if "UPROBE_MULTI_TYPE" in facts.enumerators else UPROBE


@dataclass(frozen=True)
class DaemonFunction:
    """A function of the client to probe: its qualified C++ name, and the programs' name for it."""

    qualified_name: str
    function: str

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
#: several names for one function where versions of the client differ
DAEMON_FUNCTIONS = (
    *(DaemonFunction(f"cvmfs::cvmfs_{name}", f"cvmfs_{name}") for name in _FUSE_CALLBACKS),
    DaemonFunction("cvmfs::Fetcher::Fetch", "Fetcher::Fetch"),
    DaemonFunction("download::DownloadManager::Fetch", "DownloadManager::Fetch"),
    DaemonFunction("PosixCacheManager::Open", "CacheManager::Open"),
)


def resolve(event: LogicalEvent, facts: KernelFacts) -> Attachment | Unsupported:
    """The first alternative of which the kernel has every attach point, or why there is none."""
    missing: list[str] = []
    for points in event.alternatives:
        lacking = [point.target for point in points if not _exists(point, facts)]
        if not lacking:
            return Attachment(event.name, points)
        missing += lacking
    names = ", ".join(dict.fromkeys(missing))
    return Unsupported(event.name, f"this kernel lacks the tracepoint {names}")


def missing_offsets(facts: KernelFacts) -> tuple[str, ...]:
    """Struct members that the programs need and this kernel's BTF does not have."""
    needed = {name: f"{struct}.{path}" for name, struct, path in OFFSETS}
    return tuple(
        place
        for name, place in needed.items()
        if name not in facts.offsets and name not in OPTIONAL_OFFSETS
    )


def _exists(point: AttachPoint, facts: KernelFacts) -> bool:
    if point.family == RAW_TRACEPOINT:
        return point.target in facts.raw_tracepoints
    return point.family == SOFTWARE_EVENT and point.target in SOFTWARE_EVENTS
