"""Facts of the running kernel, and of kernels that show less."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from cvmprof.errors import MissingDependency
from cvmprof.probes import catalog, kernel
from cvmprof.probes.btf import Btf, Member
from cvmprof.probes.conditions import Conditions


def test_the_running_kernel_has_all_that_is_mandatory() -> None:
    facts = kernel.running_kernel()
    assert facts.release == os.uname().release
    assert facts.machine == platform.machine()
    assert catalog.missing_offsets(facts) == ()
    for event in catalog.EVENTS:
        if event.mandatory:
            assert isinstance(catalog.resolve(event, facts), catalog.Attachment), event.name


def test_a_kernel_without_type_information(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Btf, "of_running_kernel", lambda: Btf((tmp_path / "absent").read_bytes()))
    with pytest.raises(MissingDependency, match="has no type information"):
        kernel.running_kernel()


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (b"\x9f\xeb\x01\x00" + bytes(3), "not little-endian BTF"),
        # a tracepoint that is a typedef of nothing is found only when it is looked up
        (
            bytes.fromhex("9feb0100 18000000 00000000 0c000000 0c000000 15000000")
            + bytes.fromhex("01000000 00000008 63000000")
            + b"\0btf_trace_sys_enter\0",
            "type 99 lies outside",
        ),
    ],
)
def test_type_information_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, damaged: bytes, said: str
) -> None:
    monkeypatch.setattr(Btf, "of_running_kernel", lambda: Btf(damaged))
    with pytest.raises(MissingDependency, match=f"cannot be read: {said}"):
        kernel.running_kernel()


def test_a_kernel_without_types_is_diagnosed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Btf, "of_running_kernel", lambda: Btf((tmp_path / "absent").read_bytes()))
    facts = kernel.diagnosed_kernel()
    assert facts.untold is not None
    assert "CONFIG_DEBUG_INFO_BTF" in facts.untold.way_out
    assert facts.release == os.uname().release
    assert kernel.restored(kernel.saved(facts)) == replace(facts, conditions=Conditions())


def test_symbols_without_addresses_are_symbols() -> None:
    """As /proc/kallsyms shows them under kernel.kptr_restrict."""
    hidden = "".join(
        f"0000000000000000 {kind} {name}\n"
        for kind, name in (
            ("T", "create_local_trace_kprobe"),
            ("T", "bpf_trampoline_link_prog"),
            ("T", "register_ftrace_direct"),
            ("t", "filemap_fault"),
            ("t", "fuse_request_end\t[fuse]"),
            ("t", "fuse_file_read_iter.constprop.0"),
            ("D", "create_local_trace_uprobe"),
            ("T", "preempt_schedule"),
        )
    )
    facts = kernel.facts_of(cast(Btf, Told(4)), "5.10", "x86_64", hidden.encode())
    assert (facts.kprobes, facts.trampolines, facts.uprobes) == (True, True, False)
    assert (facts.preemption, facts.preemptible_tracepoints) == ("unknown", False)
    assert {name: each.module for name, each in facts.functions.items()} == {
        "filemap_fault": "vmlinux",
        "fuse_request_end": "fuse",
    }


def test_trampolines_need_what_calls_them() -> None:
    alone = b"0 T bpf_trampoline_link_prog\n"
    assert not kernel.facts_of(cast(Btf, Told(4)), "5.10", "aarch64", alone).trampolines


def test_options_that_are_not_set_are_no() -> None:
    text = "CONFIG_KPROBES=y\nCONFIG_FUSE_FS=m\n# CONFIG_AIO is not set\nCONFIG_HZ=250\n"
    config = kernel.config_of(text)
    assert set(config) == set(kernel.OPTIONS)
    assert {name for name, value in config.items() if value != "n"} == {"KPROBES", "FUSE_FS"}
    assert config["FUSE_FS"] == "m"


class Told:
    """A kernel's BTF that holds what it is given."""

    def __init__(self, switch_arguments: int, **offsets: int) -> None:
        self._switch_arguments = switch_arguments
        self._offsets = offsets

    def tracepoint_arguments(self, name: str) -> int | None:
        return self._switch_arguments if name == "sched_switch" else None

    def has_struct(self, name: str) -> bool:
        return name == "fuse_req"

    def function_arguments(self, name: str) -> tuple[str, ...] | None:
        return None

    def function_id(self, name: str) -> int | None:
        return None

    def offset(self, struct_name: str, path: str) -> int | None:
        return self._offsets.get(f"{struct_name}_{path}")

    def member(self, struct_name: str, path: str) -> Member | None:
        return None

    def enumerator(self, enum_name: str, name: str) -> int | None:
        return None


def facts_told(told: Told) -> kernel.KernelFacts:
    return kernel.facts_of(cast(Btf, told), "5.10", "x86_64")


def test_where_a_switch_does_not_tell_the_state_it_is_read_from_the_task() -> None:
    """Since v5.18 the raw tracepoint passes it; v5.14 renamed the member."""
    assert facts_told(Told(3, task_struct_state=16)).offsets == {"TASK_STRUCT_STATE": 16}
    assert facts_told(Told(3, task_struct___state=24)).offsets == {"TASK_STRUCT_STATE": 24}
    assert facts_told(Told(4, task_struct_state=16)).offsets == {}
    assert facts_told(Told(3)).offsets == {}


def test_before_there_were_folios_their_members_are_pages() -> None:
    assert facts_told(Told(4, page_index=32)).offsets == {"FOLIO_INDEX": 32}
    both = Told(4, page_index=32, folio_index=40)
    assert facts_told(both).offsets == {"FOLIO_INDEX": 40}


@pytest.mark.parametrize(
    ("names", "can"),
    [
        (("bpf_trampoline_link_prog", "register_ftrace_direct"), True),
        (("bpf_trampoline_link_prog", "register_ftrace_direct_cb"), False),  # arm64 before v6.4
        (("register_ftrace_direct",), False),
    ],
)
def test_trampolines_need_functions_that_call_them(names: tuple[str, ...], can: bool) -> None:
    symbols = "".join(f"ffff800080000000 T {name}\n" for name in names).encode()
    facts = kernel.facts_of(cast(Btf, Told(4)), "6.1", "aarch64", symbols, 16384)
    assert (facts.trampolines, facts.page_bytes) == (can, 16384)
