"""Daemons of the lab, remembered in files: a pid alone may have been given to another process
since.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Daemon:
    """One process: its pid and the clock ticks since boot at which it started."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> Daemon:
        """The process that has this pid now. Raises ProcessLookupError where there is none."""
        ticks = _start_ticks(pid)
        if ticks is None:
            raise ProcessLookupError(pid)
        return cls(pid, ticks)

    def alive(self) -> bool:
        """Whether the very process still runs."""
        return _start_ticks(self.pid) == self.start_ticks

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False where it lives on after ``timeout_s``."""
        return self._wait_pidfd(None, timeout_s)

    def end(self, timeout_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL after ``timeout_s``; returns when it is gone."""
        if not self._wait_pidfd(signal.SIGTERM, timeout_s):
            self._wait_pidfd(signal.SIGKILL, timeout_s)
        # Where it is our own child, nobody else collects it.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)

    def _wait_pidfd(self, number: signal.Signals | None, timeout_s: float) -> bool:
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # The descriptor pins the process; whether it is the right one is asked only now.
            if not self.alive():
                return True
            if number is not None:
                signal.pidfd_send_signal(pidfd, number)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        except ProcessLookupError:
            return True
        finally:
            os.close(pidfd)


def remember(file: Path, daemon: Daemon, **about: str | int) -> None:
    """Write who it is, and what else is to be known about it, to ``file``."""
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps({**asdict(daemon), **about}))
    os.replace(temporary, file)


def recall(file: Path) -> tuple[Daemon, dict[str, str | int]] | None:
    """Who was remembered; None where nobody was, or the text is damaged."""
    try:
        fields = json.loads(file.read_text())
        daemon = Daemon(int(fields.pop("pid")), int(fields.pop("start_ticks")))
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return daemon, fields


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None where the process is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
