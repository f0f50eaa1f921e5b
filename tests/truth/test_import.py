"""One cold read of the real client, seen by its own debug log, by a trace and by the server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvmprof.profiler.run.opened import Run

from .conftest import READ_ALL, Trace, Truth, open_run, served_lab
from .test_late import client_command

pytestmark = pytest.mark.real_client
CHUNKS = 17


@pytest.fixture
def logged(truth: Truth, tmp_path: Path) -> Iterator[Truth]:
    """The real client with its debug library, which writes a debug log and a trace file."""
    place = tmp_path / "logged" / "mnt"
    place.parent.mkdir()
    with served_lab(tmp_path, truth.directory / "source") as lab:
        command = client_command(lab, place)
        with place.with_name("client.conf").open("a") as config:
            config.write(f"CVMFS_DEBUGLOG='{tmp_path}/debug.log'\n")
            config.write(f"CVMFS_TRACEFILE='{tmp_path}/trace'\n")
            config.write("CVMFS_TRACEBUFFER=16384\nCVMFS_TRACEBUFFER_THRESHOLD=7000\n")
        try:  # a client without its debug library does not mount
            subprocess.run([command[0], "-o", f"debug,{command[2]}", *command[3:]], check=True)
            yield Truth(lab, place, tmp_path)
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False, stderr=subprocess.DEVNULL)


def imported(log: Path, run: Path) -> Run:
    subprocess.run(
        [sys.executable, "-m", "cvmprof", "import", "--no-report", str(log), "-o", str(run)],
        check=True,
        env={**os.environ, "TZ": "UTC"},
    )
    return open_run(run)


def test_log_trace_and_server_tell_the_same(logged: Truth, trace: Trace, tmp_path: Path) -> None:
    before = logged.cool()
    run = trace(READ_ALL, 65536, logged.path("model.bin"))
    served = logged.served_hashes(before)
    assert len(served) == CHUNKS
    traced = run.tables["fetches"].filter(outcome="downloaded").sort("fetch_id")
    assert traced["object_hash"].to_list() == served
    subprocess.run(["umount", str(logged.mountpoint)], check=True)

    told = imported(tmp_path / "debug.log", tmp_path / "log.cvmprof").tables
    assert told["losses"].is_empty()
    chunks = told["fetches"].filter(object_kind="chunk").sort("fetch_id")
    assert chunks["object_hash"].to_list() == served
    assert set(chunks["outcome"]) == {"downloaded"}
    downloads = told["downloads"].drop_nulls("object_hash").sort("download_id")
    assert [each for each in downloads["object_hash"] if each in set(served)] == served
    assert set(downloads["status"]) == {200}
    reads = told["daemon_calls"].filter(function="cvmfs_read").height
    assert reads == run.tables["daemon_calls"].filter(function="cvmfs_read").height > 0
    misses = told["cache_lookups"].filter(hit=False)["object_hash"]
    assert sorted(each for each in misses if each in set(served)) == sorted(2 * served)


def test_the_trace_file_tells_what_was_opened(logged: Truth, tmp_path: Path) -> None:
    for name in ("model.bin", "twin-a.bin", "twin-b.bin"):
        with logged.path(name).open("rb") as file:
            assert file.read(1)
    subprocess.run(["umount", str(logged.mountpoint)], check=True)
    told = imported(tmp_path / "trace", tmp_path / "trace.cvmprof").tables
    opened = told["daemon_calls"].filter(function="cvmfs_open").join(told["files"], on="file_id")
    assert opened["path"].to_list() == ["/model.bin", "/twin-a.bin", "/twin-b.bin"]
