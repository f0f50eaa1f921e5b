"""The system call bpf(2), for what bcc has no call for."""

from __future__ import annotations

import ctypes
import os
import platform

from ...probes.machines import MACHINES

#: include/uapi/linux/bpf.h: enum bpf_cmd
OBJ_GET_INFO_BY_FD = 15


class GetInfo(ctypes.Structure):
    """What OBJ_GET_INFO_BY_FD reads of ``union bpf_attr``."""

    _fields_ = [
        ("descriptor", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("info", ctypes.c_uint64),
    ]


def bpf(command: int, request: ctypes.Structure) -> int:
    """Make the call. Returns its result, or -1 with the reason in ctypes.get_errno()."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = MACHINES[platform.machine()].calls["bpf"]
    return int(libc.syscall(number, command, ctypes.byref(request), ctypes.sizeof(request)))


def last_error(prefix: str = "") -> OSError:
    """Why the last call failed."""
    number = ctypes.get_errno()
    return OSError(number, f"{prefix}{os.strerror(number)}")
