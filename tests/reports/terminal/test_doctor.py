"""What the doctor says, beside the texts kept in golden/."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cvmprof.probes.conditions import Conditions, Lack
from cvmprof.probes.diagnosis import diagnose
from cvmprof.probes.kernel import KernelFacts
from cvmprof.reports.terminal.doctor import render_doctor
from cvmprof.tests.kernels.document import saved_facts


@pytest.fixture
def facts() -> KernelFacts:
    return saved_facts()["debian-6.12"]


def test_who_may_not_record_is_told_first_and_yet_sees_what_the_kernel_has(
    facts: KernelFacts,
) -> None:
    user = Conditions(is_root=False, missing_capabilities=("CAP_SYS_ADMIN",))
    text = render_doctor(diagnose(replace(facts, conditions=user)))
    assert text.splitlines()[1:4] == [
        "cvmprof CANNOT record here:",
        "  recording needs root: this process may not load BPF programs",
        "    to fix it: sudo cvmprof trace -- COMMAND",
    ]
    allowed = render_doctor(diagnose(facts)).splitlines()
    assert allowed[1] == "cvmprof can record here"
    assert text.splitlines()[4:] == allowed[2:]


def test_a_kernel_that_tells_nothing_has_no_table() -> None:
    bare = KernelFacts("5.14", "x86_64", untold=Lack("no types", "another kernel"))
    assert render_doctor(diagnose(bare)).splitlines() == [
        "kernel 5.14, x86_64",
        "cvmprof CANNOT record here:",
        "  no types",
        "    to fix it: another kernel",
    ]


def test_what_is_missing_has_every_way_out(facts: KernelFacts) -> None:
    left = {name: count for name, count in facts.raw_tracepoints.items() if "fuse" not in name}
    poor = replace(facts, raw_tracepoints=left, kprobes=False, trampolines=False, uprobes=False)
    lines = render_doctor(diagnose(poor)).splitlines()
    at = next(n for n, line in enumerate(lines) if "request queued  " in line)
    assert [line.strip() for line in lines[at + 1 : at + 5]] == [
        "without it: FUSE requests have no rows, and reads no cause within the mount",
        "to get it: boot a newer kernel: 6.12 has fuse_request_send",
        "or: boot a kernel built with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
        "or: boot a kernel built with CONFIG_KPROBE_EVENTS",
    ]
    assert lines[1] == (
        "cvmprof can record here, except: request queued, request ended, asynchronous read, "
        "daemon call, GPU call, GPU launch"
    )


def test_a_struct_member_that_is_missing_hinders_all(facts: KernelFacts) -> None:
    left = {name: at for name, at in facts.offsets.items() if name != "INODE_I_SB"}
    diagnosis = diagnose(replace(facts, offsets=left))
    assert diagnosis.missing_members == ("inode.i_sb",)
    assert "CANNOT record" in render_doctor(diagnosis)


def test_json_has_all_that_is_known(facts: KernelFacts) -> None:
    told = diagnose(facts).as_json()
    assert told["kernel"]["config"]["FUSE_FS"] == "y"
    assert told["kernel"]["functions"]["filemap_fault"]["module"] == "vmlinux"
    assert told["conditions"]["lockdown"] == ""
    assert {each["event"] for each in told["events"]} >= {"wake", "daemon call"}
