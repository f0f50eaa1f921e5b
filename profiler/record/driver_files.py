"""Where the CUDA driver's library is: what a command may load, and what a process has mapped.

Reads /proc and the loader's cache; libraries are opened only by `fuse_free_path`.
"""

from __future__ import annotations

import errno
import os
import re
import stat

from ...probes.gpu import LIBRARY_DIRECTORIES
from . import fuse_free_path, mapped_files

_CACHE = "/etc/ld.so.cache"
_CACHED = re.compile(rb"(/[^\0]*/libcuda\.so(?:\.1)?)\0")
_NAMES = ("libcuda.so.1", "libcuda.so")
_MAPPED = re.compile(r"/libcuda\.so(?:\.[0-9.]+)?(?: \(deleted\))?$")
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH


def installed(search_path: str) -> tuple[str, ...]:
    """The libraries that a command may load: its ``LD_LIBRARY_PATH``, the loader's cache, and the
    standard directories. A file may occur under several names.
    """
    places = [place for place in search_path.split(":") if place.startswith("/")]
    places += LIBRARY_DIRECTORIES
    paths = [os.path.join(place, name) for place in places for name in _NAMES]
    return tuple(
        path for path in dict.fromkeys((*paths, *_cached())) if fuse_free_path.can_be_opened(path)
    )


def mapped(pid: int) -> tuple[str, ...]:
    """The libraries that a process has mapped, as paths that can be opened from here."""
    return mapped_files.named(pid, _MAPPED)


def check_owner(status: os.stat_result) -> None:
    """Raises PermissionError if others than root can change a file: root would put breakpoints at
    places that they chose.
    """
    if status.st_uid != 0:
        fact = f"not probed: it belongs to user {status.st_uid}, and must belong to root"
        raise PermissionError(errno.EPERM, fact)
    if status.st_mode & _WRITABLE:
        raise PermissionError(errno.EPERM, "not probed: others than root may write to it")


def _cached() -> list[str]:
    """The libraries in the loader's cache, in which each path is a string."""
    try:
        with open(_CACHE, "rb") as cache:
            return [os.fsdecode(path) for path in _CACHED.findall(cache.read())]
    except OSError:
        return []
