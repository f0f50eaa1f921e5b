"""The lab's repository through the real cvmfs2, if it is installed: the format is the real one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from cvmprof.runners.lab.lab import (
    Lab,
    MountOptions,
    Shaping,
    cold,
    mount,
    order,
    publish,
    serve,
    unmount,
)
from cvmprof.runners.lab.processes import Daemon

from .conftest import CHUNKS, CUTTING, Fresh

pytestmark = pytest.mark.real_client


@pytest.fixture
def real(lab: Lab, source: Path) -> Path:
    publish(lab, source, CUTTING)
    serve(lab)
    return mount(lab, options=MountOptions(client="real"))


def test_it_reads_what_was_published(real: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        assert (real / name).read_bytes() == data
    assert (real / "link").readlink() == Path("deep/er/text.txt")
    assert not os.getxattr(real, "user.version").decode().endswith("lab")


def test_it_has_the_same_attributes_as_the_labs_client(real: Path, lab: Lab) -> None:
    def attributes(name: str) -> list[bytes]:
        return [os.getxattr(real / name, f"user.{key}") for key in ("chunk_list", "chunks")]

    names = ("chunked.bin", "whole.bin", "empty", "twins/two.bin")
    theirs = [attributes(name) for name in names]
    their_root = os.getxattr(real, "user.root_hash")
    inodes = [(real / name).stat().st_ino for name in names]
    unmount(lab)
    mount(lab, options=MountOptions(client="lab"))
    assert [attributes(name) for name in names] == theirs
    assert os.getxattr(real, "user.root_hash") == their_root
    assert [(real / name).stat().st_ino for name in names] == inodes


def test_a_cold_read_downloads_each_chunk_once(
    real: Path, lab: Lab, content: dict[str, bytes]
) -> None:
    order(lab, Shaping(latency_s=0.01))
    for _ in range(2):
        cold([real / "chunked.bin"])
        fresh = Fresh(lab)
        assert (real / "chunked.bin").read_bytes() == content["chunked.bin"]
        listed = os.getxattr(real / "chunked.bin", "user.chunk_list").decode().split()[1:]
        assert sorted(fresh.paths()) == sorted(f"{row.partition(',')[0]}P" for row in listed)
        assert len(listed) == CHUNKS


def test_a_forced_unmount_ends_it(real: Path, lab: Lab) -> None:
    daemon = Daemon.of(int(os.getxattr(real, "user.pid")))
    fd = os.open(real / "whole.bin", os.O_RDONLY)
    unmount(lab, force=True)
    # The file's connection is gone; close(2) may report it.
    with contextlib.suppress(OSError):
        os.close(fd)
    assert not os.path.ismount(real)
    assert not daemon.alive()
