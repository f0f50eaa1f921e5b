"""The programs compiled for every machine of the table, on whichever this one is: what they read.

Where a register holds the context, or what was loaded of it, each read through it is noted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cvmprof.probes.kernel import KernelFunction, running_kernel
from cvmprof.probes.machines import MACHINES
from cvmprof.probes.programs import Options
from cvmprof.profiler.record import load

#: include/uapi/linux/bpf.h: BPF_FUNC_probe_read_kernel
_PROBE_READ_KERNEL = 113
_CONTEXT, _STACK = 1, 10
_MOVE, _ADD, _LOADS, _STORE, _WIDE = 0xBF, 0x07, (0x61, 0x79), 0x7B, 0x18
_CALL, _EXIT, _JUMP = 0x85, 0x95, 0x05
#: operation, destination, source, offset, number
_Instruction = tuple[int, int, int, int, int]

#: offsets in struct pt_regs: rdi, rsi, rdx, rcx and rax; x0 to x3 and x0
FUNCTIONS = {"x86_64": ((112, 104, 96, 88), 80), "aarch64": ((0, 8, 16, 24), 0)}
#: rdi, rsi, rdx, r10, r8, r9 and orig_rax; orig_x0, x1 to x5 and x8
CALLS = {"x86_64": ((112, 104, 96, 56, 72, 64), 120), "aarch64": ((272, 8, 16, 24, 32, 40), 64)}
#: what else is read of the registers when a system call begins: pstate, of a 32-bit task
COMPAT = {"x86_64": set[int](), "aarch64": {264}}


@dataclass(frozen=True)
class Pointer:
    """A place: bytes after what was found at an offset of the context; or of the context itself."""

    base: int | None
    offset: int


#: what registers hold, by their numbers, and slots of the stack, by their negative offsets
State = frozenset[tuple[int, Pointer]]


@dataclass
class Reads:
    """What a program reads: of the context, and of the kernel's memory through it."""

    context: set[int] = field(default_factory=set[int])
    memory: set[Pointer] = field(default_factory=set[Pointer])

    def step(self, code: _Instruction, state: State) -> State:
        """What is held after an instruction."""
        operation, to, of, offset, number = code
        held = dict(state)
        moved = held.get(of)
        if operation == _CALL:
            if number == _PROBE_READ_KERNEL and 3 in held:
                self.memory.add(held[3])
            return frozenset(each for each in state if not 0 <= each[0] <= 5)
        if operation == _STORE and to == _STACK:
            to = offset
        elif operation in _LOADS:
            moved = held.get(offset) if of == _STACK else self._load(moved, offset)
        elif operation == _ADD and to in held:
            moved = replace(held[to], offset=held[to].offset + number)
        elif operation & 7 in (2, 3, 5, 6):  # other stores, and jumps
            return state
        elif operation != _MOVE:
            moved = None
        held.pop(to, None)
        return frozenset({**held, to: moved}.items() if moved else held.items())

    def _load(self, at: Pointer | None, offset: int) -> Pointer | None:
        if at is None or at.base is not None:
            return None
        self.context.add(at.offset + offset)
        return Pointer(at.offset + offset, 0)


def reads(bpf: Any, program: str) -> Reads:
    """Follows a program from its beginning on every way that it can take."""
    code = [
        (operation, registers & 15, registers >> 4, offset, number)
        for operation, registers, offset, number in struct.iter_unpack(
            "<BBhi", bpf.dump_func(program.encode())
        )
    ]
    found, begin = Reads(), (0, frozenset({(_CONTEXT, Pointer(None, 0))}))
    seen, waiting = {begin}, [begin]
    while waiting:
        at, state = waiting.pop()
        after = found.step(code[at], state)
        new = {(to, after) for to in _next(at, code[at])} - seen
        seen |= new
        waiting += new
    return found


def _next(at: int, code: _Instruction) -> tuple[int, ...]:
    operation, _, _, offset, _ = code
    if operation == _EXIT:
        return ()
    if operation == _JUMP:
        return (at + 1 + offset,)
    if operation & 7 in (5, 6) and operation != _CALL:
        return at + 1, at + 1 + offset
    return (at + 2,) if operation == _WIDE else (at + 1,)


@pytest.fixture(scope="module", params=MACHINES)
def compiled(request: pytest.FixtureRequest, bcc: Any) -> Iterator[tuple[str, Any]]:
    """A machine's name, and everything compiled for it."""
    machine = str(request.param)
    places = {"filemap_fault": 1, "fuse_dev_queue_req": 2, "fuse_request_end": 1}
    functions = {name: KernelFunction("vmlinux", True, place) for name, place in places.items()}
    facts = replace(running_kernel(), machine=machine, functions=functions)
    bpf = load.compile_programs(bcc, facts, Options())
    yield machine, bpf
    bpf.cleanup()


def test_a_probed_functions_arguments_and_result(compiled: tuple[str, Any]) -> None:
    machine, bpf = compiled
    arguments, result = FUNCTIONS[machine]
    assert reads(bpf, "on_filemap_fault_kprobe").context == {arguments[0]}
    assert reads(bpf, "on_request_queued_kprobe").context == {arguments[1]}
    assert reads(bpf, "on_call_entry").context == set(arguments)
    assert reads(bpf, "on_call_exit").context == {result}


def test_a_system_calls_arguments_when_it_begins(compiled: tuple[str, Any]) -> None:
    machine, bpf = compiled
    found = reads(bpf, "on_syscall_entry")
    registers = {at.offset for at in found.memory if at.base == 0}
    assert registers == set(CALLS[machine][0]) | COMPAT[machine]
    assert found.context == {0, 8}


def test_a_system_calls_number_and_arguments_when_it_ends(compiled: tuple[str, Any]) -> None:
    machine, bpf = compiled
    arguments, number = CALLS[machine]
    found = reads(bpf, "on_syscall_exit")
    registers = {at.offset for at in found.memory if at.base == 0}
    assert registers == {*arguments, number}
    assert found.context == {0, 8}
