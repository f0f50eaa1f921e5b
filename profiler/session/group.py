"""The process group of cvmprof and its command, and what is sent to the group as a whole."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from .signals import blocked

_PATIENCE_S = 1.0


@dataclass(frozen=True)
class Member:
    """A process of a group."""

    pid: int
    parent: int


def members(group: int) -> Iterator[Member]:
    """Yield the living processes of a group."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                state, parent, its_group = file.read().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in ("Z", "X"):
                yield Member(int(entry), int(parent))


class GroupWitness:
    """A process in this one's group that does nothing but keep the signals that it was sent.

    A signal that it has too was sent to the whole group, by Ctrl-C or kill(2), so the command has
    got it as well. The kernel goes through a group from the newest member to the oldest: what this
    process has, the witness has already.

    To be created before this process starts threads. Holds no file of the command's, and ends with
    this process.
    """

    def __init__(self) -> None:
        requests, self._ask = os.pipe()
        self._answer, answers = os.pipe()
        with blocked(signal.valid_signals()):
            self._pid = os.fork()
            if not self._pid:
                _keep_signals(requests, answers)
        os.close(requests)
        os.close(answers)
        self._is_lost = False
        self._seen = set[int]()

    def saw(self, number: int) -> bool | None:
        """Whether the group was sent a signal since it was last asked for it; None: not known."""
        self._ask_it()
        if self._is_lost:
            return None
        if number not in self._seen:
            return False
        self._seen.remove(number)
        return True

    def _ask_it(self) -> None:
        if self._is_lost:
            return
        with suppress(OSError):
            os.write(self._ask, b"?")
            if select.select([self._answer], [], [], _PATIENCE_S)[0]:
                answer = os.read(self._answer, 256)
                self._seen.update(answer[1:])
                self._is_lost = not answer
                return
        self._is_lost = True  # it was killed or stopped

    def end(self) -> None:
        """End it."""
        os.close(self._ask)
        os.close(self._answer)
        with suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # where the caller ignores SIGCHLD
            os.waitpid(self._pid, 0)


def _keep_signals(requests: int, answers: int) -> None:
    """Answer each request with a byte and the numbers of the signals that came; never return."""
    try:
        os.chdir("/")
        low, high = sorted((requests, answers))
        os.closerange(0, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, os.sysconf("SC_OPEN_MAX"))
        while os.read(requests, 1):
            taken = bytearray(b"!")
            while received := signal.sigtimedwait(signal.valid_signals(), 0):
                taken.append(received.si_signo)
            os.write(answers, taken[:255])
    finally:
        os._exit(0)
