"""Paths of traced processes: walked without a request to any FUSE daemon."""

from __future__ import annotations

import ast
import ctypes
import errno
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvmprof.profiler.record.fuse_free_path import Untouchable, opened

from .conftest import Stopping

PATIENCE_S = 15
_DETACH = 2  # MNT_DETACH
_INIT_ANSWER = struct.pack("<IiQ IIIIHHI", 80, 0, 2, 7, 31, 0, 0, 1, 1, 4096).ljust(80, b"\0")


class Hung:
    """A FUSE mount whose daemon answers nothing, and what was asked of it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0".encode()
        if self._libc.mount(b"hung", os.fsencode(place), b"fuse.hung", 0, options):
            raise OSError(ctypes.get_errno(), "mount")
        (_, opcode, unique) = struct.unpack_from("<IIQ", os.read(self._device, 1 << 16))
        assert opcode == 26  # FUSE_INIT
        os.write(self._device, _INIT_ANSWER[:8] + struct.pack("<Q", unique) + _INIT_ANSWER[16:])

    def asked(self) -> list[int]:
        """The operation codes of the requests since."""
        found = list[int]()
        while True:
            try:
                found.append(struct.unpack_from("<II", os.read(self._device, 1 << 16))[1])
            except BlockingIOError:
                return found

    def end(self) -> None:
        """Unmounts it; whoever waits for it sees that it is gone."""
        self._libc.umount2(os.fsencode(self.place), _DETACH)
        if self._device >= 0:
            os.close(self._device)
            self._device = -1


@pytest.fixture
def hang() -> Iterator[Callable[[Path], Hung]]:
    """Mounts such a file system over a directory."""
    mounted = list[Hung]()

    def mount(place: Path) -> Hung:
        mounted.append(Hung(place))
        return mounted[-1]

    yield mount
    for each in mounted:
        each.end()


def said(expression: str) -> str:
    """What the recorder's code says, in a process that can be killed where it waits."""
    script = f"from cvmprof.profiler.record import daemons, fuse_free_path\nprint({expression})"
    return subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout.strip()


def inode(path: str | Path) -> int:
    with opened(str(path)) as file:
        return os.fstat(file).st_ino


def test_a_hung_mount_asked_by_others_is_seen_to_be(
    hang: Callable[[Path], Hung], tmp_path: Path
) -> None:
    """Else none of what follows would prove anything."""
    hung = hang(tmp_path)
    asking = subprocess.Popen(["cat", tmp_path / "file"], stderr=subprocess.DEVNULL)
    found = list[int]()
    while not found:
        found = hung.asked()
        assert asking.poll() is None
    hung.end()  # a request that was taken is waited for past all signals
    asking.wait(timeout=PATIENCE_S)
    assert found[0] in (1, 3)  # FUSE_LOOKUP, FUSE_GETATTR


def test_where_a_client_looks_on_a_hung_mount_is_left_alone(
    hang: Callable[[Path], Hung],
    daemon: Path,
    stopping: Callable[..., Stopping],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("mnt", "linked", "plain"):
        (tmp_path / name).mkdir()
    (tmp_path / "far").symlink_to("mnt/lib")
    (tmp_path / "linked" / "libcvmfs_fuse3.so").symlink_to("../mnt/libcvmfs_fuse3.so")
    (tmp_path / "plain" / "libcvmfs_fuse.so").write_bytes(b"here")
    places = [tmp_path / name for name in ("mnt", "mnt/lib", "far", "linked", "plain")]
    monkeypatch.setenv("CVMFS_LIBRARY_PATH", ":".join(map(str, places)))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "mnt" / ".." / "mnt"))
    process = stopping(daemon, 0, 0)
    hung = hang(tmp_path / "mnt")  # now: its own loader has looked already
    root = f"/proc/{process.pid}/root"
    expected = (
        f"{root}{tmp_path}/plain/libcvmfs_fuse.so",
        f"{root}{daemon.parent}/libcvmfs_fuse3.so",
    )
    monkeypatch.undo()
    assert said(f"daemons.libraries_near({process.pid})") == str(expected)
    assert hung.asked() == []


def test_a_library_below_a_hung_mount_is_the_mapped_one(
    hang: Callable[[Path], Hung],
    library: Path,
    daemon: Path,
    stopping: Callable[..., Stopping],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / library.name
    copy.write_bytes(library.read_bytes())
    monkeypatch.setenv("LD_PRELOAD", str(copy))
    process = stopping(daemon, 0, 0)
    number = copy.stat().st_ino
    hung = hang(tmp_path)
    monkeypatch.undo()
    (path,) = ast.literal_eval(said(f"daemons.libraries_of({process.pid})"))
    assert path.startswith(f"/proc/{process.pid}/map_files/")
    assert inode(path) == number
    assert hung.asked() == []


@pytest.mark.parametrize("name", ["", "file", "directory/file"])
def test_fuse_is_named_where_it_is_met(
    hang: Callable[[Path], Hung], tmp_path: Path, name: str
) -> None:
    hung = hang(tmp_path)
    with pytest.raises(Untouchable, match=r"of the type fuse\.hung$"), opened(str(tmp_path / name)):
        pass
    assert hung.asked() == []


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    file = tmp_path / "a" / "file"
    file.touch()
    (tmp_path / "b" / "relative").symlink_to("../a/./file")
    (tmp_path / "b" / "absolute").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "twice").symlink_to("absolute/../b/relative")
    for path in ("b/relative", "b/absolute/file", "b/twice", "b/../a//file"):
        assert inode(tmp_path / path) == file.stat().st_ino, path
    above = "/.." * 99
    assert inode(f"{above}{file}") == file.stat().st_ino


def test_links_end_at_the_root_of_their_process(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "lib").mkdir(parents=True)
    (root / "lib" / "file").touch()
    (root / "absolute").symlink_to("/lib/file")
    (root / "above").symlink_to("../../../../lib/file")
    script = "import os, sys; os.chroot(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"\n"
        for name in ("absolute", "above", "lib/file"):
            path = f"/proc/{process.pid}/root/{name}"
            assert inode(path) == (root / "lib" / "file").stat().st_ino
        assert process.stdin is not None
        process.stdin.close()


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as error, opened(str(tmp_path / "a")):
        pass
    assert error.value.errno == errno.ELOOP


def test_what_is_no_file_of_data_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(OSError, match="not a regular file"), opened(str(path)):
            pass


def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError), opened(str(tmp_path / "absent" / "file")):
        pass
    (tmp_path / "file").touch()
    with opened(str(tmp_path / "file")):
        assert len(os.listdir("/proc/self/fd")) > len(before)
    assert os.listdir("/proc/self/fd") == before
