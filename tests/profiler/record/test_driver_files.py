"""Finding the CUDA driver's library, and who may change it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cvmprof.profiler.record import driver_files
from cvmprof.tests.gpu.stand_ins import StandIns

from .conftest import Stopping


def test_what_the_search_path_has(tmp_path: Path) -> None:
    for name in ("libcuda.so.1", "libcuda.so", "libcuda.so.2", "libcudart.so.1"):
        (tmp_path / name).touch()
    (tmp_path / "directory" / "libcuda.so.1").mkdir(parents=True)
    search_path = f":relative:{tmp_path}:{tmp_path}/absent:{tmp_path}/directory"
    found = driver_files.installed(search_path)
    ours = [path for path in found if path.startswith(str(tmp_path))]
    assert ours == [f"{tmp_path}/libcuda.so.1", f"{tmp_path}/libcuda.so"]


def test_what_the_loaders_cache_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("libcuda.so.1", "libcudadebugger.so.1"):
        (tmp_path / name).touch()
    names = ("libcuda.so.1", "libcudadebugger.so.1", "gone/libcuda.so.1")
    strings = b"\0".join(f"{tmp_path}/{name}".encode() for name in names)
    cache = tmp_path / "cache"
    cache.write_bytes(b"glibc-ld.so.cache1.1" + bytes(60) + strings + b"\0")
    monkeypatch.setattr(driver_files, "_CACHE", str(cache))
    monkeypatch.setattr(driver_files, "LIBRARY_DIRECTORIES", ())
    assert driver_files.installed("") == (f"{tmp_path}/libcuda.so.1",)
    cache.unlink()
    assert driver_files.installed("") == ()


def test_what_a_process_has_mapped(
    stand_ins: StandIns, stopping: Callable[..., Stopping], tmp_path: Path
) -> None:
    """Even if it was replaced since; libcudart, which it has mapped too, is another library."""
    library = tmp_path / "libcuda.so.1"
    shutil.copy(stand_ins.libcuda, library)
    path = f"{tmp_path}:{stand_ins.libraries}"
    program = (stand_ins.program, "pause")
    process = stopping("env", f"LD_LIBRARY_PATH={path}", "sh", "-c", STOPPED, "sh", *program)
    assert driver_files.mapped(process.pid) == ()  # a shell
    process.start()
    while not (driver_files.mapped(process.pid) and sleeps(process.pid)):
        os.sched_yield()
    assert driver_files.mapped(process.pid) == (f"/proc/{process.pid}/root{library}",)
    inode = library.stat().st_ino
    library.unlink()  # the inode lives on in the mapping
    shutil.copy(stand_ins.libcuda, library)
    (now,) = driver_files.mapped(process.pid)
    assert "/map_files/" in now
    assert os.stat(now).st_ino == inode


def sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


STOPPED = 'kill -STOP $$; exec "$@"'


@pytest.mark.parametrize(
    ("owner", "mode", "refused"),
    [
        (0, 0o644, None),
        (0, 0o755, None),
        (0, 0o664, "others than root may write to it"),
        (0, 0o646, "others than root may write to it"),
        (1000, 0o644, "it belongs to user 1000"),
    ],
)
def test_only_files_that_only_root_can_change(
    tmp_path: Path, owner: int, mode: int, refused: str | None
) -> None:
    file = tmp_path / "libcuda.so.1"
    file.touch()
    os.chown(file, owner, 0)
    file.chmod(mode)
    if refused is None:
        driver_files.check_owner(file.stat())
        return
    with pytest.raises(PermissionError, match=refused):
        driver_files.check_owner(file.stat())
