"""Follow a command to its end: what happens to this process meanwhile happens to the command."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .group import GroupWitness
from .signals import ENDING, TERMINAL_STOPS, discard_pending, stop, wait_for_signal, was_sent
from .terminal import Terminal

#: how often to look whether the command has made a process group of its own
_LOOK_S = 0.1
#: how often to ask what the command has left behind: at first, and later
_ASK_S, _ASK_SELDOM_S = 0.01, 0.5


@dataclass
class Deadline:
    """A time (time.monotonic) at which something is done, once; by default never."""

    act: Callable[[], None] = field(repr=False)
    at_s: float = math.inf
    has_passed: bool = False

    @property
    def left_s(self) -> float | None:
        """How long it is until then; None where nothing is left to be done."""
        if self.has_passed or self.at_s == math.inf:
            return None
        return self.at_s - time.monotonic()

    def check(self) -> None:
        """Do it if it is time."""
        if not self.has_passed and time.monotonic() >= self.at_s:
            self.has_passed = True
            self.act()


@dataclass(frozen=True)
class Others:
    """The processes of the command that outlive it.

    ``living`` returns those that have not ended; ``announce`` gets them before they are waited for.
    """

    living: Callable[[], list[dict[str, Any]]]
    announce: Callable[[list[dict[str, Any]]], None]


class Follower:
    """Follows the command's process; the watched signals must be blocked meanwhile.

    A signal to this process alone is passed on; one to its group the command has got as well,
    unless it has made a group of its own where untraced it would have led this one.
    """

    def __init__(self, child: int, witness: GroupWitness) -> None:
        self._child, self._witness = child, witness
        self._terminal = Terminal(child)

    def wait(self, deadline: Deadline) -> int:
        """Return the command's wait status."""
        try:
            while (status := self._ended()) is None:
                received = wait_for_signal(self._patience_s(deadline.left_s))
                if received is not None:
                    self._take(received)
                deadline.check()
                self._terminal.give()
        finally:
            self._terminal.take_back()
        return status

    def _patience_s(self, left_s: float | None) -> float | None:
        return _sooner(left_s, _LOOK_S) if self._terminal.exists else left_s

    def _ended(self) -> int | None:
        """The command's wait status, None while it runs. When it is stopped, so is this process."""
        pid, status = os.waitpid(self._child, os.WNOHANG | os.WUNTRACED)
        if not pid:
            return None
        if not os.WIFSTOPPED(status):
            return status
        self._stop_too(os.WSTOPSIG(status))
        return None

    def _stop_too(self, number: int) -> None:
        """Stop as the command has, so that a shell sees a stopped job, until either goes on."""
        with self._witness.waking():
            stop(number)
        was_stopped = number == signal.SIGSTOP or signal.SIGCONT in signal.sigpending()
        if not was_stopped:  # nobody could continue the job
            self._send_to_group_apart(signal.SIGCONT)

    def _take(self, received: signal.struct_siginfo) -> None:
        if received.si_signo == signal.SIGCHLD or self._witness.woke(received):
            return
        to_group = self._witness.saw(received.si_signo)
        if to_group:
            self._terminal.give()
            self._send_to_group_apart(received.si_signo)
        elif was_sent(received, self._child):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self._child, received.si_signo)

    def _send_to_group_apart(self, number: int) -> None:
        group = self._terminal.group_apart()
        if group is not None and group != os.getpgrp():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)


def wait_for_others(others: Others, deadline: Deadline) -> None:
    """Wait for the processes that outlive the command, until a deadline or a signal in `ENDING`.

    The watched signals must be blocked. Those that are pending were sent while the command ran.
    """
    discard_pending()
    pause_s, left = _ASK_S, others.living()
    if left:
        others.announce(left)
    while left:
        received = wait_for_signal(_sooner(deadline.left_s, pause_s))
        if received is not None and received.si_signo in ENDING:
            return
        if received is not None and received.si_signo in TERMINAL_STOPS:
            stop(received.si_signo)
        deadline.check()
        if deadline.has_passed:
            return
        pause_s, left = min(2 * pause_s, _ASK_SELDOM_S), others.living()


def _sooner(left_s: float | None, pause_s: float) -> float:
    return pause_s if left_s is None else min(left_s, pause_s)
