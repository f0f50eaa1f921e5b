"""Cold means cold: nothing in the client's cache, nothing in the page cache, or an error."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from cvmprof.errors import CvmprofError, NotPermitted
from cvmprof.runners.lab import cold as cold_module
from cvmprof.runners.lab.lab import Lab, MountOptions, cached_bytes, cold, mount, publish, serve

from .conftest import CHUNKS, Fresh

PAGES = 37


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of 37 pages, freshly written: dirty in the page cache."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(PAGES * mmap.PAGESIZE))
    return path


def test_a_file_on_disk(file: Path) -> None:
    result = cold([file])
    assert result.files[0].cached_bytes_before == PAGES * mmap.PAGESIZE
    assert result.files[0].cached_bytes_after == 0
    assert result.clients == ()
    assert cached_bytes(file) == 0


def test_counting_does_not_warm(file: Path) -> None:
    cold([file])
    with open(file, "rb", buffering=0) as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(opened.fileno(), 1, 5 * mmap.PAGESIZE)
    assert cached_bytes(file) == mmap.PAGESIZE
    assert cached_bytes(file) == mmap.PAGESIZE


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("absent")
    result = cold([tmp_path])
    assert [entry.path for entry in result.files] == [tmp_path / "b", tmp_path / "in/a"]


def test_a_mapped_file_is_reported(file: Path) -> None:
    with (
        open(file, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapping,
    ):
        assert len(mapping[:]) == PAGES * mmap.PAGESIZE
        with pytest.raises(CvmprofError, match="in the page cache") as raised:
            cold([file])
    assert "maps or reads it" in raised.value.help_text
    assert cold([file]).files[0].cached_bytes_after == 0


def test_a_path_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CvmprofError, match="No such file"):
        cold([tmp_path / "absent"])


def test_a_mount(mounted: Path, lab: Lab, content: dict[str, bytes]) -> None:
    for name in content:
        (mounted / name).read_bytes()
    result = cold([mounted])
    assert {entry.path for entry in result.files} == {mounted / name for name in content}
    assert all(entry.cached_bytes_after == 0 for entry in result.files)
    assert [client.mountpoint for client in result.clients] == [mounted]
    left = [path for path in (lab.cache / "lab" / lab.repository).glob("??/*") if path.is_file()]
    root_hash = os.getxattr(mounted, "user.root_hash").decode()
    # The catalog in use stays, as with cvmfs2.
    assert [path.parent.name + path.name for path in left] == [root_hash]
    fresh = Fresh(lab)
    for name, data in content.items():
        assert (mounted / name).read_bytes() == data
    # Each distinct object once: 17 chunks, 3 of the twins, and the small files of 4 contents.
    assert len(fresh.paths()) == len(set(fresh.paths())) == CHUNKS + 3 + 4


@pytest.fixture
def claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that a mount says is its client's cache."""
    claims = {
        "user.fqrn": "x",
        "user.lab_cache": str(tmp_path / "claimed"),
        "user.root_hash": "01" + "a" * 38,
    }

    def attribute(_: Path, name: str) -> str | None:
        return claims.get(name)

    monkeypatch.setattr(cold_module, "_attribute", attribute)
    (tmp_path / "claimed").mkdir()
    return tmp_path / "claimed"


def test_nothing_but_objects_is_deleted(claimed: Path, file: Path, tmp_path: Path) -> None:
    kept = [
        "README",
        "01/README",
        "01/" + "a" * 38,
        "01/" + "b" * 37,
        "01/" + "b" * 39 + "C",
        "zz/" + "c" * 38,
        "01/" + "c" * 38 + "/" + "d" * 38,
    ]
    objects = ["01/" + "b" * 38, "01/" + "b" * 38 + "C", "fe/" + "9" * 38]
    for name in (*kept, *objects):
        (claimed / name).parent.mkdir(parents=True, exist_ok=True)
        (claimed / name).touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ("e" * 38)).touch()
    (claimed / "02").symlink_to(elsewhere)
    result = cold([file])
    assert [client.objects for client in result.clients] == [3]
    left = {str(path.relative_to(claimed)) for path in claimed.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert (elsewhere / ("e" * 38)).exists()


def test_a_cache_that_is_a_link_is_refused(claimed: Path, file: Path, tmp_path: Path) -> None:
    claimed.rmdir()
    (tmp_path / "elsewhere/01").mkdir(parents=True)
    treasure = tmp_path / "elsewhere/01" / ("b" * 38)
    treasure.touch()
    claimed.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CvmprofError, match="cannot be emptied"):
        cold([file])
    assert treasure.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_deletes_nothing_of_others_than_the_mounts_user(claimed: Path, file: Path) -> None:
    treasure = claimed / "01" / ("b" * 38)
    treasure.parent.mkdir()
    treasure.touch()
    os.chown(claimed, 4321, 4321)
    with pytest.raises(NotPermitted, match="which user 4321 owns"):
        cold([file])
    assert treasure.exists()


def test_a_directory_above_a_mount(lab: Lab, source: Path, tmp_path: Path) -> None:
    publish(lab, source)
    serve(lab)
    second = mount(lab, tmp_path / "above/second", MountOptions(client="lab"))
    (second / "whole.bin").read_bytes()
    result = cold([tmp_path / "above"])
    assert [client.mountpoint for client in result.clients] == [second]
    assert os.getxattr(second / "whole.bin", "user.lhash") == b"Not in cache"


def test_dropping_everything_is_only_for_the_asking(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "drop_caches"
    monkeypatch.setattr(cold_module, "DROP_CACHES", switch)
    cold([file])
    assert not switch.exists()
    cold([file], drop_all=True)
    assert switch.read_text() == "3"


def test_what_no_client_serves_is_told(file: Path) -> None:
    result = cold([file, file.parent])
    assert result.unserved == (file, file.parent)


def test_a_directory_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in it would stay warm."""

    def refuse(path: object = ".") -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CvmprofError, match=f"cannot read {tmp_path}: Permission denied"):
        cold([tmp_path])
