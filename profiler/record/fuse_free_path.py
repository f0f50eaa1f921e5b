"""Open a path that a traced process named, without sending a request to any FUSE daemon.

Traced mounts may hang, and requests of ours would be recorded. The path is therefore walked
component by component, symbolic links included, until the first step onto FUSE or an automounter.
Each step opens with O_PATH, which does not involve the file system, and its mount has the type. As
long as it is held open, a mount keeps its number, so what is read about it afterwards is right.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

_MAX_STEPS = 256  # components, those of symbolic links included
#: links of /proc that lead to a file itself, not to its name; and their process
_ANCHOR = re.compile(r"(/proc/(\d+)/(?:root|map_files/[^/]+))(.*)", re.DOTALL)


class Untouchable(OSError):
    """The path leads to a file system that would ask a daemon, or to an unknown one."""


@contextmanager
def opened(path: str) -> Generator[int, None, None]:
    """Open a regular file with O_PATH: an absolute path, or one below /proc/PID/root or map_files.

    Raises Untouchable, or OSError if there is no such file or it is not a regular one.
    """
    anchored = _ANCHOR.fullmatch(path)
    start, pid, rest = anchored.groups() if anchored else ("/", "self", path)
    with ExitStack() as held:
        descriptor = _Walk(start, pid, held).to(rest)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        yield descriptor


class _Walk:
    """Steps from the root of a process. ``held`` closes the descriptors that they opened."""

    def __init__(self, start: str, pid: str, held: ExitStack) -> None:
        self._pid = pid
        self._held = held
        self._allowed_mounts = set[int]()
        self._root = self._step(start, None)

    def to(self, path: str) -> int:
        """A descriptor of what a path leads to. Raises OSError."""
        parents, names = [self._root], _parts(path)
        for _ in range(_MAX_STEPS):
            if not names:
                return parents[-1]
            name = names.pop()
            if name == "..":
                del parents[max(len(parents) - 1, 1) :]  # the root's parent is the root
                continue
            descriptor = self._step(name, parents[-1])
            if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
                parents.append(descriptor)
                continue
            target = os.readlink("", dir_fd=descriptor)
            names += _parts(target)
            if target.startswith("/"):
                parents = [self._root]
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _step(self, name: str, parent: int | None) -> int:
        flags = os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if parent is not None else 0)
        descriptor = os.open(name, flags, dir_fd=parent)
        self._held.callback(os.close, descriptor)
        mount = _mount_of(descriptor)
        if mount not in self._allowed_mounts:
            self._check(mount)
            self._allowed_mounts.add(mount)
        return descriptor

    def _check(self, mount: int) -> None:
        # the mount may not be visible in the process's own root
        for pid in (self._pid, "self", "1"):
            kind = _file_systems(pid).get(mount)
            if kind is not None and (kind.startswith("fuse") or kind == "autofs"):
                raise Untouchable(f"not opened: it is on a file system of the type {kind}")
            if kind is not None:
                return
        raise Untouchable("not opened: its file system is not among the mounts")


def _parts(path: str) -> list[str]:
    """The components of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _mount_of(descriptor: int) -> int:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("mnt_id:")).split()[1])


def _file_systems(pid: str) -> dict[int, str]:
    """The types of the mounts that a process sees, by number; none if it has ended."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = [line.split(" - ", 1) for line in file]
    except OSError:
        return {}
    return {int(mount.split(None, 1)[0]): about.split(None, 1)[0] for mount, about in lines}


def can_be_opened(path: str) -> bool:
    """Whether `opened` opens a path."""
    try:
        with opened(path):
            return True
    except OSError:
        return False
