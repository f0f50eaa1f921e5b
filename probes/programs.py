"""The text of the BPF programs for one kernel: definitions, the .bpf.c files, attached programs.

The .bpf.c files hold the logic; what differs between kernels or runs reaches them as macros and
generated text. The programs that are attached are generated from the catalogue: each calls one
function of those files. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import events, fuse, syscalls
from .catalog import (
    BACKUP,
    DAEMON_FUNCTIONS,
    DRIVER_FUNCTIONS,
    EVENT_NAMES,
    FENTRY,
    FEXIT,
    KPROBE,
    KRETPROBE,
    PAIRS,
    RAW_TRACEPOINT,
    SOFTWARE_EVENT,
    UPROBE,
    AttachPoint,
    DriverFunction,
    compiled_points,
    preempts,
    uprobe_family,
)
from .kernel import KernelFacts
from .machines import MACHINES, Machine

#: the programs at a client function's entry and return, also by their place in ``call_programs``
CALL_PROGRAMS = ("on_call_entry", "on_call_exit")
#: the programs at functions of the CUDA driver: where a call is entered and left, where it is only
#: counted; in ``call_programs`` they follow
GPU_CALL, GPU_RETURN, GPU_LAUNCH = "on_gpu_call", "on_gpu_return", "on_gpu_launch"
GPU_PROGRAMS = (GPU_CALL, GPU_RETURN, GPU_LAUNCH)

HEADERS = Path(__file__).parent / "headers"
_SOURCES = Path(__file__).parent / "bpf"
#: in the order in which they build on one another
SOURCE_FILES = (
    "state.bpf.c", "uprobes.bpf.c", "gpu.bpf.c", "files.bpf.c", "operations.bpf.c", "tasks.bpf.c",
    "requests.bpf.c", "connections.bpf.c", "daemon.bpf.c", "syscalls.bpf.c", "asynchronous.bpf.c",
)  # fmt: skip


#: slots of a CPU's memory where threads can be preempted in a program: two threads share one if
#: their numbers are equal modulo this
_THREAD_SLOTS = 16


@dataclass(frozen=True)
class Options:
    """What a recording contains, and by which backend; without one every program is compiled.

    ``gpu_calls``: whether calls of the CUDA driver are observed. ``names_hidden``: whether names of
    processes that are not traced are left out.
    """

    every_read: bool = False
    all_files: bool = False
    backend: str | None = None
    gpu_calls: bool = False
    names_hidden: bool = False
    hit_run_ns: int = 10_000_000


def compile_flags(facts: KernelFacts, options: Options) -> list[str]:
    """The macros: offsets and enumerators of this kernel, its machine, and the options.

    Raises KeyError if the machine is not supported.
    """
    values: dict[str, int | str] = {
        f"OFFSET_{name}": offset for name, offset in facts.offsets.items()
    }
    values.update(facts.enumerators)
    values["PAGE_BITS"] = facts.page_bytes.bit_length() - 1
    values["HIT_RUN_NS"] = options.hit_run_ns
    values["CALL_PROGRAMS"] = len(tail_called(options))
    values["THREAD_SLOTS"] = _THREAD_SLOTS if preempts(facts) else 1
    if facts.preemptible_tracepoints:
        values["PREEMPTIBLE_TRACEPOINTS"] = 1
    values.update(_machine(MACHINES[facts.machine]))
    flags = [f"-D{name}={value}" for name, value in sorted(values.items())]
    flags += ["-DEVERY_READ"] * options.every_read + ["-DALL_FILES"] * options.all_files
    flags += ["-DGPU_CALLS"] * options.gpu_calls + ["-DNAMES_HIDDEN"] * options.names_hidden
    # debug information takes a tenth of the compile time; bcc runs all of LLVM's passes itself, so
    # clang need not run them first
    flags += ["-g0", "-Xclang", "-disable-llvm-passes"]
    return flags


def tail_called(options: Options) -> tuple[str, ...]:
    """The programs that those of single functions call, in the order of ``call_programs``."""
    return CALL_PROGRAMS + (GPU_PROGRAMS if options.gpu_calls else ())


def rings(options: Options) -> tuple[events.Layout, ...]:
    """The layouts whose rings a recording has."""
    return tuple(each for each in events.RINGS if options.gpu_calls or each.name not in _GPU_RINGS)


_GPU_RINGS = {"gpu_call", "gpu_launches", "gpu_library"}


def source(facts: KernelFacts, options: Options) -> str:
    """The whole text that bcc compiles for a kernel."""
    parts = ["#include <linux/types.h>\n#include <uapi/linux/ptrace.h>\n", events.c_definitions()]
    parts += [fuse.c_definitions()]
    parts += [_enumeration("CLASS", syscalls.TARGET_CLASSES)]
    parts += [_enumeration("CLASS_DAEMON", syscalls.DAEMON_CLASSES)]
    parts += [_enumeration("EVENT", EVENT_NAMES), _COUNTERS]
    parts += [_ring(layout) for layout in rings(options)]
    for name in SOURCE_FILES:
        parts.append(f'#line 1 "{name}"\n' + (_SOURCES / name).read_text())
    parts += ['#line 1 "generated programs"\n', *attached_programs(facts, options)]
    if uprobe_family(facts) == UPROBE:
        parts += [_call_programs(function.function) for function in DAEMON_FUNCTIONS]
        parts += [_driver_programs(each) for each in DRIVER_FUNCTIONS if options.gpu_calls]
    return "\n".join(parts)


def attached_programs(facts: KernelFacts, options: Options) -> tuple[str, ...]:
    """The C text of each program that may be attached to the kernel, as the catalogue has it."""
    points = compiled_points(facts, options.backend)
    names = {point.program for point in points}
    return tuple(_program(point, facts, point.program + BACKUP in names) for point in points)


#: what a program's context is
_CONTEXTS = {
    RAW_TRACEPOINT: "struct bpf_raw_tracepoint_args",
    SOFTWARE_EVENT: "void",
    KPROBE: "struct pt_regs",
    KRETPROBE: "struct pt_regs",
    FENTRY: "u64",
    FEXIT: "u64",
}
#: how a program reads an argument, numbered from 1
_ARGUMENTS = {
    RAW_TRACEPOINT: "ctx->args[{index}]",
    SOFTWARE_EVENT: "",
    KPROBE: "ctx->FUNCTION_ARGUMENT_{number}",
    KRETPROBE: "",
    FENTRY: "ctx[{index}]",
    FEXIT: "ctx[{index}]",
}


def _program(point: AttachPoint, facts: KernelFacts, has_backup: bool) -> str:
    """A program. One of a pair also notes that it ran."""
    form, function = _ARGUMENTS[point.family], facts.functions.get(point.target)
    arguments = [form.format(index=index, number=index + 1) for index in range(4)]
    is_backup = point.program.endswith(BACKUP)
    calls = point.calls.format(
        "",  # arguments are numbered from 1
        *arguments,
        argument=arguments[function.argument - 1] if function else "",
        result="ctx->FUNCTION_RESULT",
        backup="true" if is_backup else "false",
        ctx="ctx",
    )
    name = point.program.removesuffix(BACKUP)
    note = ""
    if name in PAIRS and (is_backup or has_backup):
        note = f"note_run({PAIRS.index(name)}, {'true' if is_backup else 'false'});"
    return f"int {point.program}({_CONTEXTS[point.family]} *ctx) {{ {note} return {calls}; }}"


def _machine(machine: Machine) -> dict[str, int | str]:
    values: dict[str, int | str] = {"PT_REGS_MEMBERS": ",".join(machine.registers)}
    for index, name in enumerate(machine.call_arguments, 1):
        values[f"OFFSET_ARGUMENT_{index}"] = machine.offset(name)
    values["OFFSET_SYSCALL_NUMBER"] = machine.offset(machine.call_number)
    for index, name in enumerate(machine.arguments, 1):
        values[f"FUNCTION_ARGUMENT_{index}"] = name
    values["FUNCTION_RESULT"] = machine.result
    values["STACK_POINTER"] = "sp"
    values["RETURN_ADDRESS_BYTES"] = machine.return_address_bytes
    if machine.compat_register:
        values["OFFSET_COMPAT_REGISTER"] = machine.offset(machine.compat_register)
    values["COMPAT_MASK"] = machine.compat_mask
    values["SYSCALL_EXECVE"] = machine.calls["execve"]
    values["SYSCALL_EXECVEAT"] = machine.calls["execveat"]
    return values


def _enumeration(prefix: str, names: tuple[str, ...]) -> str:
    words = (name.upper().replace(" ", "_").replace("-", "_") for name in names)
    body = ", ".join(f"{prefix}_{word}" for word in words)
    return f"enum {{ {body} }};\n"


_COUNTERS = f"""
BPF_PERCPU_ARRAY(event_hits, u64, {len(EVENT_NAMES)});
BPF_PERCPU_ARRAY(event_losses, u64, {len(EVENT_NAMES) * len(events.LOSS_CAUSES)});

static __always_inline void count_hit(u32 event) {{
    u64 *count = event_hits.lookup(&event);
    if (count)
        ++*count;
}}

static __always_inline void count_loss(u32 event, u32 cause) {{
    u32 index = event * {len(events.LOSS_CAUSES)} + cause;
    u64 *count = event_losses.lookup(&index);
    if (count)
        ++*count;
}}

BPF_PERCPU_ARRAY(first_ran, u32, {len(PAIRS)} * THREAD_SLOTS);
BPF_PERCPU_ARRAY(stood_in, u64, {len(PAIRS)});
"""

#: which logical event a ring's losses are counted under
RING_EVENTS = {
    "operation": "operation", "hit": "operation", "request": "request ended",
    "served": "request served", "blocked": "off CPU", "cpu_wait": "off CPU", "call": "daemon call",
    "download": "download", "work": "download", "cache_file": "cache directory", "task": "task",
    "file": "file", "failure": "operation", "gpu_call": "GPU call", "gpu_launches": "GPU launch",
    "gpu_library": "GPU call",
}  # fmt: skip


def _ring(layout: events.Layout) -> str:
    event = RING_EVENTS[layout.name].upper().replace(" ", "_")
    return f"""
BPF_RINGBUF_OUTPUT({layout.name}_ring, {layout.ring_pages});
static __always_inline void emit_{layout.name}(struct {layout.name} *event) {{
    if ({layout.name}_ring.ringbuf_output(event, sizeof(*event), BPF_RB_NO_WAKEUP))
        count_loss(EVENT_{event}, LOSS_RING_FULL);
}}
"""


def _call_programs(function: str) -> str:
    name = function.replace("::", "_")
    return f"""
int on_{name.lower()}_entry(struct pt_regs *ctx) {{
    return go_to(ctx, FN_{name.upper()}, 0, EVENT_DAEMON_CALL);
}}
int on_{name.lower()}_exit(struct pt_regs *ctx) {{
    return go_to(ctx, FN_{name.upper()}, 1, EVENT_DAEMON_CALL);
}}
"""


def _driver_programs(function: DriverFunction) -> str:
    event = "EVENT_GPU_LAUNCH" if function.counted else "EVENT_GPU_CALL"
    goes_to = {function.entry: GPU_LAUNCH if function.counted else GPU_CALL}
    if not function.counted:
        goes_to[function.exit] = GPU_RETURN
    programs = (
        f"int {name}(struct pt_regs *ctx) {{ return is_target() ? go_to(ctx, {function.cookie}, "
        f"{len(CALL_PROGRAMS) + GPU_PROGRAMS.index(program)}, {event}) : 0; }}"
        for name, program in goes_to.items()
    )
    return "\n".join(programs)
