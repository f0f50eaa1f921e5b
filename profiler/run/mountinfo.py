"""Mounts as mountinfo shows them: /proc/PID/mountinfo (proc(5)), line by line."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OCTAL = re.compile(r"\\([0-7]{3})")
_CVMFS_SOURCES = ("cvmfs2",)
_CVMFS_TYPES = ("fuse.cvmfs2", "fuse.cvmfs", "cvmfs")


@dataclass(frozen=True)
class MountLine:
    """A line: ``device`` is ``major:minor``; ``root`` is what of the file system is mounted, ``/``
    for all of it; ``options`` are the file system's own.
    """

    device: str
    mountpoint: str
    filesystem: str
    source: str
    root: str
    options: str

    @property
    def is_whole(self) -> bool:
        """Whether it is no bind mount of a subtree."""
        return self.root == "/"

    @property
    def is_cvmfs(self) -> bool:
        """Whether it is a CVMFS client's mount."""
        return self.filesystem in _CVMFS_TYPES or (
            self.filesystem.startswith("fuse") and self.source in _CVMFS_SOURCES
        )

    @property
    def is_unnamed(self) -> bool:
        """Whether its FUSE daemon gave no name, as a CVMFS client that is mounted by hand."""
        return self.filesystem == "fuse" and self.source == "/dev/fuse"


def parse_mountinfo(text: str) -> list[MountLine]:
    """Parse /proc/PID/mountinfo (proc(5)); malformed lines are skipped."""
    lines = (_mount_line(line) for line in text.splitlines())
    return [line for line in lines if line is not None]


def _mount_line(line: str) -> MountLine | None:
    fields = line.split(" ")
    if "-" not in fields[6:]:
        return None
    tail = fields[fields.index("-", 6) + 1 :]
    if len(tail) < 2:
        return None
    names = (fields[4], tail[0], tail[1], fields[3], "".join(tail[2:3]))
    return MountLine(fields[2], *map(_unescape, names))


def _unescape(text: str) -> str:
    """Undo octal escapes, which mountinfo writes for blanks and backslashes."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
