"""CVMFS daemons on this machine: their processes, the library files with their code, and where the
symbols of those may be.

Reads /proc, and opens files only by `fuse_free_path`: nothing here touches a FUSE mount.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...probes.symbols import DebugFiles
from . import fuse_free_path, mapped_files

CLIENT_NAME = "cvmfs2"
_LIBRARY = re.compile(r"libcvmfs_fuse3?\.so|libcvmfs_fuse3?_debug\.so")
_OF_PROCESS = re.compile(r"(/proc/(\d+)/)(?:root(/.*)|map_files/.*)", re.DOTALL)
_REMOVED = " (deleted)"
_LIBRARY_BYTES = re.compile(rb"libcvmfs_fuse3?(?:_debug)?\.so")
_STANDARD_PLACES = (
    "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
)  # fmt: skip
_CACHE_FILES = ("cachedb", "cachemgr")
_CACHE_OBJECT = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{38}[^/]*$")
_LIBRARY_FILES = ("libcvmfs_fuse3.so", "libcvmfs_fuse.so")


@dataclass(frozen=True)
class Daemon:
    """A running client process and its threads."""

    pid: int
    name: str
    threads: tuple[int, ...]


def running_daemons() -> tuple[Daemon, ...]:
    """All processes named cvmfs2, except zombies."""
    processes = (entry for entry in os.listdir("/proc") if entry.isdigit())
    named = [entry for entry in processes if _name(entry) == CLIENT_NAME]
    daemons = (Daemon(int(entry), CLIENT_NAME, _threads(entry)) for entry in named)
    return tuple(daemon for daemon in daemons if daemon.threads)


def cache_names(pid: int) -> tuple[str, ...]:
    """Names of files of its cache that a daemon has open, which show what kind of cache it has.

    One object, the database of a cache that it manages itself, the pipe to a shared cache manager.
    """
    names = dict[str, str]()
    for name in _open_files(pid):
        base = os.path.basename(name)
        if base in _CACHE_FILES or _CACHE_OBJECT.search(name):
            names.setdefault(base if base in _CACHE_FILES else "object", name)
    return tuple(names.values())


def _open_files(pid: int) -> Iterator[str]:
    try:
        listed = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has ended
        return
    for descriptor in listed:
        try:
            name = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except OSError:  # it has been closed
            continue
        if name.startswith("/"):
            yield os.fsencode(name).decode("utf-8", "backslashreplace")


def working_directory(pid: int) -> str | None:
    """The directory that a daemon's relative names start from; None if it has ended."""
    try:
        return os.fsencode(os.readlink(f"/proc/{pid}/cwd")).decode("utf-8", "backslashreplace")
    except OSError:
        return None


def libraries_of(pid: int) -> tuple[str, ...]:
    """The client's libraries that a process has mapped, as paths that can be opened from here."""
    return mapped_files.named(pid, _LIBRARY)


def debug_files(path: str, library: int) -> DebugFiles:
    """Where separate symbols of a library may be, in its process's root and in our own.

    ``library`` is the open file of ``path``. Its name is taken from the descriptor if ``path``,
    which `libraries_of` may have returned, does not contain it.
    """
    anchored = _OF_PROCESS.fullmatch(path)
    name = os.readlink(f"/proc/self/fd/{library}").removesuffix(_REMOVED)
    names, roots = [path, name], [""]
    if anchored:
        names = [anchored[3] or name, _name_of_process(int(anchored[2]), name)]
        roots = [f"{anchored[1]}root", ""]
    directories = dict.fromkeys(os.path.dirname(each) for each in names if each.startswith("/"))
    return DebugFiles(tuple(directories), tuple(roots), fuse_free_path.opened)


def _name_of_process(pid: int, name: str) -> str:
    try:
        return mapped_files.below_root(pid, name)
    except OSError:  # it has ended
        return name


def libraries_near(pid: int) -> tuple[str, ...]:
    """The libraries that a client that was just started may load."""
    variables = _environment(pid)
    places = list[str]()
    for name in ("CVMFS_LIBRARY_PATH", "LD_LIBRARY_PATH"):
        places += [place for place in variables.get(name, "").split(":") if place]
    try:
        binary = mapped_files.below_root(pid, os.readlink(f"/proc/{pid}/exe"))
        places += [os.path.dirname(binary), os.path.join(os.path.dirname(binary), "../lib")]
    except OSError:  # it has ended
        return ()
    return _existing(f"/proc/{pid}/root{place}" for place in places if place.startswith("/"))


def installed_libraries() -> tuple[str, ...]:
    """The libraries of an installed client, which later daemons will load."""
    return _existing(_STANDARD_PLACES)


def _existing(places: Iterable[str]) -> tuple[str, ...]:
    paths = (os.path.join(place, file) for place in places for file in _LIBRARY_FILES)
    return tuple(path for path in paths if fuse_free_path.can_be_opened(path))


def loads_library(span: memoryview) -> bool:
    """Whether records of files that daemons opened may include a client's library."""
    return _LIBRARY_BYTES.search(span) is not None


def is_library(path: str) -> bool:
    """Whether this is the file name of a client's library."""
    return _LIBRARY.search(os.path.basename(path)) is not None


def path_of(pid: int, name: str) -> str:
    """A name that a daemon used, as a path that this process can open."""
    return f"/proc/{pid}/root{os.path.join(working_directory(pid) or '/', name)}"


def _name(pid: str) -> str | None:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:  # it has ended
        return None


def _threads(pid: str) -> tuple[int, ...]:
    try:
        listed = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended
        return ()
    return tuple(int(tid) for tid in listed if _lives(f"/proc/{pid}/task/{tid}/stat"))


def _lives(stat: str) -> bool:
    """Whether a thread is neither a zombie nor gone."""
    try:
        with open(stat, encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _environment(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = file.read().split(b"\0")
    except OSError:  # it has ended
        return {}
    decoded = (os.fsdecode(pair).partition("=") for pair in pairs)
    return {name: value for name, _, value in decoded}
