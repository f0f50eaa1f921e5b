"""The traced command: found, forked, held at a gate until all is attached, then executed."""

from __future__ import annotations

import errno
import os
import signal
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from ...errors import CommandNotExecutable, CommandNotFound, CvmprofError

_NEVER_STARTED = 125
_SHELL = "/bin/sh"


@dataclass(frozen=True)
class Child:
    """A forked command that waits at its gate. ``refusal`` is where it tells why exec failed."""

    pid: int
    gate: int
    refusal: int

    def go(self) -> None:
        """Lets it execute the command."""
        with suppress(BrokenPipeError):  # it was killed while it waited; its status tells
            os.write(self.gate, b"g")
        os.close(self.gate)

    def abandon(self) -> None:
        """Closes the gate unopened: the command never runs."""
        os.close(self.gate)
        os.close(self.refusal)
        with suppress(ChildProcessError):  # where the caller ignores SIGCHLD
            os.waitpid(self.pid, 0)

    def refused(self) -> int | None:
        """Once it has ended: the errno of an exec that the kernel refused, else None."""
        with open(self.refusal, "rb") as refusal:
            number = refusal.read()
        return int(number) if number else None


def find_command(name: str, environment: dict[str, str]) -> str:
    """The file that a command's name stands for on the user's PATH, as execvp(3) finds it.

    Raises CommandNotFound or CommandNotExecutable.
    """
    if "/" in name:
        candidates = [name]
    else:
        path = environment.get("PATH", os.defpath)
        candidates = [os.path.join(place or ".", name) for place in path.split(":") if name]
    refused = [path for path in candidates if os.path.exists(path)]
    for path in refused:
        if os.access(path, os.X_OK, effective_ids=True) and stat.S_ISREG(os.stat(path).st_mode):
            return path
    if refused:
        number = errno.EISDIR if os.path.isdir(refused[0]) else errno.EACCES
        raise not_executable(refused[0], number)
    fact = f"no command {name!r} was found"
    raise CommandNotFound(fact, "check its name and PATH, or give its whole path")


def not_executable(path: str, number: int) -> CvmprofError:
    """What to say of a command that the kernel does not execute, by the errno it gave."""
    if number == errno.EISDIR:
        return CommandNotExecutable(f"{path} is a directory", "name a program or a script in it")
    if number == errno.ENOENT and os.path.exists(path):
        fact = f"{path} cannot be executed: its interpreter is missing"
        return CommandNotExecutable(fact, "mend its first line (#!), or name an interpreter first")
    if number == errno.ENOENT:
        return CommandNotFound(f"{path} is gone", "see what removes it while cvmprof starts")
    fact = f"{path} cannot be executed: {os.strerror(number)}"
    return CommandNotExecutable(fact, f"chmod +x it, or name its interpreter: python {path}")


def fork(path: str, argv: list[str], environment: dict[str, str]) -> Child:
    """Forks the command; it executes after `Child.go`, or exits 125 when the gate just closes."""
    hold, gate = os.pipe()  # none of these survives the exec
    refusal, refuse = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(gate)
        _wait_and_execute(hold, refuse, path, argv, environment)
    os.close(hold)
    os.close(refuse)
    return Child(pid, gate, refusal)


def _wait_and_execute(
    hold: int, refuse: int, path: str, argv: list[str], environment: dict[str, str]
) -> NoReturn:
    try:
        _restore_signals()
        if os.read(hold, 1) == b"g":
            _execute(path, argv, environment)
    except OSError as error:
        os.write(refuse, str(error.errno).encode())
        os._exit(CommandNotExecutable.exit_code)
    finally:
        os._exit(_NEVER_STARTED)


def _restore_signals() -> None:
    """Undoes what Python did at its start; what the caller had ignored (nohup) stays ignored."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _execute(path: str, argv: list[str], environment: dict[str, str]) -> None:
    """As execvp(3): what has no #! line is the shell's. Raises OSError."""
    try:
        os.execve(path, argv, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    os.execve(_SHELL, [_SHELL, path, *argv[1:]], environment)
