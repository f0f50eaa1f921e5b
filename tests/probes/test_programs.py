"""What is given to the compiler. That it loads is tested beside the loader."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cvmprof.probes import catalog, events, programs
from cvmprof.probes.kernel import KernelFacts, restored
from cvmprof.probes.programs import Options, compile_flags


@pytest.fixture
def facts() -> KernelFacts:
    path = Path(__file__).parent / "facts" / "6.18.json"
    return restored(json.loads(path.read_text(encoding="utf-8")))


def test_offsets_and_system_call_numbers_are_macros(facts: KernelFacts) -> None:
    flags = compile_flags(replace(facts, offsets={"INODE_I_INO": 64}), Options())
    assert "-DOFFSET_INODE_I_INO=64" in flags
    assert "-DSYSCALL_EXECVE=59" in flags
    assert "-DSYSCALL_EXECVEAT=322" in flags
    assert "-DUPROBE_MULTI_TYPE=48" in flags


def test_what_a_machine_has_are_macros(facts: KernelFacts) -> None:
    """sys/user.h: struct user_regs_struct begins as x86's struct pt_regs does."""
    flags = compile_flags(facts, Options())
    for number, offset in enumerate((112, 104, 96, 56, 72, 64), 1):  # rdi rsi rdx r10 r8 r9
        assert f"-DOFFSET_ARGUMENT_{number}={offset}" in flags
    assert {"-DOFFSET_SYSCALL_NUMBER=120", "-DPAGE_BITS=12"} <= set(flags)
    other = compile_flags(replace(facts, machine="aarch64", page_bytes=65536), Options())
    for number, offset in enumerate((272, 8, 16, 24, 32, 40), 1):
        assert f"-DOFFSET_ARGUMENT_{number}={offset}" in other
    assert {"-DOFFSET_SYSCALL_NUMBER=64", "-DPAGE_BITS=16", "-DSYSCALL_EXECVE=221"} <= set(other)


def test_options_are_macros(facts: KernelFacts) -> None:
    plain = compile_flags(facts, Options())
    assert not {"-DEVERY_READ", "-DALL_FILES"} & set(plain)
    both = set(compile_flags(facts, Options(every_read=True, all_files=True, hit_run_ns=7)))
    assert both - set(plain) == {"-DEVERY_READ", "-DALL_FILES", "-DHIT_RUN_NS=7"}
    hidden = set(compile_flags(facts, Options(names_hidden=True)))
    assert hidden - set(plain) == {"-DNAMES_HIDDEN"}
    driver = set(compile_flags(facts, Options(gpu_calls=True)))
    assert driver - set(plain) == {"-DGPU_CALLS", "-DCALL_PROGRAMS=5"}


def test_what_observes_the_driver_is_there_only_when_asked_for(facts: KernelFacts) -> None:
    older = replace(facts, enumerators={})  # without uprobe_multi
    source = programs.source(older, Options())
    whole = programs.source(older, Options(gpu_calls=True))
    for text in ("BPF_RINGBUF_OUTPUT(gpu_call_ring", "int on_cumemcpy_entry("):
        assert text not in source
        assert text in whole
    (copy,) = re.findall(r"int on_cumemcpyhtod_entry.*", whole)
    number = events.GPU_FUNCTIONS.index("cuMemcpyHtoD") | 3 << 8
    assert f"is_target() ? go_to(ctx, {number}, 2, EVENT_GPU_CALL) : 0" in copy
    (back,) = re.findall(r"int on_cumemcpyhtod_exit.*", whole)
    assert f"go_to(ctx, {number}, 3, EVENT_GPU_CALL)" in back
    (launch,) = re.findall(r"int on_culaunchkernel_entry.*", whole)
    assert "go_to(ctx, 1, 4, EVENT_GPU_LAUNCH)" in launch


@pytest.mark.parametrize(
    ("preemption", "slots"), [("none", 1), ("voluntary", 1), ("lazy", 16), ("unknown", 16)]
)
def test_threads_have_memory_of_their_own_where_they_are_preempted(
    facts: KernelFacts, preemption: str, slots: int
) -> None:
    flags = compile_flags(replace(facts, preemption=preemption), Options())
    assert f"-DTHREAD_SLOTS={slots}" in flags


def test_a_machine_without_a_table_of_calls(facts: KernelFacts) -> None:
    with pytest.raises(KeyError):
        compile_flags(replace(facts, machine="pdp11"), Options())


def test_every_attached_program_is_in_the_source_once(facts: KernelFacts) -> None:
    older = replace(facts, enumerators={})  # without uprobe_multi
    source = programs.source(older, Options(gpu_calls=True))
    defined = re.findall(r"^int (on_\w+)\(", source, re.MULTILINE)
    attached = {point.program for point in catalog.every_point()}
    functions = {name for each in catalog.DAEMON_FUNCTIONS for name in (each.entry, each.exit)}
    for each in catalog.DRIVER_FUNCTIONS:
        functions |= {each.entry} if each.counted else {each.entry, each.exit}
    shared = {*programs.CALL_PROGRAMS, *programs.GPU_PROGRAMS}
    assert set(defined) == attached | functions | shared
    assert len(defined) == len(set(defined))


def program(facts: KernelFacts, backend: str | None, name: str) -> str:
    """The text of a program as it is compiled for a backend, without blanks."""
    texts = programs.attached_programs(facts, Options(backend=backend))
    (text,) = [text for text in texts if text.startswith(f"int {name}(")]
    return text.replace(" ", "")


def test_a_program_reads_the_arguments_of_its_kind_of_attach_point(facts: KernelFacts) -> None:
    raw = program(facts, "auto", "on_filemap_fault_entry")
    assert raw.endswith("*ctx){returnbegin_fault_at(ctx->args[0],ctx->args[1]);}")
    assert facts.functions["fuse_dev_queue_req"].argument == 2
    fentry = program(facts, None, "on_request_queued_fentry")
    assert fentry.startswith("inton_request_queued_fentry(u64*ctx)")
    assert "returnrequest_queued(ctx[1],false);" in fentry
    kprobe = program(facts, None, "on_request_queued_kprobe")
    assert kprobe.startswith("inton_request_queued_kprobe(structpt_regs*ctx)")
    assert "returnrequest_queued(ctx->FUNCTION_ARGUMENT_2,false);" in kprobe
    end = program(facts, None, "on_asynchronous_read_kretprobe")
    assert "returnend_asynchronous_read(ctx->FUNCTION_RESULT);" in end
    end = program(facts, None, "on_asynchronous_read_fexit")
    assert "returnend_asynchronous_read(ctx[2]);" in end


def test_programs_of_a_pair_note_that_they_ran(facts: KernelFacts) -> None:
    pair = catalog.PAIRS.index("on_request_queued")
    preempting = replace(facts, preemptible_tracepoints=True)
    first = program(preempting, "auto", "on_request_queued")
    assert f"note_run({pair},false);returnrequest_queued(ctx->args[0],false);" in first
    backup = program(preempting, "auto", "on_request_queued_backup")
    assert f"note_run({pair},true);returnrequest_queued(ctx->args[0],true);" in backup
    assert "note_run" not in program(facts, "auto", "on_request_queued")
    # those of system calls count themselves what both missed
    assert "note_run" not in program(preempting, "auto", "on_syscall_entry_backup")


def test_what_a_backend_cannot_attach_is_not_compiled(facts: KernelFacts) -> None:
    chosen = replace(facts, preemption="none")
    source = programs.source(chosen, Options(backend="tracepoint"))
    of_functions = re.findall(
        r"^int (on_\w+_(?:fentry|fexit|kprobe|backup))\(", source, re.MULTILINE
    )
    # the event that no tracepoint observes
    assert of_functions == ["on_asynchronous_read_fexit", "on_asynchronous_read_fentry"]
    assert "int on_request_queued(" in source


def test_every_ring_counts_its_losses_under_an_event_that_exists() -> None:
    assert set(programs.RING_EVENTS) == {layout.name for layout in events.RINGS}
    assert set(programs.RING_EVENTS.values()) <= set(catalog.EVENT_NAMES)


def test_no_kernel_header_is_asked_for(facts: KernelFacts) -> None:
    included = set(re.findall(r"#include\s+[<\"](\S+)[>\"]", programs.source(facts, Options())))
    assert included == {"linux/types.h", "uapi/linux/ptrace.h"}
    assert all((programs.HEADERS / "include" / path).is_file() for path in included)
