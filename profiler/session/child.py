"""The traced command: found, forked, held at a gate until the probes are attached, executed."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from ...errors import CommandNotExecutable, CommandNotFound, CvmprofError
from .group import GroupWitness

_NEVER_STARTED = 125
_SHELL = "/bin/sh"


@dataclass(frozen=True)
class Child:
    """A forked command that waits at its gate.

    ``gate`` and ``refusal`` are pipes: to it, and from it with the errno where exec failed.
    ``witness`` is in its process group.
    """

    pid: int
    gate: int
    refusal: int
    witness: GroupWitness

    def go(self) -> None:
        """Let it execute the command."""
        with suppress(BrokenPipeError):  # it was killed while it waited, as its wait status shows
            os.write(self.gate, b"g")
        os.close(self.gate)

    def abandon(self) -> None:
        """Close the gate unopened: the command never runs."""
        os.close(self.gate)
        os.close(self.refusal)
        self.witness.end()
        with suppress(ChildProcessError):  # where the caller ignores SIGCHLD
            os.waitpid(self.pid, 0)

    def refused(self) -> int | None:
        """Return the errno of an exec that failed, else None. To be called after its end."""
        with open(self.refusal, "rb") as refusal:
            number = refusal.read()
        return int(number) if number else None


def find_command(name: str, environment: dict[str, str]) -> str:
    """Find the file of a command on the user's PATH, as execvp(3) does.

    Raises CommandNotFound or CommandNotExecutable.
    """
    if "/" in name:
        candidates = [name]
    else:
        path = environment.get("PATH", os.defpath)
        candidates = [os.path.join(folder or ".", name) for folder in path.split(":") if name]
    existing = [path for path in candidates if os.path.exists(path)]
    for path in existing:
        if os.access(path, os.X_OK, effective_ids=True) and stat.S_ISREG(os.stat(path).st_mode):
            return path
    if existing:
        number = errno.EISDIR if os.path.isdir(existing[0]) else errno.EACCES
        raise not_executable(existing[0], number)
    if candidates == [name]:
        _refuse_unreachable(name)
    fact = f"no command {name!r} was found"
    raise CommandNotFound(fact, "check its name and PATH, or give its full path")


def _refuse_unreachable(path: str) -> None:
    """Raise CommandNotExecutable if a path cannot be looked at, as on a mount that is dead."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno not in (None, errno.ENOENT, errno.ENOTDIR):
            raise not_executable(path, error.errno) from error


def not_executable(path: str, number: int) -> CvmprofError:
    """Return the error for a command that exec refused, by its errno."""
    if number == errno.EISDIR:
        return CommandNotExecutable(f"{path} is a directory", "name a program or a script in it")
    if number == errno.ENOENT and os.path.exists(path):
        fact = f"{path} cannot be executed: its interpreter is missing"
        return CommandNotExecutable(fact, "correct its #! line, or put an interpreter first")
    if number == errno.ENOENT:
        return CommandNotFound(f"{path} was removed", "find what removes it while cvmprof starts")
    fact = f"{path} cannot be executed: {os.strerror(number)}"
    if number == errno.ENOTCONN:
        help_text = "its mount is dead: detach it (umount -l) and mount it again"
        return CommandNotExecutable(fact, help_text)
    return CommandNotExecutable(fact, f"chmod +x it, or put its interpreter first: python {path}")


def fork(path: str, argv: list[str], environment: dict[str, str]) -> Child:
    """Fork the command; it executes after `Child.go`, and exits 125 when the gate just closes."""
    gate_of_child, gate = os.pipe()  # the exec closes all four ends
    refusal, refusal_of_child = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(gate)
        _wait_and(partial(_execute, path, argv, environment), gate_of_child, refusal_of_child)
    os.close(gate_of_child)
    os.close(refusal_of_child)
    return Child(pid, gate, refusal, GroupWitness(pid))


def _wait_and(execute: Callable[[], None], gate: int, refusal: int) -> NoReturn:
    try:
        _restore_signals()
        if os.read(gate, 1) == b"g":
            execute()
    except OSError as error:
        os.write(refusal, str(error.errno).encode())
        os._exit(CommandNotExecutable.exit_code)
    finally:
        os._exit(_NEVER_STARTED)


def _restore_signals() -> None:
    """Undo what Python set at its start; signals that the caller ignores (nohup) stay ignored."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _execute(path: str, argv: list[str], environment: dict[str, str]) -> None:
    """Execute as execvp(3) does: the shell runs a script without #! line. Raises OSError."""
    try:
        os.execve(path, argv, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    os.execve(_SHELL, [_SHELL, path, *argv[1:]], environment)
