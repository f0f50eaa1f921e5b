"""Loading compiled programs by bpf(2) when attach type or function must be given at load time.

bcc passes the attach type from 0.25 on only, and takes the function from the program's name, which
its versions spell differently.

include/uapi/linux/bpf.h: BPF_PROG_LOAD.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from .bpf_call import bpf as bpf_call
from .bpf_call import last_error

PROG_LOAD = 5


@dataclass(frozen=True)
class Purpose:
    """What a program is loaded for: its type and attach type; for a function, its id in the BTF
    object of descriptor ``btf_fd`` (0: vmlinux).
    """

    program_type: int
    attach_type: int
    btf_id: int = 0
    btf_fd: int = 0


class ProgLoad(ctypes.Structure):
    """What the call reads of ``union bpf_attr``."""

    _fields_ = [
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_name", ctypes.c_char * 16),
        ("prog_ifindex", ctypes.c_uint32),
        ("expected_attach_type", ctypes.c_uint32),
        ("prog_btf_fd", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64),
        ("func_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64),
        ("line_info_cnt", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
    ]


def load_program(bcc: Any, bpf: Any, program: str, purpose: Purpose) -> int:
    """Load a program that bcc has compiled. Returns its descriptor, which bcc keeps with its own.

    Raises OSError.
    """
    name = program.encode()
    license_text = ctypes.create_string_buffer(bcc.lib.bpf_module_license(bpf.module))
    request = ProgLoad(
        prog_type=purpose.program_type,
        expected_attach_type=purpose.attach_type,
        insns=bcc.lib.bpf_function_start(bpf.module, name),
        insn_cnt=bcc.lib.bpf_function_size(bpf.module, name) // 8,
        license=ctypes.addressof(license_text),
        prog_name=name[:15],
        attach_btf_id=purpose.btf_id,
        attach_btf_obj_fd=purpose.btf_fd,
    )
    loaded = bpf_call(PROG_LOAD, request)
    if loaded < 0:
        raise last_error("its program does not load: ")
    bpf.funcs[name] = bcc.BPF.Function(bpf, name, loaded)
    return loaded
