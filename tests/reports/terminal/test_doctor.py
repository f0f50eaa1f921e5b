"""What the doctor says, beside the texts kept in golden/."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cvmprof.probes.conditions import Conditions, Lack
from cvmprof.probes.diagnosis import diagnose
from cvmprof.probes.gpus import Gpu, Gpus
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


def gpu_lines(facts: KernelFacts, gpus: Gpus) -> list[str]:
    lines = render_doctor(diagnose(facts, gpus=gpus)).splitlines()
    return lines[lines.index("GPUs") :]


def test_a_machine_without_a_gpu_is_one_line(facts: KernelFacts) -> None:
    assert gpu_lines(facts, Gpus()) == ["GPUs", "  no NVIDIA driver"]


def test_gpus_and_what_is_there_to_observe_them(facts: KernelFacts) -> None:
    whole = Gpu(0, "GPU-1111", "H100", 80 << 30)
    gpus = Gpus("580.65.06", (whole, Gpu(1, "gpu1", is_divided=True)), "/lib/libcuda.so.1")
    assert gpu_lines(facts, gpus) == [
        "GPUs",
        "  NVIDIA driver         580.65.06",
        "  GPU 0                 H100, 80 GiB, GPU-1111",
        "  GPU 1                 gpu1, divided into MIG instances",
        "  libcuda               /lib/libcuda.so.1",
        "  CUPTI                 not found; the command's own environment may have one",
        "  samples               by NVML, 20 times a second",
    ]


def test_why_gpus_are_not_recorded(facts: KernelFacts) -> None:
    others = ("AMD GPU card0", "Intel GPU card1")
    assert gpu_lines(facts, Gpus(others=others)) == [
        "GPUs",
        "  no NVIDIA driver",
        "  AMD GPU card0         not recorded: only GPUs of NVIDIA are",
        "  Intel GPU card1       not recorded: only GPUs of NVIDIA are",
    ]
    lines = gpu_lines(facts, Gpus(cupti="/c", unsampled="NVML cannot be used: Timeout"))
    assert lines[1:] == [
        "  NVIDIA driver         not loaded",
        "  libcuda               not found",
        "  CUPTI                 /c",
        "  samples               no: NVML cannot be used: Timeout",
    ]


def test_json_has_all_that_is_known(facts: KernelFacts) -> None:
    told = diagnose(facts, gpus=Gpus("580.65.06", (Gpu(0, "GPU-1111"),))).as_json()
    assert told["kernel"]["config"]["FUSE_FS"] == "y"
    assert told["kernel"]["functions"]["filemap_fault"]["module"] == "vmlinux"
    assert told["conditions"]["lockdown"] == ""
    assert {each["event"] for each in told["events"]} >= {"wake", "daemon call"}
    unknown = {"name": None, "memory_bytes": None, "is_divided": False}
    assert told["gpus"]["driver"] == "580.65.06"
    assert told["gpus"]["devices"] == ({"index": 0, "uuid": "GPU-1111", **unknown},)
