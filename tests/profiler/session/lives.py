"""Lives that a command leads, each traced and untraced: how it is started, what happens to it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SELF = [sys.executable, "-m", "cvmprof"]
TIMEOUT_S = 120.0
Prefix = Sequence[str]
#: instead of a file's name: a pipe whose reader has left
NO_READER = "no reader"

#: runs its arguments as a shell's script would: in its own group, with the given descriptors closed
#: and signals ignored; prints on descriptor 9 how they ended
CALLER = """
import os, signal, subprocess, sys
closed, ignored = (map(int, filter(None, numbers.split(","))) for numbers in sys.argv[1:3])
for number in ignored:
    signal.signal(number, signal.SIG_IGN)
report = os.dup2(os.open(sys.argv[3], os.O_WRONLY), 9, inheritable=False)
kept = [os.dup(number) for number in (0, 1, 2)]
for number in closed:
    os.close(number)
pid = os.posix_spawnp(sys.argv[4], sys.argv[4:], os.environ, setsigdef=[signal.SIGPIPE])
os.write(report, f"{pid}\\n".encode())
_, status = os.waitpid(pid, 0)
os.write(report, f"{os.waitstatus_to_exitcode(status)}\\n".encode())
"""


@dataclass(frozen=True)
class Ended:
    """How a life ended: exit code or signal, and what it printed on both streams."""

    code: int
    out: str
    errors: str


@dataclass(frozen=True)
class Life:
    """A command and what happens to it.

    ``before`` are wrappers around cvmprof, or around the command where it is not traced. ``act`` is
    done to it once it has printed "ready PID" on stdout: it gets the process that was started, the
    process that printed, and their group. ``stderr`` is a file's name. Untraced it ends with
    ``code``. A file "seen" counts as output.
    """

    command: tuple[str, ...]
    before: tuple[str, ...] = ()
    act: Callable[[int, int, int], object] | None = None
    closed: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()
    stderr: str | None = None
    code: int = 0

    def run(self, prefix: Prefix, directory: Path) -> Ended:
        """Lead it in a directory, with a prefix to the command."""
        return _Run(self, directory).ended([*self.before, *prefix, *self.command])


class _Run:
    def __init__(self, life: Life, directory: Path) -> None:
        self._life, self._directory = life, directory
        self._report = directory / "report"
        os.mkfifo(self._report)

    def ended(self, command: list[str]) -> Ended:
        life = self._life
        numbers = [",".join(map(str, each)) for each in (life.closed, life.ignored)]
        caller = [sys.executable, "-I", "-c", CALLER, *numbers, str(self._report), *command]
        errors = self._directory / "errors"
        with _opened(life.stderr, errors) as target, subprocess.Popen(
            caller, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=target, start_new_session=True, env=_variables(),
        ) as process:  # fmt: skip
            out, code = self._follow(process)
        printed = errors.read_text() if errors.exists() else ""
        kept = [line for line in printed.splitlines() if not _is_ours(line)]
        seen = self._directory / "seen"
        out += seen.read_text() if seen.exists() else ""
        return Ended(code, out, "\n".join(kept))

    def _follow(self, process: subprocess.Popen[bytes]) -> tuple[str, int]:
        assert process.stdout is not None
        with self._report.open() as report:
            started = int(report.readline())
            out = b""
            if self._life.act is not None:
                out = _line(process.stdout.fileno())
                self._life.act(started, int(out.split()[1]), process.pid)
                out = b"ready\n"
            out += process.stdout.read()
            return out.decode(), int(report.readline())


def _opened(stderr: str | None, errors: Path) -> IO[bytes]:
    if stderr != NO_READER:
        return open(stderr or errors, "wb")
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "wb")


def _variables() -> dict[str, str]:
    """This process's, but for the one that changes with each test."""
    names = (name for name in os.environ if name != "PYTEST_CURRENT_TEST")
    return {name: os.environ[name] for name in names}


def _line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([descriptor], [], [], TIMEOUT_S)[0], line
        read = os.read(descriptor, 1)
        assert read, line
        line += read
    return line


def _is_ours(line: str) -> bool:
    return line.startswith(("cvmprof: run ", "cvmprof: page "))


class Terminal:
    """An interactive shell on a terminal of its own."""

    def __init__(self, directory: Path) -> None:
        self._seen = ""
        self._pid, self._terminal = os.forkpty()
        if self._pid == 0:
            os.chdir(directory)
            os.environ.update(PS1="", TERM="dumb", PROMPT_COMMAND='echo "= $?"')
            os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
        self.expect("= 0")

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._terminal, text.encode())

    def expect(self, line: str) -> None:
        """Wait for a line that matches."""
        end_s = time.monotonic() + TIMEOUT_S
        while not (found := re.search(rf"(?m)^{line}\r", self._seen)):
            left_s = max(0.0, end_s - time.monotonic())
            assert select.select([self._terminal], [], [], left_s)[0], (line, self._seen)
            self._seen += os.read(self._terminal, 4096).decode(errors="replace")
        self._seen = self._seen[found.end() :].lstrip("\n")

    def end(self) -> None:
        """Hang up."""
        os.close(self._terminal)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
