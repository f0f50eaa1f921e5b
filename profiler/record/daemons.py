"""CVMFS daemons on this machine: who they are and which library files hold their code.

Reads /proc only: nothing here touches a mounted file system.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Iterable

CLIENT_NAME = "cvmfs2"
_LIBRARY = re.compile(r"libcvmfs_fuse3?\.so|libcvmfs_fuse3?_debug\.so")
_STANDARD_PLACES = (
    "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
)  # fmt: skip
_LIBRARY_FILES = ("libcvmfs_fuse3.so", "libcvmfs_fuse.so")


@dataclass(frozen=True)
class Daemon:
    """A running client process and its threads."""

    pid: int
    name: str
    threads: tuple[int, ...]


def running_daemons() -> tuple[Daemon, ...]:
    """All processes named cvmfs2."""
    found = list[Daemon]()
    for entry in os.listdir("/proc"):
        name = _name(entry) if entry.isdigit() else None
        if name == CLIENT_NAME:
            found.append(Daemon(int(entry), name, _threads(entry)))
    return tuple(found)


def libraries_of(pid: int) -> tuple[str, ...]:
    """The client's libraries that a process has mapped, as paths that can be opened from here."""
    paths = dict[str, None]()
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(None, 5)
                if len(fields) == 6 and _LIBRARY.search(fields[5]):
                    paths[f"/proc/{pid}/root{fields[5]}"] = None
    except OSError:  # it has ended
        return ()
    return tuple(paths)


def libraries_near(pid: int) -> tuple[str, ...]:
    """Where a client that has just been started will load its library from."""
    variables = _environment(pid)
    places = list[str]()
    for name in ("CVMFS_LIBRARY_PATH", "LD_LIBRARY_PATH"):
        places += [place for place in variables.get(name, "").split(":") if place]
    try:
        binary = os.readlink(f"/proc/{pid}/exe")
        places += [os.path.dirname(binary), os.path.join(os.path.dirname(binary), "../lib")]
    except OSError:  # it has ended
        return ()
    return _existing(f"/proc/{pid}/root{place}" for place in places if place.startswith("/"))


def installed_libraries() -> tuple[str, ...]:
    """The libraries of an installed client, which daemons born later will load."""
    return _existing(_STANDARD_PLACES)


def _existing(places: Iterable[str]) -> tuple[str, ...]:
    paths = (os.path.join(place, file) for place in places for file in _LIBRARY_FILES)
    return tuple(path for path in paths if os.path.exists(path))


def _name(pid: str) -> str | None:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:  # it has ended
        return None


def _threads(pid: str) -> tuple[int, ...]:
    try:
        return tuple(int(tid) for tid in os.listdir(f"/proc/{pid}/task"))
    except OSError:  # it has ended
        return ()


def _environment(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = file.read().split(b"\0")
    except OSError:  # it has ended
        return {}
    decoded = (os.fsdecode(pair).partition("=") for pair in pairs)
    return {name: value for name, _, value in decoded}
