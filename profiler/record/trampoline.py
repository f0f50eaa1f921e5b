"""fentry and fexit: programs that a BPF trampoline calls at a kernel function's entry or return.

Their arguments come as an array of u64. include/uapi/linux/bpf.h: BPF_RAW_TRACEPOINT_OPEN, which
without a name attaches a program to the function that it was loaded for.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from ...probes.catalog import FEXIT, AttachPoint
from ...probes.kernel import VMLINUX_NAME, KernelFunction
from .bpf_call import bpf as bpf_call
from .bpf_call import last_error
from .module_btf import open_btf
from .prog_load import Purpose, load_program

_RAW_TRACEPOINT_OPEN = 17
_TRACE_FENTRY, _TRACE_FEXIT = 24, 25  # enum bpf_attach_type


class _Open(ctypes.Structure):
    _fields_ = [("name", ctypes.c_uint64), ("prog_fd", ctypes.c_uint32)]


def attach(bcc: Any, bpf: Any, point: AttachPoint, function: KernelFunction) -> int:
    """Attach a program. Returns the link's descriptor; closing it detaches. Raises OSError."""
    attach_type = _TRACE_FEXIT if point.family == FEXIT else _TRACE_FENTRY
    in_module = function.module != VMLINUX_NAME
    types = open_btf(function.module) if in_module else 0
    try:
        purpose = Purpose(bcc.BPF.TRACING, attach_type, function.btf_id, types)
        loaded = load_program(bcc, bpf, point.program, purpose)
    finally:
        if in_module:
            os.close(types)
    link = bpf_call(_RAW_TRACEPOINT_OPEN, _Open(prog_fd=loaded))
    if link < 0:
        raise last_error("fentry: ")
    return link
