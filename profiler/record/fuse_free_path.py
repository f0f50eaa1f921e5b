"""Opening what a traced process names without a word to any FUSE daemon.

The mounts under observation may hang, and a request of ours would be in the recording. A path is
therefore walked part by part, symbolic links included, and left at the first step onto FUSE or an
automounter: a step opens by O_PATH, which asks no file system, and its mount tells the type. Held
open, a mount keeps its number, so that what is read of it afterwards is of that very mount.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

_STEPS = 256  # parts of a path, those of symbolic links included
#: links of /proc that lead to the very thing, and the process that they are of
_ANCHOR = re.compile(r"(/proc/(\d+)/(?:root|map_files/[^/]+))(.*)", re.DOTALL)


class Untouchable(OSError):
    """The path leads onto a file system that would ask a daemon, or onto none that is known."""


@contextmanager
def opened(path: str) -> Generator[int, None, None]:
    """A regular file, by O_PATH; an absolute path, or one below /proc/PID/root or map_files.

    Raises Untouchable, or OSError where there is no such file or it is none of data.
    """
    anchored = _ANCHOR.fullmatch(path)
    start, pid, rest = anchored.groups() if anchored else ("/", "self", path)
    with ExitStack() as held:
        found = _Walk(start, pid, held).to(rest)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        yield found


class _Walk:
    """Steps from the root of a process; what they opened is closed with ``held``."""

    def __init__(self, start: str, pid: str, held: ExitStack) -> None:
        self._pid = pid
        self._held = held
        self._quiet_mounts = set[int]()
        self._root = self._step(start, None)

    def to(self, path: str) -> int:
        """The descriptor of what a path leads to. Raises OSError."""
        places, names = [self._root], _parts(path)
        for _ in range(_STEPS):
            if not names:
                return places[-1]
            name = names.pop()
            if name == "..":
                del places[max(len(places) - 1, 1) :]  # the root's parent is the root
                continue
            found = self._step(name, places[-1])
            if not stat.S_ISLNK(os.fstat(found).st_mode):
                places.append(found)
                continue
            target = os.readlink("", dir_fd=found)
            names += _parts(target)
            if target.startswith("/"):
                places = [self._root]
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _step(self, name: str, parent: int | None) -> int:
        flags = os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if parent is not None else 0)
        found = os.open(name, flags, dir_fd=parent)
        self._held.callback(os.close, found)
        mount = _mount_of(found)
        if mount not in self._quiet_mounts:
            self._check(mount)
            self._quiet_mounts.add(mount)
        return found

    def _check(self, mount: int) -> None:
        for pid in (self._pid, "self", "1"):  # a root that is no mount is another's to see
            kind = _file_systems(pid).get(mount)
            if kind is not None and (kind.startswith("fuse") or kind == "autofs"):
                raise Untouchable(f"left alone: it lies on a file system of the type {kind}")
            if kind is not None:
                return
        raise Untouchable("left alone: its file system is none that is mounted")


def _parts(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _mount_of(descriptor: int) -> int:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("mnt_id:")).split()[1])


def _file_systems(pid: str) -> dict[int, str]:
    """The mounts that a process sees, with their types; none when it has ended."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = [line.split(" - ", 1) for line in file]
    except OSError:
        return {}
    return {int(mount.split(None, 1)[0]): about.split(None, 1)[0] for mount, about in lines}
