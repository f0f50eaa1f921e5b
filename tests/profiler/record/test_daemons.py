"""Finding daemons and their libraries in /proc."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvmprof.profiler.record.daemons import (
    Daemon,
    installed_libraries,
    libraries_near,
    libraries_of,
    running_daemons,
)

from .conftest import Stopping


@pytest.fixture
def zombie(daemon: Path) -> Iterator[int]:
    """A client that has ended and is not collected."""
    process = subprocess.Popen([daemon])  # told nothing, it ends at once
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def found(pid: int) -> Daemon | None:
    return next((each for each in running_daemons() if each.pid == pid), None)


def test_a_running_client_is_found_with_its_threads(
    daemon: Path, stopping: Callable[..., Stopping]
) -> None:
    process = stopping(daemon, 0, 0)
    assert found(process.pid) == Daemon(process.pid, "cvmfs2", (process.pid,))


def test_another_program_is_no_daemon(
    build: Callable[..., Path], stopping: Callable[..., Stopping]
) -> None:
    process = stopping(build("storm.c", "storm"), "getppid", 1, 1)
    assert found(process.pid) is None
    assert libraries_of(process.pid) == ()


def test_a_zombie_is_no_daemon(zombie: int) -> None:
    assert Path(f"/proc/{zombie}/comm").read_text() == "cvmfs2\n"
    assert found(zombie) is None


def test_the_library_that_is_mapped(daemon: Path, stopping: Callable[..., Stopping]) -> None:
    process = stopping(daemon, 0, 0)
    (library,) = libraries_of(process.pid)
    assert library == f"/proc/{process.pid}/root{daemon.parent}/libcvmfs_fuse3.so"


def test_a_mapped_library_that_was_replaced_is_still_the_mapped_one(
    daemon: Path, stopping: Callable[..., Stopping], tmp_path: Path
) -> None:
    """An update of the client puts a new file under the old name; daemons keep the old one."""
    moved = tmp_path / "cvmfs2"
    shutil.copy(daemon, moved)
    library = tmp_path / "libcvmfs_fuse3.so"
    shutil.copy(daemon.parent / library.name, library)
    process = stopping(moved, 0, 0)
    inode = library.stat().st_ino
    library.unlink()  # the inode lives on in the mapping
    shutil.copy(daemon.parent / library.name, library)
    paths = libraries_of(process.pid)
    assert {os.stat(path).st_ino for path in paths} == {inode}
    assert library.stat().st_ino != inode


def test_where_a_client_will_find_its_library(
    daemon: Path, stopping: Callable[..., Stopping], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "libcvmfs_fuse.so"
    other.touch()
    monkeypatch.setenv("CVMFS_LIBRARY_PATH", str(tmp_path))
    process = stopping(daemon, 0, 0)
    root = f"/proc/{process.pid}/root"
    assert libraries_near(process.pid) == (
        f"{root}{other}",
        f"{root}{daemon.parent}/libcvmfs_fuse3.so",
    )


def test_a_process_that_is_gone_has_no_libraries(zombie: int) -> None:
    assert libraries_of(zombie) == ()
    assert libraries_near(zombie) == ()
    assert libraries_of(1 << 30) == ()


def test_installed_libraries_exist() -> None:
    assert all(os.path.exists(path) for path in installed_libraries())
