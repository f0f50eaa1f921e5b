"""The catalogue, resolved on the saved facts of kernels: no kernel is asked here.

facts/NAME.json is the JSON of ``kernel.saved(running_kernel())`` on that kernel: Debian's stock
ones, and one of 6.18 built without kprobes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cvmprof.probes import catalog, events, kernel
from cvmprof.probes.catalog import Attachment, LogicalEvent, Unsupported, resolve
from cvmprof.probes.conditions import Conditions, Lack
from cvmprof.probes.diagnosis import lost
from cvmprof.probes.kernel import KernelFacts

FACTS = Path(__file__).parent / "facts"
SAVED = sorted(FACTS.glob("*.json"))
BY_NAME = {event.name: event for event in catalog.EVENTS}


def saved(path: Path) -> KernelFacts:
    return kernel.restored(json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture
def facts() -> KernelFacts:
    return saved(Path(__file__).parent / "facts" / "6.18.json")


def without(facts: KernelFacts, *names: str) -> KernelFacts:
    left = {name: count for name, count in facts.raw_tracepoints.items() if name not in names}
    return replace(facts, raw_tracepoints=left)


def targets(found: Attachment | Unsupported) -> list[str]:
    assert isinstance(found, Attachment)
    return [point.target for point in found.points]


def reason(found: Attachment | Unsupported) -> str:
    assert isinstance(found, Unsupported)
    return found.reason


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
@pytest.mark.parametrize("event", catalog.EVENTS, ids=lambda event: event.name)
def test_every_event_resolves_on_the_saved_kernels(path: Path, event: LogicalEvent) -> None:
    found = resolve(event, saved(path))
    if (path.stem, event.name) in UNSEEN:
        assert isinstance(found, Unsupported)
        return
    assert isinstance(found, Attachment)
    assert found.event == event.name
    firsts = tuple(each for each in found.points if not each.program.endswith(catalog.BACKUP))
    assert firsts in event.alternatives


@pytest.mark.parametrize(
    ("event", "backend", "programs"),
    [
        (
            "system call",
            "auto",
            [
                "on_syscall_exit",
                "on_syscall_exit_backup",
                "on_syscall_entry",
                "on_syscall_entry_backup",
            ],
        ),
        ("request ended", "fentry", ["on_request_ended_fentry_backup", "on_request_ended_fentry"]),
        ("request ended", "kprobe", ["on_request_ended_kprobe"]),
        ("request ended", "tracepoint", ["on_request_ended", "on_request_ended_backup"]),
    ],
)
def test_where_programs_are_preempted_a_second_stands_behind_the_first(
    event: str, backend: str, programs: list[str]
) -> None:
    found = resolve(BY_NAME[event], saved(FACTS / "debian-7.x.json"), backend)
    assert isinstance(found, Attachment)
    assert [point.program for point in found.points] == programs


@pytest.mark.parametrize(
    ("kernel", "preempts", "programs"),
    [
        ("debian-6.18", "unknown", 2),
        ("debian-6.18", "lazy", 2),
        ("debian-6.1", "full", 2),
        ("debian-6.18", "none", 1),
        ("debian-6.1", "voluntary", 1),
    ],
)
def test_fentry_is_preempted_where_the_kernel_preempts_itself(
    kernel: str, preempts: str, programs: int
) -> None:
    facts = replace(saved(FACTS / f"{kernel}.json"), preemption=preempts)
    found = resolve(BY_NAME["page fault"], facts, "fentry")
    assert isinstance(found, Attachment)
    assert [point.family for point in found.points] == ["fentry"] * programs
    assert len(targets(resolve(BY_NAME["system call"], facts))) == 2


#: what no family can observe there
UNSEEN = {("debian-5.10", "fault-around"), ("debian-6.1", "fault-around")}
#: by which family, with auto and with each backend; None: it is refused
FAMILIES = {
    ("debian-5.10", "page fault"): ("fentry", "fentry", "kprobe", None),
    ("debian-5.10", "request queued"): ("kprobe", None, "kprobe", None),
    ("debian-5.10", "request ended"): ("kprobe", None, "kprobe", None),
    ("debian-6.1", "page fault"): ("fentry", "fentry", "kprobe", None),
    ("debian-6.1", "request queued"): ("fentry", "fentry", "kprobe", None),
    ("debian-6.1", "request ended"): ("fentry", "fentry", "kprobe", None),
    **{
        (f"debian-{name}", event): (auto, "fentry", "kprobe", "raw_tracepoint")
        for name, auto in (
            ("6.12", "raw_tracepoint"),
            ("6.18", "raw_tracepoint"),
            ("7.x", "kprobe"),
        )
        for event in ("page fault", "request queued", "request ended")
    },
    ("debian-5.10", "asynchronous read"): ("kretprobe", None, "kretprobe", "kretprobe"),
    ("debian-6.1", "asynchronous read"): ("fexit", "fexit", "kretprobe", "fexit"),
    ("debian-6.12", "asynchronous read"): ("fexit", "fexit", "kretprobe", "fexit"),
    ("debian-7.x", "asynchronous read"): ("fexit", "fexit", "kretprobe", "fexit"),
    ("6.18", "asynchronous read"): ("fexit", "fexit", None, "fexit"),
    ("6.18", "request ended"): ("raw_tracepoint", "fentry", None, "raw_tracepoint"),
}


@pytest.mark.parametrize(("where", "families"), FAMILIES.items(), ids=lambda each: str(each[0]))
def test_families(where: tuple[str, str], families: tuple[str | None, ...]) -> None:
    facts, event = saved(FACTS / f"{where[0]}.json"), BY_NAME[where[1]]
    assert len(families) == len(catalog.BACKENDS)
    for number, backend in enumerate(catalog.BACKENDS):
        family = families[number]
        found = resolve(event, facts, backend)
        if family is None:
            assert isinstance(found, Unsupported), backend
            assert catalog.is_forced(event, backend)
        else:
            assert isinstance(found, Attachment), backend
            assert found.points[0].family == family


def test_the_queueing_function_is_the_kernels_own() -> None:
    older, newer = saved(FACTS / "debian-6.1.json"), saved(FACTS / "debian-6.12.json")
    event = BY_NAME["request queued"]
    assert targets(resolve(event, older, "kprobe")) == ["queue_request_and_unlock"]
    assert targets(resolve(event, newer, "kprobe")) == ["fuse_dev_queue_req"]


def test_a_function_of_a_module_without_types_is_out_of_reach_of_fentry() -> None:
    found = resolve(BY_NAME["request ended"], saved(FACTS / "debian-5.10.json"), "fentry")
    assert reason(found) == "BTF does not describe fuse_request_end, which is in fuse"


def test_kprobes_are_taken_where_tracepoints_and_trampolines_are_absent() -> None:
    facts = without(saved(FACTS / "debian-6.12.json"), "mm_filemap_fault", "fuse_request_end")
    assert fault_family(facts) == "fentry"
    assert fault_family(replace(facts, trampolines=False)) == "kprobe"
    found = resolve(BY_NAME["page fault"], replace(facts, trampolines=False, kprobes=False))
    assert reason(found) == (
        "this kernel lacks the tracepoint mm_filemap_fault; this kernel is built without BPF "
        "trampolines; this kernel is built without kprobes"
    )


# --- what is taken away from every kernel ---------------------------------------------------------


def no_kprobes(facts: KernelFacts) -> KernelFacts:
    return replace(facts, kprobes=False)


def no_trampolines(facts: KernelFacts) -> KernelFacts:
    return replace(facts, trampolines=False)


def kprobes_off(facts: KernelFacts) -> KernelFacts:
    return replace(facts, conditions=Conditions(kprobes_enabled=False))


def ftrace_off(facts: KernelFacts) -> KernelFacts:
    return replace(facts, conditions=Conditions(ftrace_enabled=False))


def blacklisted(facts: KernelFacts) -> KernelFacts:
    return replace(facts, conditions=Conditions(blacklisted=tuple(facts.functions)))


def fentry_refused(facts: KernelFacts) -> KernelFacts:
    return replace(facts, conditions=Conditions(fentry_refused="Operation not permitted"))


Taking = Callable[[KernelFacts], KernelFacts]
KPROBES_ABSENT = ("this kernel is built without kprobes", "a kernel built with CONFIG_KPROBE")
TAKEN_AWAY: dict[Taking, tuple[str, str, str]] = {
    no_kprobes: ("kprobe", *KPROBES_ABSENT),
    kprobes_off: ("kprobe", "kprobes are switched off", "echo 1 > /sys/kernel/debug/kprobes"),
    ftrace_off: ("kprobe", "function tracing is switched off", "kernel.ftrace_enabled=1"),
    blacklisted: ("kprobe", "allows no kprobe on filemap_fault", "report this kernel"),
    no_trampolines: ("fentry", "built without BPF trampolines", "CONFIG_DYNAMIC_FTRACE_WITH"),
    fentry_refused: ("fentry", "refuses fentry programs (Operation not", "one that has kprobes"),
}


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
@pytest.mark.parametrize("take_away", TAKEN_AWAY, ids=lambda each: each.__name__)
def test_a_way_of_attaching_that_is_taken_away(path: Path, take_away: Taking) -> None:
    backend, said, way_out = TAKEN_AWAY[take_away]
    facts = saved(path)
    if backend == "kprobe" and take_away is not no_kprobes and not facts.kprobes:
        said, way_out = KPROBES_ABSENT  # where there are none, nothing else matters
    event, left = BY_NAME["page fault"], take_away(facts)
    found = resolve(event, left, backend)
    assert isinstance(found, Unsupported)
    assert said in found.reason
    assert way_out in " ".join(found.ways_out)
    others = resolve(event, left)
    if "mm_filemap_fault" in facts.raw_tracepoints:
        exact = backend == "fentry" and facts.preemptible_tracepoints
        assert isinstance(others, Attachment)
        assert others.points[0].family == ("kprobe" if exact else "raw_tracepoint")
    else:  # of fentry and kprobes the other is left, where there is more than one to lose
        assert isinstance(others, Unsupported) == (take_away is ftrace_off)


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
@pytest.mark.parametrize("event", catalog.EVENTS, ids=lambda event: event.name)
def test_what_hinders_everything_is_the_reason_for_each(path: Path, event: LogicalEvent) -> None:
    untold = Lack("no type information", "another kernel")
    told = replace(saved(path), untold=untold, raw_tracepoints={}, offsets={}, functions={})
    assert resolve(event, told) == Unsupported(event.name, untold.reason, (untold.way_out,))
    for conditions, word, way_out in (
        (Conditions(lockdown="confidentiality"), "locked down", "lockdown=integrity"),
        (Conditions(missing_capabilities=("CAP_SYS_ADMIN",)), "CAP_SYS_ADMIN", "on the host"),
    ):
        found = resolve(event, replace(saved(path), conditions=conditions))
        assert isinstance(found, Unsupported)
        assert word in found.reason
        assert way_out in found.ways_out[0]


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_functions_of_libraries_need_uprobes(path: Path) -> None:
    facts = saved(path)
    event = catalog.BY_NAME["GPU call"]
    assert catalog.lack_of_uprobes(event, facts) is None
    lacking = catalog.lack_of_uprobes(event, replace(facts, uprobes=False))
    assert lacking is not None
    assert lacking.event == "GPU call"
    assert lacking.ways_out == ("boot a kernel built with CONFIG_UPROBE_EVENTS",)


@pytest.mark.parametrize(
    ("built", "modules", "way_out"),
    [
        ("n", "y", "boot one that has it"),
        ("m", "y", "modprobe fuse"),
        ("m", "n", "CONFIG_FUSE_FS"),
        ("", "", "CONFIG_FUSE_FS"),
    ],
)
def test_a_kernel_that_tells_nothing_of_fuse(
    facts: KernelFacts, built: str, modules: str, way_out: str
) -> None:
    left = {name: at for name, at in facts.offsets.items() if not name.startswith("FUSE")}
    config = {"FUSE_FS": built, "DEBUG_INFO_BTF_MODULES": modules} if built else {}
    lack = catalog.lack_of_members(replace(facts, offsets=left, config=config))
    assert lack is not None
    assert way_out in lack.way_out


def fault_family(facts: KernelFacts) -> str:
    found = resolve(BY_NAME["page fault"], facts)
    assert isinstance(found, Attachment)
    return found.points[0].family


def test_a_backend_does_not_hold_for_what_has_one_way_only() -> None:
    facts = saved(FACTS / "debian-6.12.json")
    assert not catalog.is_forced(BY_NAME["system call"], "kprobe")
    assert resolve(BY_NAME["system call"], facts, "kprobe") == resolve(
        BY_NAME["system call"], facts
    )


def compiled(facts: KernelFacts, backend: str | None) -> set[str]:
    points = catalog.compiled_points(facts, backend)
    assert len({point.program for point in points}) == len(points)
    return {point.program for point in points}


@pytest.mark.parametrize(
    ("kernel", "families"), [("6.12", ["raw_tracepoint"]), ("6.1", ["fentry", "kprobe"])]
)
def test_what_may_be_refused_has_others_behind_it(kernel: str, families: list[str]) -> None:
    facts = saved(FACTS / f"debian-{kernel}.json")
    found = catalog.candidates(BY_NAME["page fault"], facts)
    assert not isinstance(found, Unsupported)
    assert [each.points[0].family for each in found] == families
    programs = compiled(facts, "auto")
    assert ("on_filemap_fault_kprobe" in programs) == ("kprobe" in families)
    assert {"on_filemap_fault_kprobe", "on_filemap_fault_fentry_backup"} <= (compiled(facts, None))


def test_the_device_of_a_request_is_found_by_one_way_or_another() -> None:
    newest = saved(FACTS / "debian-7.x.json")
    assert "FUSE_REQ_FM" not in newest.offsets
    assert catalog.missing_offsets(newest) == ()
    left = {name: at for name, at in newest.offsets.items() if name != "FUSE_CHAN_CONN"}
    assert catalog.missing_offsets(replace(newest, offsets=left)) == ("fuse_req.fm",)


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_saved_kernels_have_every_member(path: Path) -> None:
    assert catalog.missing_offsets(saved(path)) == ()


def test_a_system_call_is_seen_by_its_exit_first(facts: KernelFacts) -> None:
    assert targets(resolve(BY_NAME["system call"], facts)) == ["sys_exit", "sys_enter"]


def test_a_missing_tracepoint_is_named(facts: KernelFacts) -> None:
    older = without(facts, "mm_filemap_fault", "fuse_request_end")
    assert "mm_filemap_fault" in reason(resolve(BY_NAME["page fault"], older, "tracepoint"))
    assert "fuse_request_end" in reason(resolve(BY_NAME["request ended"], older, "tracepoint"))
    assert targets(resolve(BY_NAME["request queued"], older)) == ["fuse_request_send"]


def test_all_missing_tracepoints_are_named_once(facts: KernelFacts) -> None:
    found = resolve(BY_NAME["task"], without(facts, "task_newtask", "sched_process_exit"))
    assert found == Unsupported(
        "task",
        "this kernel lacks the tracepoint sched_process_exit; "
        "this kernel lacks the tracepoint task_newtask",
        ("please report this kernel to the cvmprof project",),
    )


def test_one_missing_tracepoint_takes_the_whole_event(facts: KernelFacts) -> None:
    found = resolve(BY_NAME["page fault end"], without(facts, "signal_generate"))
    assert "signal_generate" in reason(found)
    assert "page-faults" not in reason(found)  # software events exist everywhere


def test_interrupts_fall_back_to_those_of_every_machine(facts: KernelFacts) -> None:
    other_machine = without(
        facts,
        "local_timer_entry",
        "local_timer_exit",
        "call_function_entry",
        "call_function_exit",
        "call_function_single_entry",
        "call_function_single_exit",
    )
    assert targets(resolve(BY_NAME["interrupt"], other_machine)) == [
        "softirq_exit",
        "irq_handler_exit",
        "softirq_entry",
        "irq_handler_entry",
    ]


def test_interrupts_are_unsupported_without_soft_ones(facts: KernelFacts) -> None:
    found = reason(resolve(BY_NAME["interrupt"], without(facts, "softirq_entry")))
    assert found == "this kernel lacks the tracepoint softirq_entry"  # named once for two tries


def test_a_kernel_of_nothing() -> None:
    bare = KernelFacts("0.01", "x86_64")
    assert [e.name for e in catalog.EVENTS if isinstance(resolve(e, bare), Attachment)] == []
    assert "task_struct.pid" in catalog.missing_offsets(bare)
    assert "folio.flags" not in catalog.missing_offsets(bare)  # the programs do without


def test_a_missing_member_is_named(facts: KernelFacts) -> None:
    left = {name: at for name, at in facts.offsets.items() if name != "FUSE_REQ_IN_H_UNIQUE"}
    assert catalog.missing_offsets(replace(facts, offsets=left)) == ("fuse_req.in.h.unique",)


def test_uprobes_go_through_one_link_where_the_kernel_can(facts: KernelFacts) -> None:
    assert catalog.uprobe_family(facts) == "uprobe_multi"
    assert catalog.uprobe_family(replace(facts, enumerators={})) == "uprobe"


def test_only_that_is_mandatory_without_which_nothing_can_be_said() -> None:
    mandatory = {event.name for event in catalog.EVENTS if event.mandatory}
    assert mandatory == {"system call", "off CPU", "wake", "task"}


@pytest.mark.parametrize("event", catalog.BY_NAME.values(), ids=lambda event: event.name)
def test_every_event_says_what_it_shows_and_what_is_missing_without_it(event: LogicalEvent) -> None:
    assert 0 < len(event.shows) <= 38
    assert len(event.without) > len("has no rows")
    assert event.shows != event.without
    assert lost(event.name) == event.without


def test_what_is_observed_without_a_program_is_an_event_too() -> None:
    assert lost("socket sample") == "the network's round trips and losses have no rows"
    assert lost("GPU activity") == "when a GPU was busy is not known"
    assert lost("no such event") is None


def test_every_tracepoint_that_is_attached_is_a_fact_that_is_gathered() -> None:
    attached = {
        point.target
        for event in catalog.EVENTS
        for points in event.alternatives
        for point in points
        if point.family == catalog.RAW_TRACEPOINT
    }
    assert attached == set(kernel.RAW_TRACEPOINTS)


def test_every_daemon_function_has_a_number() -> None:
    functions = [function.function for function in catalog.DAEMON_FUNCTIONS]
    assert set(functions) <= set(events.DAEMON_FUNCTIONS[1:])
    assert catalog.DAEMON_FUNCTIONS[-1].entry == "on_cachemanager_open_entry"
    assert catalog.DAEMON_FUNCTIONS[0].exit == "on_cvmfs_lookup_exit"


def test_functions_of_the_driver_are_numbered_as_the_programs_know_them() -> None:
    for function in catalog.DRIVER_FUNCTIONS:
        assert events.GPU_FUNCTIONS[function.number] == function.name
        assert function.counted == (function.number <= events.GPU_LAST_COUNTED)
    by_name = {function.name: function for function in catalog.DRIVER_FUNCTIONS}
    copy, launch = by_name["cuMemcpyHtoDAsync"], by_name["cuLaunchKernel"]
    assert (copy.cookie >> 8, copy.cookie & 0xFF) == (3, copy.number)
    assert (copy.entry, copy.exit) == ("on_cumemcpyhtodasync_entry", "on_cumemcpyhtodasync_exit")
    assert launch.cookie == 1
    assert max(function.number for function in catalog.DRIVER_FUNCTIONS) < 256
