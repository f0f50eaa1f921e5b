"""The BPF programs that a kernel now holds."""

from __future__ import annotations

import ctypes
import time

from cvmprof.profiler.record.bpf_call import bpf

_PROG_GET_NEXT_ID = 11


class _NextId(ctypes.Structure):
    _fields_ = [
        ("start", ctypes.c_uint32),
        ("next", ctypes.c_uint32),
        ("open_flags", ctypes.c_uint32),
    ]


def programs() -> set[int]:
    """Identifiers of all programs in the kernel."""
    found, request = set[int](), _NextId()
    while bpf(_PROG_GET_NEXT_ID, request) == 0:
        request.start = request.next
        found.add(int(request.next))
    return found


def left_of(before: set[int], patience_s: float = 120) -> int:
    """How many programs are there that were not before, once those that end have had their time."""
    deadline = time.monotonic() + patience_s
    while (left := len(programs() - before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
