"""Probes on a client's library whose symbols are elsewhere, or that is elsewhere itself."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cvmprof.probes import events

from .conftest import Recording, Stopping

CALLS = 1009
READ, FETCH, DOWNLOAD, OPEN, STATFS = 9, 14, 15, 16, 11  # places in events.DAEMON_FUNCTIONS
#: of the calls 1…1009 those whose number, modulo 251, is odd download
EXPECTED = {READ: CALLS, FETCH: CALLS, OPEN: CALLS, DOWNLOAD: 503, STATFS: 1}
LIBRARY = "libcvmfs_fuse3.so"


def tool(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


@pytest.fixture
def place(library: Path, daemon: Path, tmp_path: Path) -> Path:
    """A client of its own: stripped, its debug file beside it."""
    made = tmp_path / "client"
    made.mkdir()
    shutil.copy(daemon, made / "cvmfs2")
    tool("objcopy", "--only-keep-debug", library, made / "client.debug")
    tool("strip", "-o", made / LIBRARY, library)
    return made


def build_id_of(library: Path) -> str:
    printed = subprocess.run(
        ["readelf", "-n", library], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return printed.partition("Build ID: ")[2].split()[0]


def packed(place: Path) -> None:
    """Symbols packed inside of the library."""
    (place / "mini").write_bytes(lzma.compress((place / "client.debug").read_bytes()))
    tool("objcopy", f"--add-section=.gnu_debugdata={place / 'mini'}", place / LIBRARY)


def linked(place: Path) -> None:
    """Symbols in a file that the library names."""
    (place / ".debug").mkdir()
    tool("objcopy", f"--add-gnu-debuglink={place / 'client.debug'}", place / LIBRARY)
    (place / "client.debug").rename(place / ".debug" / "client.debug")


def counted(recorder: Recording, process: Stopping) -> Counter[int]:
    """Calls of that process until its next stop."""
    assert process.go_on()
    recorder.stop()
    calls = (call for call in recorder.records(events.CALL) if call["pid"] == process.pid)
    return Counter(call["function"] for call in calls)


def symbols_read(recorder: Recording, part: str) -> set[str | None]:
    """Where the symbols of the probed functions of a library were read."""
    rows = [row for line in recorder.journal("probes") for row in line["rows"]]
    ours = [row for row in rows if part in row["target"] and row["family"] != "none"]
    assert len(ours) == len(EXPECTED), rows
    assert len({row["build_id"] for row in ours}) == 1
    return {row["symbols"] for row in ours}


@pytest.mark.parametrize(
    ("keep", "source"),
    [(packed, ".gnu_debugdata"), (linked, "debuglink {root}{place}/.debug/client.debug")],
)
def test_every_call_is_counted_by_symbols_kept_apart(
    place: Path,
    stopping: Callable[..., Stopping],
    recording: Callable[..., Recording],
    keep: Callable[[Path], None],
    source: str,
) -> None:
    keep(place)
    process = stopping(place / "cvmfs2", CALLS, 1)
    recorder = recording()
    assert counted(recorder, process) == EXPECTED
    root = f"/proc/{process.pid}/root"
    assert symbols_read(recorder, str(place)) == {source.format(root=root, place=place)}


def test_without_them_only_what_is_exported_is_probed(
    place: Path, stopping: Callable[..., Stopping], recording: Callable[..., Recording]
) -> None:
    """Else the counts above would prove nothing."""
    process = stopping(place / "cvmfs2", CALLS, 1)
    recorder = recording()
    exported = (FETCH, OPEN, DOWNLOAD)
    assert counted(recorder, process) == {number: EXPECTED[number] for number in exported}
    rows = [row for line in recorder.journal("probes") for row in line["rows"]]
    ours = {row["target"]: row for row in rows if str(place) in row["target"]}
    assert {row["symbols"] for row in ours.values()} == {".dynsym"}
    (read,) = (row for target, row in ours.items() if target.endswith(":cvmfs::cvmfs_read"))
    assert read["family"] == "none"
    assert read["reason"] == "no symbol cvmfs::cvmfs_read (symbols read: .dynsym)"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_library_that_was_removed_or_replaced_is_still_the_one_that_runs(
    place: Path,
    stopping: Callable[..., Stopping],
    recording: Callable[..., Recording],
    replaced: bool,
) -> None:
    """By an update of the client, say: what a probe is put on is what the daemon has mapped."""
    linked(place)
    process = stopping(place / "cvmfs2", CALLS, 1)
    content = (place / LIBRARY).read_bytes()
    (place / LIBRARY).unlink()
    if replaced:
        (place / LIBRARY).write_bytes(content)
    recorder = recording()
    assert counted(recorder, process) == EXPECTED
    path = f"/proc/{process.pid}/root{place}/.debug/client.debug"
    assert symbols_read(recorder, f"/proc/{process.pid}/map_files/") == {f"debuglink {path}"}


def test_a_daemon_in_a_mount_namespace_and_a_root_of_its_own(
    place: Path, stopping: Callable[..., Stopping], recording: Callable[..., Recording]
) -> None:
    """Neither its library nor its debug file can be reached by a path of ours."""
    build_id = build_id_of(place / LIBRARY)
    files = place / "usr/lib/debug/.build-id" / build_id[:2]
    files.mkdir(parents=True)
    (place / "client.debug").rename(files / f"{build_id[2:]}.debug")
    needed = subprocess.run(
        ["ldd", place / "cvmfs2"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()
    for path in (word for word in needed if word.startswith("/") and LIBRARY not in word):
        target = place / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    root = place.with_name("root")
    root.mkdir()
    begin = f"mount -t tmpfs none {root} && cp -a {place}/. {root} && cd {root}"
    client = f"LD_LIBRARY_PATH=/ exec chroot . /cvmfs2 {CALLS} 1"
    process = stopping("unshare", "--mount", "sh", "-c", f"{begin} && {client}")
    assert not list(root.iterdir())
    shutil.rmtree(place)
    recorder = recording()
    assert counted(recorder, process) == EXPECTED
    base = f"/proc/{process.pid}/root"
    expected = f"build-id {base}/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    assert symbols_read(recorder, f"{base}/{LIBRARY}:") == {expected}
