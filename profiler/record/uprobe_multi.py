"""One link for many uprobes of a file, by bpf(2): bcc has no call for it.

include/uapi/linux/bpf.h: BPF_LINK_CREATE with ``link_create.uprobe_multi``.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

from .bpf_call import bpf, last_error

_LINK_CREATE = 28
_RETURN = 1  # BPF_F_UPROBE_MULTI_RETURN


@dataclass(frozen=True)
class Place:
    """Where to probe: an offset in the file, and the number that the program gets there."""

    file_offset: int
    cookie: int


@dataclass(frozen=True)
class Link:
    """What to probe: places in a file, at the functions' entries or their returns."""

    path: str
    places: tuple[Place, ...]
    returns: bool


class _LinkCreate(ctypes.Structure):
    _fields_ = [
        ("prog_fd", ctypes.c_uint32),
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("path", ctypes.c_uint64),
        ("offsets", ctypes.c_uint64),
        ("ref_ctr_offsets", ctypes.c_uint64),
        ("cookies", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("multi_flags", ctypes.c_uint32),
        ("pid", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    ]


def attach(program_fd: int, attach_type: int, link: Link) -> int:
    """Probe all places. Returns the link's descriptor, which keeps them. Raises OSError."""
    count = len(link.places)
    path = ctypes.create_string_buffer(os.fsencode(link.path))
    offsets = (ctypes.c_uint64 * count)(*(place.file_offset for place in link.places))
    cookies = (ctypes.c_uint64 * count)(*(place.cookie for place in link.places))
    request = _LinkCreate(
        prog_fd=program_fd,
        attach_type=attach_type,
        path=ctypes.addressof(path),
        offsets=ctypes.addressof(offsets),
        cookies=ctypes.addressof(cookies),
        count=count,
        multi_flags=_RETURN if link.returns else 0,
    )
    descriptor = bpf(_LINK_CREATE, request)
    if descriptor < 0:
        raise last_error()
    return descriptor
