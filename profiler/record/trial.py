"""What the kernel says to a program that does nothing: facts promise, and some kernels refuse yet.

include/uapi/linux/bpf.h: BPF_PROG_LOAD with the part of ``union bpf_attr`` that it reads.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import replace

from ...probes.btf import Btf
from ...probes.kernel import VMLINUX_NAME, KernelFacts
from .bpf_call import bpf

_PROG_LOAD, _TRACING, _FENTRY = 5, 26, 24
_RETURN_0 = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit


class _Load(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("instruction_count", ctypes.c_uint32),
        ("instructions", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log", ctypes.c_uint64 * 2),
        ("version_and_flags", ctypes.c_uint32 * 2),
        ("name", ctypes.c_char * 16),
        ("interface", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("types", ctypes.c_uint64 * 4),
        ("type_count", ctypes.c_uint32),
        ("attach_id", ctypes.c_uint32),
        ("attach_to", ctypes.c_uint64),
    ]


def tried(facts: KernelFacts) -> KernelFacts:
    """The facts, with what the kernel says to an fentry program where it should take one."""
    at = next((name for name, each in facts.functions.items() if each.module == VMLINUX_NAME), None)
    if facts.untold is not None or not facts.trampolines or at is None:
        return facts
    identifier = Btf.of_running_kernel().function_id(at)
    if identifier is None or facts.conditions.hindrances():
        return facts
    refused = _refused(identifier)
    return replace(facts, conditions=replace(facts.conditions, fentry_refused=refused))


def _refused(function: int) -> str:
    """Why a program cannot be loaded for a function's entry; "" where it can."""
    code, legal = ctypes.create_string_buffer(_RETURN_0), ctypes.create_string_buffer(b"GPL")
    request = _Load(
        kind=_TRACING, instruction_count=2, instructions=ctypes.addressof(code),
        license=ctypes.addressof(legal), attach_type=_FENTRY, attach_id=function,
    )  # fmt: skip
    loaded = bpf(_PROG_LOAD, request)
    if loaded < 0:
        return os.strerror(ctypes.get_errno())
    os.close(loaded)
    return ""
