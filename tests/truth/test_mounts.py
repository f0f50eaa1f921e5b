"""What only the real client has: cache managers, reloads, new revisions, a cache limit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.runners.lab.lab import Cutting, Lab, publish

from .conftest import READ_ALL, served_lab
from .test_late import assert_tiling, client_command, traced

pytestmark = pytest.mark.real_client

CHUNKS, CHUNK_BYTES = 41, 1 << 18
NAME = "model.bin"
Mount = Callable[..., Path]


def one_file(root: Path, repository: str, chunks: int) -> AbstractContextManager[Lab]:
    """A lab that serves one file of so many chunks."""
    data = os.urandom(chunks * CHUNK_BYTES - 1009)
    return served_lab(root, {NAME: data}, name=repository, chunk_bytes=CHUNK_BYTES)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with one_file(tmp_path_factory.mktemp("mounts"), "one.lab.test", CHUNKS) as served:
        yield served


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a lab's repository with settings of the client; all are unmounted in the end."""
    places: list[Path] = []

    def mount(
        lab: Lab, name: str = "one", environment: dict[str, str] | None = None, **settings: object
    ) -> Path:
        place = tmp_path / name / "mnt"
        place.parent.mkdir(exist_ok=True)
        command = client_command(lab, place, environment, settings)
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=False, stderr=subprocess.DEVNULL)


def reading(*files: Path) -> list[str]:
    """A command that reads files."""
    return [sys.executable, "-I", "-c", READ_ALL, "65536", *map(str, files)]


def mount_of(run: Run, place: Path) -> dict[str, Any]:
    """The row of a mount, the last one at that place."""
    return run.tables["mounts"].filter(mountpoint=str(place)).row(-1, named=True)


def differences(run: Run, place: Path) -> dict[str, int | None]:
    """What the client counted otherwise, by quantity."""
    rows = run.tables["reconciliation"].filter(mount_id=mount_of(run, place)["mount_id"])
    return dict(rows.select("quantity", "difference").iter_rows())


NO_DIFFERENCE = {"objects": 0, "body_bytes": 0, "chunks": 0}


def fetched(run: Run, place: Path) -> int:
    """How many chunks were downloaded for a mount."""
    rows = run.tables["fetches"].filter(
        mount_id=mount_of(run, place)["mount_id"], outcome="downloaded", object_kind="chunk"
    )
    return rows.height


def said(run: Run) -> str:
    """The summary of a run."""
    made = subprocess.run(
        [sys.executable, "-m", "cvmprof", "summary", str(run.path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return " ".join(made.stdout.split())


MANAGERS: dict[str, tuple[dict[str, object], str]] = {
    "private": ({}, "posix"),
    "shared": ({"CVMFS_SHARED_CACHE": "yes"}, "posix shared"),
    "unmanaged": ({"CVMFS_QUOTA_LIMIT": -1}, "posix unmanaged"),
    "alien": ({"CVMFS_ALIEN_CACHE": "{root}/alien", "CVMFS_QUOTA_LIMIT": -1}, "posix alien"),
    "ram": ({"CVMFS_CACHE_PRIMARY": "memory", "CVMFS_CACHE_memory_TYPE": "ram"}, "ram"),
    "tiered": (
        {
            "CVMFS_CACHE_PRIMARY": "both",
            "CVMFS_CACHE_both_TYPE": "tiered",
            "CVMFS_CACHE_both_UPPER": "memory",
            "CVMFS_CACHE_both_LOWER": "files",
            "CVMFS_CACHE_memory_TYPE": "ram",
            "CVMFS_CACHE_files_TYPE": "posix",
            "CVMFS_CACHE_files_BASE": "{root}/files",
            "CVMFS_CACHE_files_SHARED": "no",
            "CVMFS_CACHE_files_QUOTA_LIMIT": 1000,
        },
        "tiered (posix, ram)",
    ),
}


@pytest.mark.parametrize("name", MANAGERS)
def test_cache_managers(lab: Lab, mounted: Mount, tmp_path: Path, name: str) -> None:
    """Whatever keeps the objects, a cold read looks the same, and equals what the client counts."""
    settings, manager = MANAGERS[name]
    placed = {key: str(value).replace("{root}", str(tmp_path)) for key, value in settings.items()}
    place = mounted(lab, **placed)
    run = traced(tmp_path / "run.cvmprof", reading(place / NAME))
    assert mount_of(run, place)["cache_manager"] == manager
    assert (mount_of(run, place)["cache_path"] is None) == (name == "ram")
    assert fetched(run, place) == CHUNKS
    assert differences(run, place) == NO_DIFFERENCE
    lookups = run.tables["cache_lookups"].group_by("hit").len().sort("hit")
    assert lookups.rows()[0] == (False, 2 * CHUNKS)  # each fetch looks twice
    assert_tiling(run)


def test_a_streaming_client_keeps_nothing(lab: Lab, mounted: Mount, tmp_path: Path) -> None:
    place = mounted(lab, CVMFS_STREAMING_CACHE="yes")
    run = traced(tmp_path / "run.cvmprof", reading(place / NAME))
    assert mount_of(run, place)["cache_manager"] == "streaming (posix)"
    downloads = run.tables["downloads"].drop_nulls("object_hash")
    calls = run.tables["daemon_calls"].filter(function="cvmfs_read")
    assert downloads.height >= calls.height > CHUNKS  # every read downloads, some two chunks
    assert downloads["object_hash"].n_unique() == CHUNKS
    fetches = run.tables["fetches"].filter(object_kind="chunk")
    assert sorted(fetches["download_id"]) == sorted(downloads["download_id"])
    places = fetches.select("file_id", "offset_bytes", "unpacked_bytes")
    assert places.drop_nulls().height == places.height
    assert_tiling(run)
    assert differences(run, place) == NO_DIFFERENCE
    assert "each READ that reaches it downloads its whole chunk again" in said(run)


def test_many_mounts_at_once(
    lab: Lab, mounted: Mount, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two mounts of one repository share a cache, a third has its own, a fourth other content."""
    shared: dict[str, object] = {
        "CVMFS_SHARED_CACHE": "yes",
        "CVMFS_CACHE_BASE": tmp_path / "common",
    }
    (tmp_path / "common").mkdir()
    with one_file(tmp_path_factory.mktemp("second"), "two.lab.test", 7) as second:
        places = [
            mounted(lab, "first", **shared),
            mounted(lab, "own"),
            mounted(second, "other", **shared),
        ]
        run = traced(tmp_path / "run.cvmprof", reading(*(place / NAME for place in places)))
    assert [fetched(run, place) for place in places] == [CHUNKS, CHUNKS, 7]
    rows = [mount_of(run, place) for place in places]
    assert [row["repository"] for row in rows] == ["one.lab.test"] * 2 + ["two.lab.test"]
    assert [row["cache_manager"] for row in rows] == ["posix shared", "posix", "posix shared"]
    assert rows[0]["cache_path"] == rows[2]["cache_path"] == str(tmp_path / "common" / "shared")
    assert len({row["daemon_pid"] for row in rows}) == 3
    assert [differences(run, place) for place in places] == [NO_DIFFERENCE] * 3


@pytest.fixture
def copied(tmp_path: Path) -> dict[str, str]:
    """Variables for a client of which this test has a copy."""
    real = shutil.which("cvmfs2")
    assert real is not None
    for part in ("bin", "lib"):
        shutil.copytree(
            Path(real).resolve().parents[1] / part, tmp_path / "client" / part, symlinks=True
        )
    lib = str(tmp_path / "client" / "lib")
    path = f"{tmp_path / 'client' / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": lib, "CVMFS_LIBRARY_PATH": lib}


#: reads a file's first half, has the client's code replaced and loaded anew, and reads the rest
RELOAD = """
import os, shutil, subprocess, sys
path, library, client, socket = sys.argv[1:]
half = os.path.getsize(path) // 2
with open(path, "rb", buffering=0) as file:
    while file.tell() < half and file.read(65536): pass
    shutil.copy(library, library + ".new")
    os.replace(library + ".new", library)
    subprocess.run([client, "__RELOAD__", socket], check=True, stdout=subprocess.DEVNULL)
    while file.read(65536): pass
"""


def test_a_reload_with_new_code(
    lab: Lab, mounted: Mount, tmp_path: Path, copied: dict[str, str]
) -> None:
    place = mounted(lab, environment=copied)
    daemon = int(os.getxattr(place, "user.pid"))
    library = (tmp_path / "client" / "lib" / "libcvmfs_fuse3.so").resolve()
    client = tmp_path / "client" / "bin" / "cvmfs2"
    socket = place.with_name("cache") / f"cvmfs.{lab.repository}"
    command = [sys.executable, "-I", "-c", RELOAD, place / NAME, library, client, socket]
    run = traced(tmp_path / "run.cvmprof", list(map(str, command)), copied)
    (reload,) = run.tables["incidents"].filter(kind="reload").to_dicts()
    assert (reload["pid"], reload["mount_id"]) == (daemon, mount_of(run, place)["mount_id"])
    assert "revision 1 before and after" in reload["detail"]
    calls = run.tables["daemon_calls"].filter(function="Fetcher::Fetch")
    after = calls.filter(pl.col("start_ns") > reload["time_ns"])
    assert after.height >= CHUNKS // 2 - 1
    assert fetched(run, place) == CHUNKS
    assert differences(run, place) == NO_DIFFERENCE
    assert mount_of(run, place)["daemon_pid"] == daemon
    assert "A client was reloaded" in said(run)
    assert_tiling(run)


#: reads a file; with each further manifest that the server gets, has the client take it, and reads
#: one file more
REMOUNT = """
cat "$1/{name}" >/dev/null
for revision in 2 3; do
    cp "$2.$revision" "$2"
    cvmfs_talk -p "$3" remount sync >/dev/null
    cat "$1/later$revision.bin" >/dev/null
done
"""


def test_remounts_to_new_revisions(
    mounted: Mount, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("revised")
    with one_file(root, "new.lab.test", 5) as lab:
        (manifest,) = root.rglob(".cvmfspublished")
        first = manifest.read_bytes()
        for revision in (2, 3):
            name = f"later{revision}.bin"
            (root / "source" / name).write_bytes(os.urandom((revision + 1) * CHUNK_BYTES - 1))
            publish(lab, root / "source", Cutting(CHUNK_BYTES, 2 * CHUNK_BYTES))
            shutil.copy(manifest, f"{manifest}.{revision}")
        manifest.write_bytes(first)
        place = mounted(lab)
        socket = place.with_name("cache") / f"cvmfs_io.{lab.repository}"
        script = REMOUNT.format(name=NAME)
        command = ["sh", "-e", "-c", script, "sh", str(place), str(manifest), str(socket)]
        run = traced(tmp_path / "run.cvmprof", command)
    remounts = run.tables["incidents"].filter(kind="remount").sort("time_ns")
    assert remounts["detail"].to_list() == [
        f"{place}: revision 1 before, 2 after",
        f"{place}: revision 2 before, 3 after",
    ]
    row = mount_of(run, place)
    assert (row["revision_at_start"], row["revision"]) == (1, 3)
    starts = run.tables["fetches"].filter(object_kind="chunk")["start_ns"].sort()
    second, third = remounts["time_ns"]
    assert starts[4] < second < starts[5]
    assert starts[7] < third < starts[8]
    assert fetched(run, place) == 5 + 3 + 4
    assert differences(run, place) == NO_DIFFERENCE
    assert "A repository was remounted" in said(run)


#: reads the first half of a file, has the daemon die, mounts anew, and reads the other half
CRASH = """
import os, select, subprocess, sys
path, daemon, number, *mount = sys.argv[1:]
size = os.path.getsize(path)
file = open(path, "rb", buffering=0)
while file.tell() < size // 2 and file.read(65536): pass
died = os.pidfd_open(int(daemon))
os.kill(int(daemon), int(number))
select.select([died], [], [])  # its watchdog lets it serve until it has written the stack down
try:
    while file.read(65536): pass
    sys.exit("the dead daemon has served a file")
except OSError:
    pass
try:
    file.close()
except OSError:
    pass
subprocess.run(["umount", "-l", os.path.dirname(path)], check=True)
subprocess.run(mount, check=True, stdout=subprocess.DEVNULL)
with open(path, "rb", buffering=0) as file:
    file.seek(size // 2 + (1 << 20))
    while file.read(65536): pass
"""


def test_a_crash_and_a_restart(lab: Lab, mounted: Mount, tmp_path: Path) -> None:
    place = mounted(lab)
    daemon = int(os.getxattr(place, "user.pid"))
    again = client_command(lab, place)
    number = signal.SIGSEGV.value
    command = [sys.executable, "-I", "-c", CRASH, place / NAME, daemon, number, *again]
    run = traced(tmp_path / "run.cvmprof", list(map(str, command)))
    assert run.meta["complete"]
    (crash,) = run.tables["incidents"].filter(kind="crash").to_dicts()
    assert (crash["pid"], crash["signal"], crash["tid"]) == (daemon, signal.SIGSEGV, daemon)
    assert "last call" in crash["detail"] or "in cvmfs_read" in crash["detail"]
    row = mount_of(run, place)
    assert row["daemon_pid"] != daemon
    assert row["start_ns"] > crash["time_ns"]
    assert crash["mount_id"] != row["mount_id"]
    assert 0 < fetched(run, place) < CHUNKS  # what the new daemon had to fetch
    assert differences(run, place) == NO_DIFFERENCE
    assert "died of signal 11" in said(run)
    assert_tiling(run)


def test_eviction_while_reading(lab: Lab, mounted: Mount, tmp_path: Path) -> None:
    """A cache that holds less than the model: what was evicted is downloaded again."""
    place = mounted(lab, CVMFS_QUOTA_LIMIT=6)
    drop = ["sh", "-c", 'for _ in 1 2 3; do "$@"; echo 3 > /proc/sys/vm/drop_caches; done', "sh"]
    run = traced(tmp_path / "run.cvmprof", [*drop, *reading(place / NAME)])
    evicted = run.tables["incidents"].filter(kind="eviction")
    assert evicted.height >= 1
    assert evicted["mount_id"].unique().to_list() == [mount_of(run, place)["mount_id"]]
    hashes = run.tables["fetches"].filter(outcome="downloaded")["object_hash"]
    assert hashes.n_unique() == CHUNKS < len(hashes)
    assert differences(run, place) == NO_DIFFERENCE
    text = said(run)
    assert "Objects were removed from a client's cache" in text
    assert "its limit (CVMFS_QUOTA_LIMIT) is too low for what is used" in text
