"""Makes files cold: out of the client's cache, and out of the kernel's page cache."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import CvmprofError, MissingDependency, NotPermitted
from .mounting import mount_table

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
TALK_TIMEOUT_S = 60
_CHECK = "check its mount and permissions"
#: names of objects in a client's cache: ab/cdef…, some kinds with a suffix
_OBJECT_DIRECTORY = re.compile("[0-9a-f]{2}")
_OBJECT = re.compile("[0-9a-f]{38}[A-Z]?")


@dataclass(frozen=True)
class Cooled:
    """One file: bytes in the page cache before and after; None if the kernel does not say."""

    path: Path
    size_bytes: int
    cached_bytes_before: int | None
    cached_bytes_after: int | None


@dataclass(frozen=True)
class Emptied:
    """One client's cache: its mount, and how many objects were removed (None: it does not say)."""

    mountpoint: Path
    objects: int | None


@dataclass(frozen=True)
class ColdResult:
    """What ``cold`` did. ``unserved``: paths that no CVMFS client serves."""

    files: tuple[Cooled, ...]
    clients: tuple[Emptied, ...]
    unserved: tuple[Path, ...] = ()


def cold(paths: Iterable[Path], drop_all: bool = False) -> ColdResult:
    """Make files, or all files below mount points or directories, cold.

    Drops each file's pages with posix_fadvise(DONTNEED) after an fsync, then empties the cache of
    every CVMFS client that serves one of them; catalogs in use stay. Opening a file that is not
    chunked makes the client fetch it, so a directory of many small files takes long. ``drop_all``
    also drops the page cache, dentries and inodes of the whole machine (root only).

    Raises CvmprofError if a path does not exist, if a mount is dead or a directory cannot be read,
    or if pages remain because a process maps them.
    """
    files: list[Cooled] = []
    clients: set[Path] = set()
    unserved: list[Path] = []
    for root in (Path(os.path.abspath(path)) for path in paths):
        serving = _client_mounts(root)
        clients |= serving
        unserved += [] if serving else [root]
        files += [_drop_pages(file) for file in _files(root)]
    emptied = tuple(_empty_client(place) for place in sorted(clients))
    if drop_all:
        _drop_everything()
    _require_cold(files)
    return ColdResult(tuple(files), emptied, tuple(unserved))


def cached_bytes(path: Path) -> int | None:
    """Bytes of the file in the page cache, in whole pages (mincore).

    None if the kernel does not say: it answers only the file's owner, who may write it, and root.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        return _resident_bytes(fd, os.fstat(fd))
    finally:
        os.close(fd)


def _files(root: Path) -> Iterator[Path]:
    try:
        mode = root.stat().st_mode
    except OSError as error:
        help_text = "give a file, a directory or a mount point"
        raise _unusable(error, f"cannot use {root}: {error.strerror}", help_text) from error
    if not stat.S_ISDIR(mode):
        yield root
        return
    for directory, _, names in os.walk(root, onerror=_refuse):
        for path in (Path(directory, name) for name in sorted(names)):
            if _is_regular(path):
                yield path


def _refuse(error: OSError) -> None:
    """Raise for a directory that cannot be read: what lies in it would stay warm, unnoticed."""
    raise _unusable(error, f"cannot read {error.filename}: {error.strerror}", _CHECK) from error


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable(error, f"cannot use {path}: {error.strerror}", _CHECK) from error


def _unusable(error: OSError, fact: str, help_text: str) -> CvmprofError:
    """The error for a path: as given, unless its mount is dead."""
    return (
        _dead_mount(Path(error.filename))
        if error.errno == errno.ENOTCONN
        else CvmprofError(fact, help_text)
    )


def _dead_mount(path: Path) -> CvmprofError:
    places = (mounted for mounted, _ in mount_table() if path.is_relative_to(mounted))
    place = max(places, key=len)
    return CvmprofError(
        f"the mount {place} is dead: its client has ended (ENOTCONN)",
        f"detach it, then mount it again: umount -l {place}",
    )


def _drop_pages(path: Path) -> Cooled:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise _unusable(error, f"cannot open {path}: {error.strerror}", _CHECK) from error
    try:
        status = os.fstat(fd)
        before = _resident_bytes(fd, status)
        # DONTNEED leaves dirty pages.
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return Cooled(path, status.st_size, before, _resident_bytes(fd, status))
    finally:
        os.close(fd)


def _resident_bytes(fd: int, status: os.stat_result) -> int | None:
    if status.st_size == 0:
        return 0
    if os.geteuid() not in (0, status.st_uid):
        return None
    pages = (status.st_size + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    residency = (ctypes.c_ubyte * pages)()
    # A private writable mapping of a read-only descriptor, since ctypes takes the address of
    # writable buffers only.
    with mmap.mmap(
        fd, status.st_size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
    ) as mapping:
        anchor = ctypes.c_char.from_buffer(mapping)
        address = ctypes.addressof(anchor)
        libc = ctypes.CDLL(None, use_errno=True)
        arguments = (ctypes.c_void_p(address), ctypes.c_size_t(status.st_size), residency)
        failed = libc.mincore(*arguments)
        del anchor
        if failed:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return bytes(residency).count(1) * mmap.PAGESIZE


def _client_mounts(root: Path) -> set[Path]:
    """The CVMFS mounts that hold ``root`` or lie below it."""
    root = root.resolve()
    table = [Path(mountpoint) for mountpoint, _ in mount_table()]
    below = {mountpoint for mountpoint in table if mountpoint.is_relative_to(root)}
    holding = max((m for m in table if root.is_relative_to(m)), key=lambda m: len(m.parts))
    return {m for m in (*below, holding) if _attribute(m, "user.fqrn") is not None}


def _attribute(place: Path, name: str) -> str | None:
    try:
        return os.getxattr(place, name).decode()
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise _dead_mount(place) from error
        return None


def _empty_client(place: Path) -> Emptied:
    cache = _attribute(place, "user.lab_cache")
    if cache is not None:
        return Emptied(place, _empty_lab_cache(place, Path(cache)))
    return _empty_real_cache(place)


def _empty_lab_cache(place: Path, cache: Path) -> int:
    """Delete the lab client's objects; the catalog in use stays, as with cvmfs2.

    The mount says where the cache is, and anybody may have mounted it. So root deletes nothing but
    objects, only in a directory that belongs to the user who mounted, and follows no link.
    """
    in_use = _attribute(place, "user.root_hash") or ""
    try:
        with _directory(cache) as top:
            _require_mounters(top, place, cache)
            names = [name for name in os.listdir(top) if _OBJECT_DIRECTORY.fullmatch(name)]
            return sum(_remove_objects(top, name, in_use) for name in names)
    except PermissionError as error:
        raise NotPermitted(
            f"you may not change the client's cache {cache}",
            "run as root, or as the user who mounted it",
        ) from error
    except OSError as error:
        raise CvmprofError(
            f"the client's cache {cache} cannot be emptied: {error.strerror}",
            "unmount and mount again: cvmprof lab unmount",
        ) from error


def _require_mounters(directory: int, place: Path, cache: Path) -> None:
    owner = os.fstat(directory).st_uid
    if os.geteuid() == 0 and owner != _mounted_by(place):
        raise NotPermitted(
            f"the client at {place} calls {cache} its cache, which user {owner} owns, not the user "
            "who mounted",
            "run it as the user who mounted, not as root",
        )


def _mounted_by(place: Path) -> int:
    """The user who mounted with FUSE, by the kernel's mount options; root if they have none."""
    number = os.stat(place).st_dev
    device = f" {os.major(number)}:{os.minor(number)} "
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    options = next((line for line in table.splitlines() if device in line), "").rpartition(" - ")[2]
    user = re.search(r",user_id=(\d+)", options)
    return int(user[1]) if user else 0


def _remove_objects(top: int, directory: str, in_use: str) -> int:
    """Delete the objects in one directory of a cache; return how many. No directory: none."""
    removed = 0
    try:
        with _directory(directory, top) as inside:
            for name in filter(_OBJECT.fullmatch, os.listdir(inside)):
                if directory + name != in_use:
                    removed += _remove(inside, name)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
            raise
    return removed


def _remove(directory: int, name: str) -> bool:
    """Delete a file; return whether there was one."""
    try:
        os.unlink(name, dir_fd=directory)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True


@contextlib.contextmanager
def _directory(name: str | Path, parent: int | None = None) -> Generator[int]:
    """A descriptor of a directory, not of a link to one."""
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _empty_real_cache(place: Path) -> Emptied:
    talk = shutil.which("cvmfs_talk")
    if talk is None:
        raise MissingDependency("cvmfs_talk is not in PATH", "install the package cvmfs")
    command = [talk, *_talk_target(place), "cleanup", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TALK_TIMEOUT_S)
    if result.returncode:
        output = (result.stderr + result.stdout).strip().splitlines() or ["no reason given"]
        raise CvmprofError(
            f"the cache of the client at {place} was not emptied: {output[-1]}",
            "run as root, or as the user that cvmfs2 runs as",
        )
    return Emptied(place, None)


def _talk_target(place: Path) -> list[str]:
    """The client's socket if it lies in its working directory, else the repository's name."""
    name = _attribute(place, "user.fqrn") or ""
    socket = Path(f"/proc/{_attribute(place, 'user.pid')}/cwd/cvmfs_io.{name}")
    return ["-p", str(socket.resolve())] if socket.exists() else ["-i", name]


def _drop_everything() -> None:
    os.sync()
    try:
        DROP_CACHES.write_text("3")
    except PermissionError as error:
        raise NotPermitted(
            "only root may drop the machine's page cache", "run it with sudo"
        ) from error


def _require_cold(files: Iterable[Cooled]) -> None:
    warm = [file for file in files if file.cached_bytes_after and cached_bytes(file.path)]
    if warm:
        raise CvmprofError(
            f"{warm[0].path} still has {cached_bytes(warm[0].path)} bytes in the page cache",
            "a process maps or reads it: end that process, then try again",
        )
