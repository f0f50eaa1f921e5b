"""What outlives the command: followed with ``--until all``, otherwise only found in the run."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cvmprof import open_run
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.survivors import survivors

from .lives import SELF, TIMEOUT_S

#: leaves a process behind that waits at a FIFO, then reads a file
LEAVES = '(exec 5<> "$0/go"; read word <&5; cat "$0/file") > /dev/null 2>&1 & exit 3'


@contextmanager
def left(directory: Path, *options: str) -> Generator[subprocess.Popen[str]]:
    """A trace of a command that has left a process behind."""
    os.mkfifo(directory / "go")
    (directory / "file").touch()
    command = ["sh", "-c", LEAVES, str(directory)]
    trace = [*SELF, "trace", "--no-report", *options, "-o", str(directory / "run"), "--", *command]
    with subprocess.Popen(
        trace, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as traced:
        yield traced
        assert traced.wait(TIMEOUT_S) == 3
    assert open_run(directory / "run").is_complete


def argvs_and_ends(run: Path) -> dict[str, bool]:
    """Whether each process has ended, by its arguments."""
    tasks = open_run(run).tables["tasks"]
    rows = tasks.filter(role="target").select("argv", "end_ns").iter_rows()
    return {" ".join(argv or ()).split()[0]: end is not None for argv, end in rows if argv}


def waited_for(traced: subprocess.Popen[str]) -> int:
    """The process that is waited for, as a line says."""
    assert traced.stderr is not None
    line = traced.stderr.readline()
    pid = int(line.partition("(pid ")[2].partition(")")[0])
    told = f"waiting for a process that the command left: sh (pid {pid})"
    assert line == f"cvmprof: {told}; Ctrl-C ends the recording\n"
    return pid


def test_all_is_recorded_to_its_end(tmp_path: Path) -> None:
    with left(tmp_path, "--until", "all") as traced:
        waited_for(traced)
        (tmp_path / "go").write_text("word\n")
    assert argvs_and_ends(tmp_path / "run") == {"sh": True, "cat": True}
    assert not survivors(gather(open_run(tmp_path / "run"))).processes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_waiting_and_the_run_is_complete(tmp_path: Path, number: int) -> None:
    with left(tmp_path, "--until", "all") as traced:
        pid = waited_for(traced)
        traced.send_signal(number)
    (tmp_path / "go").write_text("word\n")
    found = survivors(gather(open_run(tmp_path / "run")))
    assert ([each.pid for each in found.processes], found.until) == ([pid], "all")


def test_the_duration_ends_the_waiting(tmp_path: Path) -> None:
    with left(tmp_path, "--until", "all", "--duration", "2s"):
        pass
    (tmp_path / "go").write_text("word\n")
    (survivor,) = survivors(gather(open_run(tmp_path / "run"))).processes
    assert survivor.name == "sh"


def test_without_it_the_command_is_not_outlasted_and_what_lives_on_is_found(tmp_path: Path) -> None:
    with left(tmp_path):
        pass
    (tmp_path / "go").write_text("word\n")
    found = survivors(gather(open_run(tmp_path / "run")))
    assert [(each.name, each.cause) for each in found.processes] == [("sh", "blocked")]
    assert (found.command_did, found.until) == (False, "command")
