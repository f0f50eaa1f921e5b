"""Whether the kernel accepts an fentry program: some refuse them although they have all it takes.

Tried with a program that does nothing.
"""

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
    """The facts, with the kernel's error if it refuses an fentry program it should accept."""
    ids = (each.btf_id for each in facts.functions.values() if each.module == VMLINUX_NAME)
    function = next((btf_id for btf_id in ids if btf_id), 0)
    if facts.untold is not None or not facts.trampolines or not function:
        return facts
    if facts.conditions.hindrances():
        return facts
    refused = _refused(function)
    return replace(facts, conditions=replace(facts.conditions, fentry_refused=refused))


def _refused(function: int) -> str:
    """Why a program cannot be loaded for a function's entry; "" if it can."""
    code, license_text = (ctypes.create_string_buffer(each) for each in (_RETURN_0, b"GPL"))
    request = ProgLoad(
        prog_type=_TRACING,
        expected_attach_type=_FENTRY,
        attach_btf_id=function,
        insn_cnt=2,
        insns=ctypes.addressof(code),
        license=ctypes.addressof(license_text),
    )
    loaded = bpf(PROG_LOAD, request)
    if loaded < 0:
        return os.strerror(ctypes.get_errno())
    os.close(loaded)
    return ""
