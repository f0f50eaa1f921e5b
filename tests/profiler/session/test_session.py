"""A traced command is not disturbed: its signals, its identity, its life when the profiler dies."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cvmprof import open_run

SELF = [sys.executable, "-m", "cvmprof"]
TIMEOUT_S = 120.0

#: prints "ready", then the signals that come within 0.3 s after the first
PRINT_SIGNALS = """
import signal, sys
watched = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, watched)
print("ready", flush=True)
taken = [signal.sigwait(watched)]
while (info := signal.sigtimedwait(watched, 0.3)) is not None:
    taken.append(info.si_signo)
print("took", *map(int, taken), flush=True)
"""
#: opens FIFOs, at which both sides wait for each other
WAIT_FOR_FIFO = 'echo ready > "$0/begun"; read word < "$0/go"; echo "$word" > "$0/ended"; exit 5'


FORKS = 1500
#: forks, writes to a FIFO, and goes on forking until a file appears
KEEP_FORKING = f"""
i=0; while [ $i -lt {FORKS} ]; do /bin/true; i=$((i+1)); done
echo ready > "$0/begun"
while [ ! -e "$0/stop" ]; do /bin/true; done
echo alive > "$0/ended"
"""
#: holds a command at its gate; prints its pid, and after a line of input closes the gate and prints
#: its exit code
HOLD = """
import os, sys
from cvmprof.profiler.session import child
held = child.fork(sys.argv[1], sys.argv[1:], dict(os.environ))
print(held.pid, flush=True)
if sys.stdin.readline():
    os.close(held.gate)
    print(os.waitstatus_to_exitcode(os.waitpid(held.pid, 0)[1]))
"""

#: records with a package missing; prints the error
WITHOUT_PACKAGE = """
import sys
from pathlib import Path
from cvmprof.errors import MissingDependency
from cvmprof.profiler.session.session import TraceOptions, record
def preload():
    import no_such_package
try:
    record(["touch", sys.argv[2]], TraceOptions(Path(sys.argv[1])), "0", preload)
except MissingDependency as error:
    print(error.fact)
"""


def trace_command(run: Path, *command: str) -> list[str]:
    return [*SELF, "trace", "--no-report", "-o", str(run), "--", *command]


def read_line(descriptor: int) -> str:
    """Wait for one line."""
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([descriptor], [], [], TIMEOUT_S)[0], f"no line but {line!r}"
        read = os.read(descriptor, 1)
        assert read, f"ended after {line!r}"
        line += read
    return line.decode().strip()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")


def recorder_of(pid: int) -> int:
    """The recorder that a running ``cvmprof trace`` started."""
    return next(child for child in children_of(pid) if "profiler.record" in name_of(child))


def wait_for_end(descriptor: int) -> None:
    """Wait until the process of a pidfd has ended."""
    assert select.select([descriptor], [], [], TIMEOUT_S)[0]
    os.close(descriptor)


# --- signals --------------------------------------------------------------------------------------


def test_nothing_that_starts_threads_is_imported_before_the_command_is_forked() -> None:
    """Such threads would get the signals that this process waits for."""
    program = (
        "import sys, cvmprof.commands.trace, cvmprof.profiler.session.session\n"
        "print({'polars', 'numpy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"set()\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_cvmprof_alone_is_passed_on_once(tmp_path: Path, number: int) -> None:
    command = trace_command(tmp_path / "a", sys.executable, "-c", PRINT_SIGNALS)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as traced:
        assert traced.stdout is not None
        assert read_line(traced.stdout.fileno()) == "ready"
        traced.send_signal(number)
        assert read_line(traced.stdout.fileno()) == f"took {int(number)}"
        assert traced.wait(TIMEOUT_S) == 0
    assert open_run(tmp_path / "a").is_complete


def test_ctrl_c_reaches_the_command_once_and_the_run_is_complete(tmp_path: Path) -> None:
    command = trace_command(tmp_path / "a", sys.executable, "-c", PRINT_SIGNALS)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    assert read_line(terminal) == "ready"
    os.write(terminal, b"\x03")
    assert read_line(terminal).removeprefix("^C") == f"took {int(signal.SIGINT)}"
    assert read_line(terminal) == f"cvmprof: run {tmp_path / 'a'}"
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert open_run(tmp_path / "a").is_complete


def test_what_the_caller_ignores_stays_ignored(tmp_path: Path) -> None:
    script = "grep -E '^Sig(Ign|Blk)' /proc/self/status"
    ignoring = ["sh", "-c", 'trap "" HUP USR2; exec "$@"', "sh"]
    plain = subprocess.check_output([*ignoring, "sh", "-c", script])
    command = trace_command(tmp_path / "a", "sh", "-c", script)
    assert subprocess.check_output([*ignoring, *command]) == plain


# --- deaths ---------------------------------------------------------------------------------------


@contextmanager
def waiting_command(directory: Path, *options: str) -> Generator[subprocess.Popen[str]]:
    """A trace of a command that waits for a FIFO."""
    for name in ("begun", "go", "ended"):
        os.mkfifo(directory / name)
    command = trace_command(directory / "a", "sh", "-c", WAIT_FOR_FIFO, str(directory))
    command[4:4] = options
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as traced:
        try:
            assert (directory / "begun").read_text() == "ready\n"
            yield traced
        except BaseException:
            os.killpg(traced.pid, signal.SIGKILL)
            raise


def test_the_command_outlives_cvmprof_and_the_run_is_recovered(tmp_path: Path) -> None:
    with waiting_command(tmp_path) as traced:
        recorder = os.pidfd_open(recorder_of(traced.pid))
        traced.kill()
        traced.wait(TIMEOUT_S)
        wait_for_end(recorder)
        (tmp_path / "go").write_text("alive\n")
        assert (tmp_path / "ended").read_text() == "alive\n"
    done = subprocess.run([*SELF, "report", str(tmp_path / "a")], check=True, capture_output=True)
    assert done.stdout.decode() == f"{tmp_path / 'a.html'}\n"
    run = open_run(tmp_path / "a")
    assert not run.is_complete
    assert "sh" in run.tables["tasks"]["name"].to_list()


def test_the_command_outlives_the_recorder(tmp_path: Path) -> None:
    with waiting_command(tmp_path) as traced:
        os.kill(recorder_of(traced.pid), signal.SIGKILL)
        (tmp_path / "go").write_text("alive\n")
        assert (tmp_path / "ended").read_text() == "alive\n"
        _, errors = traced.communicate(timeout=TIMEOUT_S)
    assert traced.returncode == 5
    assert errors.splitlines() == [
        "cvmprof: the recorder ended unexpectedly: the run is incomplete",
        "  try: run it again; if it fails again, report what cvmprof --debug prints",
        f"cvmprof: run {tmp_path / 'a'}",
    ]
    assert not open_run(tmp_path / "a").is_complete


def test_after_its_duration_the_recording_ends_and_the_command_goes_on(tmp_path: Path) -> None:
    with waiting_command(tmp_path, "--duration", "2s") as traced:
        wait_for_end(os.pidfd_open(recorder_of(traced.pid)))
        (tmp_path / "go").write_text("alive\n")
        assert (tmp_path / "ended").read_text() == "alive\n"
        traced.communicate(timeout=TIMEOUT_S)
    assert traced.returncode == 5
    assert open_run(tmp_path / "a").is_complete


def test_when_both_are_killed_only_the_last_second_is_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    os.mkfifo(tmp_path / "ended")
    command = trace_command(tmp_path / "a", "sh", "-c", KEEP_FORKING, str(tmp_path))
    with subprocess.Popen(command) as traced:
        assert (tmp_path / "begun").read_text() == "ready\n"
        recorder = recorder_of(traced.pid)
        killed_ns = time.monotonic_ns()
        os.kill(recorder, signal.SIGKILL)
        traced.kill()
    (tmp_path / "stop").touch()
    assert (tmp_path / "ended").read_text() == "alive\n"
    subprocess.run([*SELF, "summary", str(tmp_path / "a")], check=True, capture_output=True)
    run = open_run(tmp_path / "a")
    assert not run.is_complete
    tasks = run.tables["tasks"]
    assert tasks.height > FORKS // 2
    assert tasks["start_ns"].max() > killed_ns - 1_000_000_000  # type: ignore[operator]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_gate_that_closes_unopened_never_runs_the_command(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", HOLD, "/usr/bin/touch", str(tmp_path / "ran")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        held = os.pidfd_open(int(read_line(holder.stdout.fileno())))
        holder.send_signal(number)
        wait_for_end(held)
    assert holder.returncode == -number
    assert not (tmp_path / "ran").exists()


def test_a_command_abandoned_at_its_gate_exits_125(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, "/usr/bin/touch", str(tmp_path / "ran")]
    done = subprocess.run(command, input=b"close\n", capture_output=True, check=True)
    assert done.stdout.split()[1] == b"125"
    assert not (tmp_path / "ran").exists()


def test_a_package_that_cannot_be_imported_leaves_no_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_PACKAGE, str(tmp_path / "a"), str(tmp_path / "ran")]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=TIMEOUT_S)
    fact = f"user {os.geteuid()} cannot import no_such_package in {sys.executable}\n"
    assert (done.stdout, done.stderr) == (fact, "")
    assert not list(tmp_path.iterdir())


def test_cvmprof_ended_while_it_starts_leaves_no_run(tmp_path: Path) -> None:
    run = tmp_path / "a"
    command = trace_command(run, "touch", str(tmp_path / "ran"))
    with subprocess.Popen(command) as traced:
        while not (run / "journal.jsonl").exists():  # made before the recorder is asked anything
            assert traced.poll() is None
        traced.send_signal(signal.SIGTERM)
        assert traced.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())
