"""The system call bpf(2), for what bcc has no call for."""

from __future__ import annotations

import ctypes
import platform

from ...probes.machines import MACHINES


def bpf(command: int, request: ctypes.Structure) -> int:
    """Makes the call; its result, or -1 with the reason in ctypes.get_errno()."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = MACHINES[platform.machine()].calls["bpf"]
    return int(libc.syscall(number, command, ctypes.byref(request), ctypes.sizeof(request)))
