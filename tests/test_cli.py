"""The real command: its errors for bad input, and that it ends as the traced command did."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvmprof.profiler.record.names import spool_files

Done = subprocess.CompletedProcess[str]
SELF = [sys.executable, "-m", "cvmprof"]
TIMEOUT_S = 120


def cvmprof(*arguments: str | Path, cwd: Path, before: tuple[str, ...] = ()) -> Done:
    """Run the command to its end, behind ``before``."""
    command = [*before, *SELF, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def refusal(done: Done, code: int) -> tuple[str, str]:
    """The fact and the way out; nothing else was printed, and the exit code is ``code``."""
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (code, "", 2), done
    assert lines[0].startswith("cvmprof: ") and lines[1].startswith("  try: ")
    return lines[0].removeprefix("cvmprof: "), lines[1].removeprefix("  try: ")


def executable(path: Path, text: str) -> Path:
    """An executable file of this text."""
    path.write_text(text)
    path.chmod(0o755)
    return path


# --- bad arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ((), "Missing command."),
        (("lab",), "Missing command."),
        (("trance",), "No such command 'trance'."),
        (("trace",), "no command was given"),
        (("trace", "--"), "no command was given"),
        (("trace", "--nope", "true"), "No such option '--nope'."),
        (("trace", "--duration", "5", "true"), "'5' is not a time"),
        (("trace", "--stall-threshold", "-1ms", "true"), "'-1ms' is not a time"),
        (("trace", "-o", "", "true"), "the path to write to is empty"),
        (("trace", "--gpu-budget", "0", "true"), "0.0 is not in the range 0<x<=100"),
        (("report", "-o", "", "run"), "the path to write to is empty"),
        (("trace", "--backend", "magic", "true"), "'magic' is not one of 'auto', 'fentry'"),
        (("summary",), "Missing argument 'RUN'."),
        (("import",), "Missing argument 'LOG'."),
        (("import", "absent.log"), "cannot read absent.log: No such file or directory"),
        (("demo", "--size", "huge"), "'huge' is not a size"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: tuple[str, ...], fact: str) -> None:
    printed, _ = refusal(cvmprof(*arguments, cwd=tmp_path), 125)
    assert fact in printed
    assert not list(tmp_path.iterdir())


# --- commands that cannot be started --------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code", "fact"),
    [
        ("no-such-command", 127, "no command 'no-such-command' was found"),
        ("./no-such-command", 127, "no command './no-such-command' was found"),
        ("", 127, "no command '' was found"),
        ("./plain", 126, "./plain cannot be executed: Permission denied"),
        ("./directory", 126, "./directory is a directory"),
        ("./no-shell", 126, "./no-shell cannot be executed: its interpreter is missing"),
    ],
)
def test_a_command_that_cannot_start_leaves_no_run(
    tmp_path: Path, command: str, code: int, fact: str
) -> None:
    (tmp_path / "plain").touch(mode=0o644)
    (tmp_path / "directory").mkdir()
    executable(tmp_path / "no-shell", "#!/no/such/interpreter\n")
    done = cvmprof("trace", "-o", "a.cvmprof", "--", command, cwd=tmp_path)
    assert refusal(done, code)[0] == fact
    assert not (tmp_path / "a.cvmprof").exists()


def test_the_shell_runs_a_script_without_an_interpreter(tmp_path: Path) -> None:
    script = executable(tmp_path / "plain", "echo shell $1; exit 3\n")
    done = cvmprof("trace", "--no-report", script, "one", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "shell one\n")


# --- where the run should go ----------------------------------------------------------------------


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("old", "link"):
        done = cvmprof("trace", "-o", name, "--", "touch", "ran", cwd=tmp_path)
        assert refusal(done, 125)[0] == f"{name} exists already"
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("missing/run", "No such file or directory"),
        ("file/run", "Not a directory"),
        ("/sys/run", "Operation not permitted"),
    ],
)
def test_a_path_that_cannot_take_the_run_is_named(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").touch()
    done = cvmprof("trace", "-o", place, "--", "touch", "ran", cwd=tmp_path)
    assert refusal(done, 125)[0] == f"cannot make the run directory {place}: {reason}"
    assert not (tmp_path / "ran").exists()


# --- what recording needs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "fact", "way_out"),
    [
        (
            ("setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all"),
            "recording needs root: this process may not load BPF programs",
            "sudo cvmprof trace -- COMMAND",
        ),
        (
            ("setpriv", "--bounding-set=-sys_admin"),
            "this process is root without CAP_SYS_ADMIN, as in a container",
            "run cvmprof on the host, around the command that starts the container, "
            "or start the container with --privileged --pid=host",
        ),
        # its pids mean other processes to the kernel: nothing would be recorded
        (
            ("unshare", "--pid", "--fork", "--mount-proc"),
            "this process is in its own PID namespace, as in a container",
            "run cvmprof on the host, around the command that starts the container, "
            "or start the container with --pid=host",
        ),
    ],
    ids=["user", "capability", "namespace"],
)
def test_missing_rights_are_named_with_a_way_out(
    tmp_path: Path, before: tuple[str, ...], fact: str, way_out: str
) -> None:
    done = cvmprof("trace", "--", "touch", "ran", cwd=tmp_path, before=before)
    assert refusal(done, 125) == (fact, way_out)
    assert not list(tmp_path.iterdir())


def bcc_home() -> Path:
    """The directory of the distribution's bcc."""
    script = "import bcc; print(bcc.__path__[0])"
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", script], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def with_bcc(replacement: Path) -> tuple[str, ...]:
    """A command prefix under which a command and its children see another bcc."""
    covering = 'mount --bind "$0" "$1" && shift && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", covering, str(replacement), str(bcc_home()))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (None, "/usr/bin/python3 has no bcc"),
        ("raise ImportError('no libbcc.so')", "/usr/bin/python3 has no bcc (no libbcc.so)"),
        ("def checksum(): pass", "is not bcc but PyPI's unrelated package of that name"),
        ("BPF = 1; __version__ = '0.17.0'", "bcc of /usr/bin/python3 is 0.17.0, which is too old"),
    ],
)
def test_bcc_absent_broken_old_or_another(tmp_path: Path, text: str | None, fact: str) -> None:
    fake, work = tmp_path / "bcc", tmp_path / "work"
    fake.mkdir()
    work.mkdir()
    if text is not None:
        (fake / "__init__.py").write_text(text)
    done = cvmprof("trace", "--", "touch", "ran", cwd=work, before=with_bcc(fake))
    printed, way_out = refusal(done, 125)
    assert printed.endswith(fact)
    assert "python3-bpfcc" in way_out or "bcc 0.18 or newer" in way_out
    assert not list(work.iterdir())  # the command did not run, and no run is left


def test_the_doctor_names_bccs_version_and_whether_it_is_supported(tmp_path: Path) -> None:
    script = "import bcc; print(bcc.__version__)"
    version = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()
    lines = cvmprof("doctor", cwd=tmp_path).stdout.splitlines()
    assert lines[1] == f"bcc {version} of /usr/bin/python3: supported (0.18 or newer is)"
    (tmp_path / "__init__.py").write_text("BPF = 1; __version__ = '0.17.0'")
    done = cvmprof("doctor", cwd=tmp_path, before=with_bcc(tmp_path))
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:3] == [
        "cvmprof CANNOT record here:",
        "  the bcc of /usr/bin/python3 is 0.17.0, which is too old",
    ]
    diagnosis = json.loads(
        cvmprof("doctor", "--json", cwd=tmp_path, before=with_bcc(tmp_path)).stdout
    )
    assert (diagnosis["bcc"]["version"], "0.17.0" in diagnosis["bcc"]["refusal"]) == (None, True)


# --- runs that cannot be opened -------------------------------------------------------------------


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a short command."""
    place = tmp_path_factory.mktemp("recorded")
    done = cvmprof("trace", "--no-report", "-o", "a.cvmprof", "--", "true", cwd=place)
    assert done.returncode == 0, done
    return place / "a.cvmprof"


def shorten(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def scramble(file: Path) -> None:
    """Damage the pages, not the footer."""
    whole = file.read_bytes()
    file.write_bytes(whole[:40] + b"\x5a" * 400 + whole[440:])


def empty(run: Path) -> None:
    """Leave a directory with nothing in it."""
    shutil.rmtree(run)
    run.mkdir()


def become_a_file(run: Path) -> None:
    """Leave a file where the directory was."""
    shutil.rmtree(run)
    run.touch()


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "gone": (shutil.rmtree, "there is no a.cvmprof"),
    "empty": (empty, "a.cvmprof is not a run of cvmprof"),
    "file": (become_a_file, "a.cvmprof is not a directory"),
    "cut table": (
        lambda run: shorten(run / "tables/tasks.parquet"),
        "a.cvmprof/tables/tasks.parquet is damaged",
    ),
    "scrambled table": (
        lambda run: scramble(run / "tables/segments.parquet"),
        "a.cvmprof/tables/segments.parquet is damaged",
    ),
    "lost table": (
        lambda run: (run / "tables/waits.parquet").unlink(),
        "a.cvmprof/tables/waits.parquet is missing",
    ),
    "cut meta": (lambda run: shorten(run / "meta.json"), "a.cvmprof/meta.json is damaged"),
    "lost meta": (lambda run: (run / "meta.json").unlink(), "a.cvmprof/meta.json is missing"),
    "foreign meta": (
        lambda run: (run / "meta.json").write_text("[]"),
        "a.cvmprof is not a run of cvmprof",
    ),
    "newer": (
        lambda run: edit(run / "meta.json", '"schema_version": 3', '"schema_version": 4'),
        "the run has schema version 4, this cvmprof reads up to 3",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", ["report", "summary"])
def test_a_run_that_cannot_be_opened_is_named(
    recorded: Path, tmp_path: Path, command: str, damage: str
) -> None:
    run = tmp_path / "a.cvmprof"
    shutil.copytree(recorded, run)
    inflict, fact = DAMAGES[damage]
    inflict(run)
    assert refusal(cvmprof(command, "a.cvmprof", cwd=tmp_path), 125)[0] == fact
    assert not (tmp_path / "a.html").exists()


def test_a_page_that_cannot_be_written_is_named(recorded: Path) -> None:
    done = cvmprof("report", recorded, "-o", "missing/page.html", cwd=recorded.parent)
    fact = "cannot write the page missing/page.html: No such file or directory"
    assert refusal(done, 125)[0] == fact


def test_the_page_is_written_beside_the_run(recorded: Path, tmp_path: Path) -> None:
    run = tmp_path / "v1.2.cvmprof"
    shutil.copytree(recorded, run)
    assert cvmprof("report", "v1.2.cvmprof/", cwd=tmp_path).stdout == "v1.2.html\n"
    assert cvmprof("report", ".", cwd=run).stdout == f"{tmp_path}/v1.2.html\n"
    assert (tmp_path / "v1.2.html").stat().st_mode & 0o777 == 0o600


def test_a_closed_pipe_is_not_reported_as_a_bug(recorded: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*SELF, "summary", "--json", str(recorded)],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


# --- the command's own end ------------------------------------------------------------------------


def test_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    done = cvmprof(
        "trace", "-o", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 7", cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr.splitlines() == ["err", "cvmprof: run a", "cvmprof: page a.html"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_signal_is_repeated(tmp_path: Path, number: int) -> None:
    done = cvmprof(
        "trace", "--no-report", "-o", "a", "--", "sh", "-c", f"kill -{number} $$", cwd=tmp_path
    )
    assert done.returncode == -number
    assert done.stderr == "cvmprof: run a\n"
    assert json.loads((tmp_path / "a" / "meta.json").read_text())["exit_status"] & 0x7F == number
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("core")] == []


@pytest.mark.parametrize(
    ("script", "part"),
    [
        ("rm -rf a", "a"),
        ("rm -rf a/spool", "a/spool"),
        ("rm a/journal.jsonl; mkdir a/journal.jsonl", "a/journal.jsonl"),
    ],
)
def test_a_command_that_removes_its_own_run(tmp_path: Path, script: str, part: str) -> None:
    done = cvmprof("trace", "-o", "a", "--", "sh", "-c", f"{script}; exit 3", cwd=tmp_path)
    assert refusal(done, 3) == (
        f"{part} was removed or replaced while the command ran",
        "record again, with -o at a place where the command removes nothing",
    )
    if part != "a":
        assert refusal(cvmprof("report", "a", cwd=tmp_path), 125) == (
            f"{part} is missing or damaged: the recording cannot be finished", "record it again",
        )  # fmt: skip


# --- a full disk ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Make a disk of a given size; call again to change it."""
    place = tmp_path / "disk"
    place.mkdir()

    def size(kib: int, inodes: int = 1000) -> Path:
        remount = "remount," if os.path.ismount(place) else ""
        options = f"{remount}size={kib}k,nr_inodes={inodes}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", place], check=True)
        return place

    yield size
    subprocess.run(["umount", "--lazy", place], check=True)


#: about 1200 task events, a few hundred bytes each
BUSY = "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done; echo done; exit 7"


def test_a_disk_full_at_the_start(small_disk: Callable[..., Path]) -> None:
    place = small_disk(64, inodes=8)
    done = cvmprof("trace", "-o", "a", "--", "touch", "/dev/null", cwd=place)
    assert refusal(done, 125)[0] == "cannot make the run directory a: No space left on device"
    assert not list(place.iterdir())


def test_a_disk_full_while_recording(small_disk: Callable[..., Path]) -> None:
    place = small_disk(160)
    done = cvmprof("trace", "-o", "a", "--", "sh", "-c", BUSY, cwd=place)
    assert (done.returncode, done.stdout) == (7, "done\n")
    assert done.stderr.splitlines() == [
        "cvmprof: no space is left to write the tables of a",
        "  try: free some space, then finish with: cvmprof report a",
    ]
    small_disk(20_000)
    assert cvmprof("report", "a", cwd=place).returncode == 0
    meta = json.loads((place / "a" / "meta.json").read_text())
    assert meta["complete"] is False
    assert meta["rows"]["tasks"] > 10


def test_a_disk_full_while_finalising(small_disk: Callable[..., Path]) -> None:
    """Room for the recording's files and three more: there are over twenty tables."""
    place = small_disk(20_000, inodes=len(spool_files()) + 10)
    done = cvmprof("trace", "-o", "a", "--", "sh", "-c", "exit 7", cwd=place)
    assert done.returncode == 7
    assert done.stderr.splitlines() == [
        "cvmprof: no space is left to write the tables of a",
        "  try: free some space, then finish with: cvmprof report a",
    ]
    small_disk(20_000)
    assert cvmprof("report", "a", cwd=place).returncode == 0
    assert json.loads((place / "a" / "meta.json").read_text())["complete"] is True


def test_a_disk_too_small_for_the_page(small_disk: Callable[..., Path]) -> None:
    place = small_disk(2_000)
    done = cvmprof("trace", "-o", "a", "--", "sh", "-c", "exit 7", cwd=place)
    assert done.returncode == 7
    assert done.stderr.splitlines() == [
        "cvmprof: run a",
        "cvmprof: cannot write the page a.html: No space left on device",
        "  try: free some space there, then: cvmprof report a",
    ]
    assert [path.name for path in place.iterdir()] == ["a"]


def test_strict_says_that_events_were_lost(small_disk: Callable[..., Path]) -> None:
    place = small_disk(160)
    done = cvmprof(
        "trace",
        "--strict",
        "--no-report",
        "-o",
        "a",
        "--",
        "sh",
        "-c",
        BUSY.replace("exit 7", "exit 0"),
        cwd=place,
    )
    assert (done.returncode, done.stdout) == (123, "done\n")


# --- logs as runs ---------------------------------------------------------------------------------


def test_a_log_becomes_a_run_that_can_be_reported(tmp_path: Path) -> None:
    (tmp_path / "old.trace").write_text('"1772366398123.456","1","/model.bin","open()"\r\n')
    done = cvmprof("import", "old.trace", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["old.trace.cvmprof", "old.trace.html"]
    (tmp_path / "old.trace.html").unlink()
    assert cvmprof("report", "old.trace.cvmprof", cwd=tmp_path).stdout == "old.trace.html\n"
    summary = cvmprof("summary", "old.trace.cvmprof", cwd=tmp_path).stdout
    assert "its times are microseconds" in summary
    assert refusal(cvmprof("import", "old.trace", cwd=tmp_path), 125)[0] == (
        "old.trace.cvmprof exists already"
    )


def test_a_file_that_is_not_a_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("some words\n" * 99)
    fact, way_out = refusal(cvmprof("import", "notes", cwd=tmp_path), 125)
    assert fact == "notes is neither a debug log nor a trace file of a CVMFS client"
    assert "CVMFS_DEBUGLOG" in way_out
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
