"""Hits of probes that the kernel skipped, because the program was already running on that CPU:
somebody was preempted in it; or, for kprobes, any of them, or a change of a map from outside.

include/uapi/linux/bpf.h: BPF_OBJ_GET_INFO_BY_FD with ``struct bpf_prog_info``, whose
``recursion_misses`` counts them (since v5.12).
"""

from __future__ import annotations

import ctypes

from ...probes.catalog import AGAIN, PAIRS
from .bpf_call import bpf

_OBJ_GET_INFO_BY_FD = 15
_INFO_BYTES = 256
_RECURSION_MISSES_AT = 208


class _GetInfo(ctypes.Structure):
    _fields_ = [
        ("descriptor", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("info", ctypes.c_uint64),
    ]


def missed(program_fd: int) -> int:
    """How many hits of a loaded program the kernel skipped; 0 where it does not tell."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    request = _GetInfo(program_fd, _INFO_BYTES, ctypes.addressof(info))
    if bpf(_OBJ_GET_INFO_BY_FD, request) < 0:
        return 0
    if request.length < _RECURSION_MISSES_AT + 8:  # the kernel filled in less: it does not know it
        return 0
    return ctypes.c_uint64.from_buffer(info, _RECURSION_MISSES_AT).value


def by_nobody(skipped: dict[str, int], stood_in: dict[str, int]) -> dict[str, int]:
    """How many hits no program saw, of all that are loaded, by name.

    ``skipped`` are those that the kernel skipped each for. Of two that stand in for one another it
    is what both missed, under the first's name: ``stood_in`` is how often the second ran where the
    first did not. Pairs on system calls count theirs themselves.
    """
    pairs = [name for name in skipped if name + AGAIN in skipped]
    paired = {*pairs, *(name + AGAIN for name in pairs)}
    both = (name for name in pairs if name in PAIRS)
    return {
        **{name: count for name, count in skipped.items() if name not in paired},
        **{
            name: max(0, min(skipped[name] - stood_in[name], skipped[name + AGAIN]))
            for name in both
        },
    }
