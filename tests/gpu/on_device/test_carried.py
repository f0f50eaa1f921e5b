"""What is carried is used beside what is installed."""

from __future__ import annotations

import lzma
import subprocess
import tarfile
from pathlib import Path

import pytest

from cvmprof.tests.gpu.on_device.carried import BCC, CLIENT, LIBRARIES, unpack

#: every machine has the first; the others are always used together
_CARRIED = ("libc.so.6", "libbcc.so.0", "libLLVM-14.so.1", "libnobodyhasthis.so.1")
_CLIENT = '#!/bin/sh\necho "$LD_LIBRARY_PATH" "$@"\n'


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for directory in (LIBRARIES, CLIENT, f"{BCC}/bcc"):
        (source / directory).mkdir(parents=True)
    for name in _CARRIED:
        (source / LIBRARIES / name).touch()
    (source / BCC / "bcc" / "__init__.py").write_text(
        "import os\nlibraries = os.environ['LD_LIBRARY_PATH']\n"
    )
    client = source / CLIENT / "cvmfs2"
    client.write_text(_CLIENT)
    client.chmod(0o755)
    file = tmp_path / "carried.tar.xz"
    with tarfile.open(file, "w:xz") as tar:
        tar.add(source, arcname=".")
    return file


def test_installed_libraries_are_preferred(packed: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    unpack(packed, place, every_library=False)
    assert {path.name for path in (place / "linked").iterdir()} == {*_CARRIED} - {"libc.so.6"}


def test_all_libraries_can_be_used(packed: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    unpack(packed, place, every_library=True)
    assert {path.name for path in (place / "linked").iterdir()} == {*_CARRIED}


def test_the_client_is_started_with_its_libraries(packed: Path, tmp_path: Path) -> None:
    carried = unpack(packed, tmp_path / "place", every_library=False)
    command = [str(carried.client), "--url=http://x", "a b"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/place/linked --url=http://x a b\n"


def test_a_recorder_finds_bcc_and_its_libraries(packed: Path, tmp_path: Path) -> None:
    carried = unpack(packed, tmp_path / "place", every_library=False)
    program = "import bcc, sys; print(bcc.libraries, *sys.argv[1:])"
    command = [str(carried.recorder_python), "-I", "-B", "-c", program, "root", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={}, cwd="/")
    assert done.stdout == f"{tmp_path}/place/linked root 7\n"


def test_a_damaged_file_raises(tmp_path: Path) -> None:
    file = tmp_path / "carried.tar.xz"
    file.write_bytes(b"damaged")
    with pytest.raises(lzma.LZMAError):
        unpack(file, tmp_path / "place", every_library=False)
