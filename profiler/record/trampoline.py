"""fentry and fexit: programs that a BPF trampoline calls at a kernel function's entry or return.

bcc tells from a program's name where it belongs, and attaches every one so named when it compiles;
here the name is given when the program is loaded. Arguments come as an array of u64.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from ...probes.catalog import FEXIT, AttachPoint


def attach(bcc: Any, bpf: Any, point: AttachPoint) -> int:
    """The link's descriptor: closing it takes the program off. Raises OSError."""
    prefix = b"kretfunc__vmlinux__" if point.family == FEXIT else b"kfunc__vmlinux__"
    program = point.program.encode()
    start = bcc.lib.bpf_function_start(bpf.module, program)
    loaded = bcc.lib.bcc_func_load(
        bpf.module, bcc.BPF.TRACING, prefix + point.target.encode(), start,
        bcc.lib.bpf_function_size(bpf.module, program), bcc.lib.bpf_module_license(bpf.module),
        bcc.lib.bpf_module_kern_version(bpf.module), 0, None, 0, None, -1,
    )  # fmt: skip
    if loaded < 0:
        raise OSError(ctypes.get_errno(), f"fentry: {os.strerror(ctypes.get_errno())}")
    try:
        link = int(bcc.lib.bpf_attach_kfunc(loaded))
    finally:
        os.close(loaded)
    if link < 0:
        raise OSError(ctypes.get_errno(), f"fentry: {os.strerror(ctypes.get_errno())}")
    return link
