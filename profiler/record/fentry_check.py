"""What the kernel says to a program that does nothing: facts promise what some kernels refuse."""

from __future__ import annotations

import ctypes
import os
from dataclasses import replace

from ...probes.kernel import VMLINUX_NAME, KernelFacts
from .bpf_call import bpf
from .prog_load import PROG_LOAD, ProgLoad

_TRACING, _FENTRY = 26, 24  # enum bpf_prog_type, bpf_attach_type
_RETURN_0 = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit


def tried(facts: KernelFacts) -> KernelFacts:
    """The facts, with what the kernel says to an fentry program where it should take one."""
    found = (each.btf_id for each in facts.functions.values() if each.module == VMLINUX_NAME)
    function = next((each for each in found if each), 0)
    if facts.untold is not None or not facts.trampolines or not function:
        return facts
    if facts.conditions.hindrances():
        return facts
    refused = _refused(function)
    return replace(facts, conditions=replace(facts.conditions, fentry_refused=refused))


def _refused(function: int) -> str:
    """Why a program cannot be loaded for a function's entry; "" where it can."""
    code, legal = ctypes.create_string_buffer(_RETURN_0), ctypes.create_string_buffer(b"GPL")
    request = ProgLoad(
        prog_type=_TRACING,
        expected_attach_type=_FENTRY,
        attach_btf_id=function,
        insn_cnt=2,
        insns=ctypes.addressof(code),
        license=ctypes.addressof(legal),
    )
    loaded = bpf(PROG_LOAD, request)
    if loaded < 0:
        return os.strerror(ctypes.get_errno())
    os.close(loaded)
    return ""
