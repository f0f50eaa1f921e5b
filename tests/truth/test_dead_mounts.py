"""File operations that fail: on mounts whose client has ended, and where nothing is mounted."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from cvmprof.errors import CvmprofError
from cvmprof.profiler.run.opened import Run
from cvmprof.runners.lab.lab import Lab, cold, mount, unmount

from .conftest import Trace, served_lab

#: tries every call, and prints what the kernel answered, as JSON
TRY = """
import errno, json, os, sys
top, name = sys.argv[1:]
path = f"{top}/{name}"
def answer(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return -error.errno
    return 0
def execute():
    pid = os.fork()
    if not pid:
        os._exit(-answer(os.execv, path, [path]))
    return -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
answers = [answer(os.open, path, os.O_RDONLY), answer(os.stat, path), answer(os.readlink, path)]
os.chdir(os.path.dirname(top))
answers.append(answer(os.open, f"{os.path.basename(top)}/{name}", os.O_RDONLY))
directory = os.open(".", os.O_RDONLY)
answers.append(answer(lambda: os.stat(f"{os.path.basename(top)}/{name}", dir_fd=directory)))
answers.append(execute())
os.chdir("/")
for absent in ("/absent", "absent"):
    assert answer(os.open, absent, os.O_RDONLY) == -errno.ENOENT
with open(os.environ["ANSWERS"], "w") as file:
    json.dump(answers, file)
"""
#: opens a file and its directory, says so, and uses both when it is told to go on
OPEN_THEN_READ = """
import json, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
directory = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
os.write(int(sys.argv[2]), b"opened")
os.read(int(sys.argv[3]), 1)
answers = []
for call, descriptor in ((lambda fd: os.pread(fd, 1, 0), file), (os.listdir, directory)):
    try:
        call(descriptor)
        answers.append(0)
    except OSError as error:
        answers.append(-error.errno)
with open(os.environ["ANSWERS"], "w") as answered:
    json.dump(answers, answered)
"""
AUTOMOUNTER = Path(__file__).with_name("automounter.py")
NAME = "file.bin"


@pytest.fixture(scope="module")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that serves one small file."""
    with served_lab(tmp_path_factory.mktemp("dead"), {NAME: b"x" * 5000}) as lab:
        yield lab


@pytest.fixture
def place(small_lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A mount of its own, which may die."""
    mounted = mount(small_lab, tmp_path / "mnt")
    yield mounted
    unmount(small_lab, mounted, force=True)


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the traced program writes what it was answered."""
    file = tmp_path / "answers.json"
    monkeypatch.setenv("ANSWERS", str(file))
    return file


def kill_client(place: Path) -> None:
    """Ends the client of a mount at once, and waits until it has ended; the mount stays.

    The real client's watchdog would unmount: it ends first.
    """
    daemon = int(os.getxattr(place, "user.pid"))
    for pid in (*(each for each in processes_of(place) if each != daemon), daemon):
        watched = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        assert select.select([watched], [], [], 30)[0]
        os.close(watched)


def processes_of(place: Path) -> list[int]:
    """The processes with a mount's place among their arguments, but for this one."""
    numbers = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())
    return [pid for pid in numbers if os.fsencode(place) in arguments_of(pid)]


def arguments_of(pid: int) -> list[bytes]:
    """The arguments of a process; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def failures(run: Run) -> pl.DataFrame:
    """The failed operations in the order in which they began."""
    failed, operations = run.tables["failed_operations"], run.tables["operations"]
    return failed.join(operations, on="op_id").sort("start_ns")


def headlines(run: Run) -> str:
    """The summary, on one line."""
    command = [sys.executable, "-m", "cvmprof", "summary", str(run.path)]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return " ".join(made.stdout.split())


def test_a_mount_that_is_dead_before_the_command_begins(
    place: Path, trace: Trace, answers: Path
) -> None:
    kill_client(place)
    run = trace(TRY, place, NAME)
    assert json.loads(answers.read_text()) == [-errno.ENOTCONN] * 6
    failed = failures(run)
    assert failed["kind"].to_list() == ["open", "metadata", "metadata", "open", "metadata", "open"]
    assert set(failed["result"]) == {-errno.ENOTCONN}
    assert set(failed["path"]) == {str(place / NAME)}
    (mounted,) = run.tables["mounts"].filter(mountpoint=str(place)).to_dicts()
    assert set(failed["mount_id"]) == {mounted["mount_id"]}
    (dead,) = run.tables["incidents"].filter(kind="dead").to_dicts()
    assert dead["mount_id"] == mounted["mount_id"]
    assert dead["time_ns"] == failed["start_ns"][0]
    said = f"6 file operations failed: the mount {place} is dead: its client has ended (ENOTCONN)."
    assert said in headlines(run)


def test_a_dead_mount_cannot_be_made_cold(place: Path) -> None:
    kill_client(place)
    for path in (place, place / NAME, place.parent):
        with pytest.raises(CvmprofError, match=f"the mount {place} is dead") as raised:
            cold([path])
        assert raised.value.help_text.endswith(f"umount -l {place}")
    command = [sys.executable, "-m", "cvmprof", "cold", str(place)]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert made.returncode != 0
    assert made.stdout == ""
    assert made.stderr.startswith(f"cvmprof: the mount {place} is dead")


def test_a_program_on_a_dead_mount(place: Path, tmp_path: Path) -> None:
    kill_client(place)
    program = place / NAME
    command = [
        sys.executable,
        "-m",
        "cvmprof",
        "trace",
        "-o",
        str(tmp_path / "run"),
        "--",
        str(program),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (126, "")
    assert ended.stderr.splitlines() == [
        f"cvmprof: {program} cannot be executed: Transport endpoint is not connected",
        "  try: its mount is dead: detach it (umount -l) and mount it again",
    ]
    assert not (tmp_path / "run").exists()


def test_a_client_that_dies_while_its_files_are_open(
    place: Path, answers: Path, tmp_path: Path
) -> None:
    from cvmprof import open_run

    opened, program_says = os.pipe()
    program_waits, go_on = os.pipe()
    where, path = tmp_path / "run.cvmprof", str(place / NAME)
    command = [
        sys.executable,
        "-I",
        "-c",
        OPEN_THEN_READ,
        path,
        str(program_says),
        str(program_waits),
    ]
    tracing = subprocess.Popen(
        [sys.executable, "-m", "cvmprof", "trace", "--no-report", "-o", str(where), "--", *command],
        pass_fds=(program_says, program_waits),
    )
    assert os.read(opened, 6) == b"opened"
    kill_client(place)
    os.write(go_on, b"g")
    assert tracing.wait(timeout=60) == 0
    answered = json.loads(answers.read_text())
    assert answered[1] == -errno.ENOTCONN
    failed = failures(open_run(where))
    assert failed.select("kind", "result", "path").rows()[:2] == [
        ("read", answered[0], path),
        ("metadata", answered[1], str(place)),
    ]


def test_a_directory_whose_automounter_mounts_nothing(
    trace: Trace, tmp_path: Path, answers: Path
) -> None:
    if "autofs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no autofs")
    place = tmp_path / "auto"
    place.mkdir()
    command = [sys.executable, "-I", str(AUTOMOUNTER), str(place)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as automounter:
        assert automounter.stdin is not None and automounter.stdout is not None
        assert automounter.stdout.readline() == b"mounted\n"
        run = trace(TRY, place / "repository", NAME)
        automounter.stdin.close()
    assert json.loads(answers.read_text()) == [-errno.ENOENT] * 6
    failed = failures(run)
    assert failed.height == 6
    assert set(failed["path"]) == {str(place / "repository" / NAME)}
    assert run.tables["incidents"].filter(kind="dead").is_empty()
    assert "The automounter mounted nothing there" in headlines(run)


def test_names_that_are_not_there_are_no_failures(place: Path, trace: Trace, answers: Path) -> None:
    run = trace(TRY, place, "absent")
    assert json.loads(answers.read_text()) == [-errno.ENOENT] * 6
    assert run.tables["failed_operations"].is_empty()
    assert run.tables["incidents"].filter(kind="dead").is_empty()
    assert "failed" not in headlines(run)
