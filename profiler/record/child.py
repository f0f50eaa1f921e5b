"""The traced command: found, forked, held at a gate until every probe is attached, then executed."""

from __future__ import annotations

import os
import signal
import stat
from dataclasses import dataclass
from typing import NoReturn

from ...errors import CommandNotExecutable, CommandNotFound

_NEVER_STARTED = 125


@dataclass(frozen=True)
class Child:
    """A forked command that waits at its gate."""

    pid: int
    gate: int

    def go(self) -> None:
        """Lets it execute the command."""
        os.write(self.gate, b"g")
        os.close(self.gate)


def find_command(name: str, environment: dict[str, str]) -> str:
    """The file that a command's name stands for on the user's PATH, as execvp(3) finds it.

    Raises CommandNotFound or CommandNotExecutable.
    """
    if "/" in name:
        candidates = [name]
    else:
        path = environment.get("PATH", os.defpath)
        candidates = [os.path.join(place or ".", name) for place in path.split(":")]
    refused = [path for path in candidates if os.path.exists(path)]
    for path in refused:
        if os.access(path, os.X_OK, effective_ids=True) and stat.S_ISREG(os.stat(path).st_mode):
            return path
    if refused:
        fact = f"{refused[0]} may not be executed"
        raise CommandNotExecutable(fact, f"make it executable, or name its interpreter: python {refused[0]}")
    raise CommandNotFound(f"no command {name!r} was found", "check its name and PATH, or give its whole path")


def fork(path: str, argv: list[str], environment: dict[str, str]) -> Child:
    """Forks the command; it executes after `Child.go`, or exits 125 when the gate closes without it."""
    hold, gate = os.pipe()  # neither survives the exec
    pid = os.fork()
    if pid:
        os.close(hold)
        return Child(pid, gate)
    os.close(gate)
    _wait_and_execute(hold, path, argv, environment)


def _wait_and_execute(hold: int, path: str, argv: list[str], environment: dict[str, str]) -> NoReturn:
    try:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if os.read(hold, 1) == b"g":
            os.execve(path, argv, environment)
    except OSError as error:
        os.write(2, f"cvmprof: {path}: {error.strerror}\n".encode())
        os._exit(CommandNotExecutable.exit_code)
    finally:
        os._exit(_NEVER_STARTED)
