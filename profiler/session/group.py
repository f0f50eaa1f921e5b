"""The process group of cvmprof and its command, and what is sent to the group as a whole."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from .signals import TERMINAL_STOPS, blocked

_PATIENCE_S = 1.0
#: how often to look whether the command goes on
_LOOK_S = 0.05
#: what the witness is asked: which signals came; to wake this process
_SIGNALS, _WAKE = b"?", b"w"


@dataclass(frozen=True)
class Member:
    """A process of a group."""

    pid: int
    parent: int


def members(group: int) -> Iterator[Member]:
    """Yield the living processes of a group."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            state, parent, its_group = _stat(int(entry))[:3]
            if int(its_group) == group and state not in ("Z", "X"):
                yield Member(int(entry), int(parent))


class GroupWitness:
    """A process in this one's group that does nothing but keep the signals that it was sent.

    A signal that it has too was sent to the whole group, by Ctrl-C or kill(2), so the command has
    got it as well. The kernel goes through a group from the newest member to the oldest: what this
    process has, the witness has already.

    This process stops with the command. The witness wakes it if the command alone is continued,
    which a parent that is stopped does not learn.

    To be created before this process starts threads. Holds no file of the command's, and ends with
    this process. ``child``: the command's process.
    """

    def __init__(self, child: int) -> None:
        requests, self._ask = os.pipe()
        self._answer, answers = os.pipe()
        with blocked(signal.valid_signals()):
            self._pid = os.fork()
            if not self._pid:
                _attend(requests, answers, child)
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

    def woke(self, received: signal.struct_siginfo) -> bool:
        """Whether a signal is the one by which it wakes this process."""
        return received.si_pid == self._pid

    @contextmanager
    def waking(self) -> Generator[None]:
        """Let it wake this process, which is about to stop as the command has.

        Afterwards it has forgotten the signals that stopped the group.
        """
        if not self._is_lost:
            with suppress(OSError):
                os.write(self._ask, _WAKE)
        yield
        self._ask_it()
        self._seen -= TERMINAL_STOPS

    def _ask_it(self) -> None:
        if self._is_lost:
            return
        with suppress(OSError):
            os.write(self._ask, _SIGNALS)
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


def _attend(requests: int, answers: int, child: int) -> NoReturn:
    """Do what each request asks for, until there are no more."""
    try:
        parent = os.getppid()
        os.chdir("/")
        low, high = sorted((requests, answers))
        os.closerange(0, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, os.sysconf("SC_OPEN_MAX"))
        while request := os.read(requests, 1):
            if request == _WAKE:
                _wake(parent, child, requests)
            else:
                os.write(answers, _signals_that_came())
    finally:
        os._exit(0)


def _signals_that_came() -> bytes:
    """A byte, and the numbers of the signals that came."""
    taken = bytearray(b"!")
    while received := signal.sigtimedwait(signal.valid_signals(), 0):
        taken.append(received.si_signo)
    return bytes(taken[:255])


def _wake(parent: int, child: int, requests: int) -> None:
    """Continue a parent that is stopped while its child is not; return at the next request."""
    with suppress(OSError):  # what belongs to others may be hidden
        while not select.select([requests], [], [], _LOOK_S)[0]:
            if _is_stopped(parent) and not _is_stopped(child):
                os.kill(parent, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, or by a debugger."""
    return _stat(pid)[0] in ("T", "t")


def _stat(pid: int) -> list[str]:
    """State, parent, group and so on of a process, see proc(5). Raises OSError if it is gone."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()
