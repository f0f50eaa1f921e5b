"""Hits that the kernel skipped, because the program was already running on that CPU.

A task was preempted in the program; or, for kprobes, in any of them, or while it changed a map
from user space.

include/uapi/linux/bpf.h: BPF_OBJ_GET_INFO_BY_FD with ``struct bpf_prog_info``, whose
``recursion_misses`` counts them: commit 9ed9e9ba2337 ("bpf: Count the number of times recursion was
prevented") (in v5.12).
"""

from __future__ import annotations

import ctypes

from ...probes.catalog import BACKUP, PAIRS
from .bpf_call import OBJ_GET_INFO_BY_FD, GetInfo, bpf

_INFO_BYTES = 256
_RECURSION_MISSES_AT = 208


def missed(program_fd: int) -> int:
    """How many hits of a loaded program the kernel skipped; 0 if it does not count them."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    request = GetInfo(program_fd, _INFO_BYTES, ctypes.addressof(info))
    if bpf(OBJ_GET_INFO_BY_FD, request) < 0:
        return 0
    if request.length < _RECURSION_MISSES_AT + 8:  # an older kernel's struct, without this member
        return 0
    return ctypes.c_uint64.from_buffer(info, _RECURSION_MISSES_AT).value


def seen_by_none(skipped: dict[str, int], stood_in: dict[str, int]) -> dict[str, int]:
    """How many hits no program saw, for each loaded program by name.

    ``skipped``: how many hits the kernel skipped for each. For a primary and its backup the result
    is what both missed, under the primary's name; ``stood_in`` is how often the backup ran where
    the primary did not. Pairs on system calls count what both missed themselves.
    """
    pairs = [name for name in skipped if name + BACKUP in skipped]
    paired = {*pairs, *(name + BACKUP for name in pairs)}
    counted_here = (name for name in pairs if name in PAIRS)
    return {
        **{name: count for name, count in skipped.items() if name not in paired},
        **{
            name: max(0, min(skipped[name] - stood_in[name], skipped[name + BACKUP]))
            for name in counted_here
        },
    }
