"""Files that a process has mapped, as paths to the very same files, even if those were removed.

Reads /proc, and opens files only by `fuse_free_path`: nothing here touches a FUSE mount.
"""

from __future__ import annotations

import os
from re import Pattern

from . import fuse_free_path


def named(pid: int, name: Pattern[str]) -> tuple[str, ...]:
    """The mapped files whose names have a match, as paths that can be opened from here."""
    paths = dict[tuple[str, str], str]()  # a path for each file, by its device and inode
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(None, 5)
                if len(fields) == 6 and name.search(fields[5]):
                    file = fields[3], fields[4]
                    if file not in paths:
                        paths[file] = _mapped_file(pid, *fields)
    except OSError:  # it has ended
        return ()
    return tuple(paths.values())


def _mapped_file(pid: int, place: str, *about: str) -> str:
    """A line of /proc/PID/maps as a path to the same file."""
    inode, name = about[-2:]
    path = f"/proc/{pid}/root{below_root(pid, name)}"
    try:
        with fuse_free_path.opened(path) as file:
            if os.fstat(file).st_ino == int(inode):
                return path
    except OSError:  # it was hidden by a mount or removed, or it is on FUSE
        pass
    start, _, end = place.partition("-")
    return f"/proc/{pid}/map_files/{start.lstrip('0')}-{end.lstrip('0')}"


def below_root(pid: int, name: str) -> str:
    """A name from /proc, which starts at the root of the process's mount namespace, relative to the
    process's own root, which may be below that. Raises OSError if it has ended.
    """
    root = os.readlink(f"/proc/{pid}/root")
    return name[len(root) :] if root != "/" and name.startswith(root + "/") else name
