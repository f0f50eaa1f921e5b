"""fentry and fexit: programs that a BPF trampoline calls at a kernel function's entry or return.

Arguments come as an array of u64. include/uapi/linux/bpf.h: BPF_RAW_TRACEPOINT_OPEN, which without
a name attaches a program to what it was loaded for.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from ...probes.catalog import FEXIT, AttachPoint
from ...probes.kernel import VMLINUX_NAME, KernelFunction
from .bpf_call import bpf as bpf_call
from .module_btf import open_btf
from .prog_load import Purpose, load

_RAW_TRACEPOINT_OPEN = 17
_TRACE_FENTRY, _TRACE_FEXIT = 24, 25  # enum bpf_attach_type


class _Open(ctypes.Structure):
    _fields_ = [("name", ctypes.c_uint64), ("prog_fd", ctypes.c_uint32)]


def attach(bcc: Any, bpf: Any, point: AttachPoint, function: KernelFunction) -> int:
    """The link's descriptor: closing it takes the program off. Raises OSError."""
    kind = _TRACE_FEXIT if point.family == FEXIT else _TRACE_FENTRY
    in_module = function.module != VMLINUX_NAME
    types = open_btf(function.module) if in_module else 0
    try:
        purpose = Purpose(bcc.BPF.TRACING, kind, function.btf_id, types)
        loaded = load(bcc, bpf, point.program, purpose)
    finally:
        if in_module:
            os.close(types)
    link = bpf_call(_RAW_TRACEPOINT_OPEN, _Open(prog_fd=loaded))
    if link < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"fentry: {os.strerror(number)}")
    return link
