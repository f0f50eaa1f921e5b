"""The kernel's BTF objects of its modules, by bpf(2).

include/uapi/linux/bpf.h: BPF_BTF_GET_NEXT_ID, BPF_BTF_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD.
"""

from __future__ import annotations

import ctypes
import errno
import os

from .bpf_call import OBJ_GET_INFO_BY_FD, GetInfo, bpf

_BTF_GET_NEXT_ID, _BTF_GET_FD_BY_ID = 23, 19
_NAME_BYTES = 64  # MODULE_NAME_LEN, include/linux/module.h: 56


class _Id(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint32), ("next_id", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


class _Info(ctypes.Structure):
    _fields_ = [
        ("btf", ctypes.c_uint64),
        ("btf_size", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("name", ctypes.c_uint64),
        ("name_len", ctypes.c_uint32),
        ("kernel", ctypes.c_uint32),
    ]


def open_btf(module: str) -> int:
    """A descriptor of the BTF of a loaded module. Raises OSError if the kernel has none."""
    request = _Id()
    while bpf(_BTF_GET_NEXT_ID, request) == 0:
        request.id = request.next_id
        descriptor = bpf(_BTF_GET_FD_BY_ID, _Id(id=request.id))
        if descriptor >= 0:  # else it was unloaded in the meantime
            if _module_of(descriptor) == module:
                return descriptor
            os.close(descriptor)
    raise OSError(errno.ENOENT, f"the kernel has no type information of the module {module}")


def _module_of(descriptor: int) -> str | None:
    """The module that BTF belongs to; None if it is a program's."""
    name = ctypes.create_string_buffer(_NAME_BYTES)
    info = _Info(name=ctypes.addressof(name), name_len=_NAME_BYTES)
    request = GetInfo(descriptor, ctypes.sizeof(info), ctypes.addressof(info))
    is_kernels = bpf(OBJ_GET_INFO_BY_FD, request) == 0 and info.kernel
    return name.value.decode() if is_kernels else None
