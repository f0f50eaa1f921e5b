"""Daemons of the lab, remembered in files by pid and start time: pids are reused."""

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
    """One process: its pid, and when it started in clock ticks since boot."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> Daemon:
        """The process that has this pid now. Raises ProcessLookupError if there is none."""
        ticks = _start_ticks(pid)
        if ticks is None:
            raise ProcessLookupError(pid)
        return cls(pid, ticks)

    def alive(self) -> bool:
        """Whether this process, and not another with its pid, still runs."""
        return _start_ticks(self.pid) == self.start_ticks

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False if it still runs after ``timeout_s``."""
        return self._wait_pidfd(None, timeout_s)

    def end(self, timeout_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL after ``timeout_s``; returns when it is gone."""
        if not self._wait_pidfd(signal.SIGTERM, timeout_s):
            self._wait_pidfd(signal.SIGKILL, timeout_s)
        # Nobody else reaps our own child.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)

    def _wait_pidfd(self, number: signal.Signals | None, timeout_s: float) -> bool:
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # The descriptor pins the process, so only now can we check that it is the right one.
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
    """Write the daemon, and more ``about`` it, to ``file``."""
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps({**asdict(daemon), **about}))
    os.replace(temporary, file)


def recall(file: Path) -> tuple[Daemon, dict[str, str | int]] | None:
    """The remembered daemon, and what else was written; None if absent or damaged."""
    try:
        fields = json.loads(file.read_text())
        daemon = Daemon(int(fields.pop("pid")), int(fields.pop("start_ticks")))
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return daemon, fields


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None if the process is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
