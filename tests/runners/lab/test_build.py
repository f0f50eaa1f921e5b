"""The compiled client: the functions that probes attach to, and errors of its build."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from cvmprof.errors import CvmprofError, MissingDependency
from cvmprof.runners.lab import build
from cvmprof.runners.lab.build import LIBRARY, client_program

FUNCTIONS = (
    "cvmfs::cvmfs_read(fuse_req*, unsigned long, unsigned long, long, fuse_file_info*)",
    "cvmfs::cvmfs_open(fuse_req*, unsigned long, fuse_file_info*)",
    "cvmfs::cvmfs_lookup(fuse_req*, unsigned long, char const*)",
    "cvmfs::cvmfs_getattr(fuse_req*, unsigned long, fuse_file_info*)",
    "cvmfs::cvmfs_readlink(fuse_req*, unsigned long)",
    "cvmfs::cvmfs_opendir(fuse_req*, unsigned long, fuse_file_info*)",
    "cvmfs::cvmfs_readdir(fuse_req*, unsigned long, unsigned long, long, fuse_file_info*)",
    "cvmfs::cvmfs_releasedir(fuse_req*, unsigned long, fuse_file_info*)",
    "cvmfs::cvmfs_release(fuse_req*, unsigned long, fuse_file_info*)",
    "cvmfs::cvmfs_statfs(fuse_req*, unsigned long)",
    "cvmfs::cvmfs_getxattr(fuse_req*, unsigned long, char const*, unsigned long)",
    "cvmfs::cvmfs_listxattr(fuse_req*, unsigned long, unsigned long)",
    "cvmfs::Fetcher::Fetch(CacheManager::LabeledObject const&, std::__cxx11::basic_string<char, "
    "std::char_traits<char>, std::allocator<char> > const&)",
    "download::DownloadManager::Fetch(download::JobInfo*)",
    "PosixCacheManager::Open(CacheManager::LabeledObject const&)",
)


def symbols(*options: str) -> list[tuple[str, str]]:
    """(type, demangled name) of each symbol of the library."""
    library = client_program().with_name(LIBRARY)
    listed = subprocess.run(
        ["nm", "-C", *options, str(library)], capture_output=True, text=True, check=True
    )
    return [(line[17], line[19:]) for line in listed.stdout.splitlines()]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_exists_once_and_is_local(function: str) -> None:
    # A clone would have the same name with a suffix such as [clone .isra.0].
    assert [kind for kind, name in symbols() if name.startswith(function)] == ["t"]


def test_no_function_is_exported_but_the_entry() -> None:
    ours = [
        name
        for _, name in symbols("-D", "--defined-only")
        if "cvmfs" in name or "Fetch" in name or "lab" in name
    ]
    assert ours == ["cvmprof_lab_main"]


def test_it_is_compiled_once() -> None:
    first = client_program()
    inode = first.stat().st_ino
    assert client_program() == first
    assert first.stat().st_ino == inode
    assert stat.S_IMODE(first.stat().st_mode) & 0o111


def test_it_prints_its_usage() -> None:
    result = subprocess.run([str(client_program())], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: cvmfs2")


def tools(directory: Path, *names: str) -> str:
    """A PATH that leads to these tools only."""
    directory.mkdir()
    for name in names:
        tool = shutil.which(name)
        assert tool is not None
        (directory / name).symlink_to(tool)
    return str(directory)


def test_a_missing_compiler_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", tools(tmp_path / "bin", "pkg-config"))
    with pytest.raises(MissingDependency, match=r"needs g\+\+ to compile") as raised:
        client_program()
    assert "g++" in raised.value.help_text


def test_missing_headers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKG_CONFIG_LIBDIR", "/nonexistent")
    with pytest.raises(MissingDependency, match="fuse3, libcurl") as raised:
        client_program()
    assert "libfuse3-dev libcurl4-openssl-dev libssl-dev" in raised.value.help_text


def test_a_failed_compilation_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "client"
    sources.mkdir()
    (sources / "broken.cpp").write_text("this is no C++;\n")
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(CvmprofError, match=r"does not compile: .*error"):
        client_program()
    assert list((tmp_path / "cache/cvmprof").iterdir()) == []


def test_root_does_not_fill_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be given somebody else's cache directory")
    theirs = tmp_path / "home"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    monkeypatch.setenv("XDG_CACHE_HOME", str(theirs / ".cache"))
    assert not client_program().is_relative_to(theirs)
    assert list(theirs.iterdir()) == []
