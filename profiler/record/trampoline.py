"""fentry and fexit: programs that a BPF trampoline calls at a kernel function's entry or return.

bcc tells from a program's name where it belongs, and attaches every one so named when it compiles;
here the name is given when the program is loaded. Arguments come as an array of u64.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

from ...probes.catalog import FEXIT, AttachPoint


def attach(bcc: Any, bpf: Any, point: AttachPoint) -> tuple[int, int]:
    """Descriptors of the link, whose closing takes the program off, and of the program.

    Raises OSError.
    """
    kind = b"kretfunc__" if point.family == FEXIT else b"kfunc__"
    program, target = point.program.encode(), point.target.encode()
    reasons = list[OSError]()
    for prefix in (kind, kind + b"vmlinux__"):  # from bcc 0.28 on the module is named
        loaded = _load(bcc, bpf, program, prefix + target)
        if loaded >= 0:
            break
        reasons.append(_error())
    else:  # one of the two names is never found
        raise next((each for each in reasons if each.errno != errno.ENOENT), reasons[0])
    link = int(bcc.lib.bpf_attach_kfunc(loaded))
    if link < 0:
        reason = _error()
        os.close(loaded)
        raise reason
    return link, loaded


def _load(bcc: Any, bpf: Any, program: bytes, name: bytes) -> int:
    lib, module = bcc.lib, bpf.module
    start, size = lib.bpf_function_start(module, program), lib.bpf_function_size(module, program)
    legal = (lib.bpf_module_license(module), lib.bpf_module_kern_version(module))
    kind = bcc.BPF.TRACING
    return int(lib.bcc_func_load(module, kind, name, start, size, *legal, 0, None, 0, None, -1))


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"fentry: {os.strerror(number)}")
