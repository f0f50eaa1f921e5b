"""The controlling terminal, and a command that takes a process group of its own.

A shell makes each job a process group, led by its first process. A command such as timeout(1) leads
its group; traced it is cvmprof that leads, and the command then makes a group of its own, to which
the terminal does not listen. This hands it the terminal, as the shell has given it to cvmprof.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from .group import Member, members
from .identity import parent_is_sudo
from .signals import blocked


class Terminal:
    """The controlling terminal, if there is one. ``child``: the command's process."""

    def __init__(self, child: int) -> None:
        self._child = child
        self._descriptor: int | None = None
        with suppress(OSError):
            self._descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        self._is_refused = False
        self._own_group = os.getpgrp()
        self._leads = self._own_group in (os.getpid(), _sudo())

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return self._descriptor is not None

    def group_apart(self) -> int | None:
        """The command's process group, if it made one where untraced it would have led the job."""
        group = os.getpgid(self._child)
        return group if self._leads and group == self._child else None

    def give(self) -> None:
        """Make the command's own group the terminal's, if this process's is it.

        Not where others share the job, such as the rest of a pipeline: they may read from it.
        """
        group = self.group_apart()
        if group is None or self._is_refused or self._foreground() != self._own_group != group:
            return
        if any(map(_is_other, members(self._own_group))) or not self._set_foreground(group):
            self._is_refused = True
            return
        with suppress(OSError):
            os.killpg(group, signal.SIGCONT)  # it may have asked for input already

    def take_back(self) -> None:
        """Make this process's group the terminal's again, and close the terminal."""
        if self._descriptor is None:
            return
        if self._foreground() == self._child != self._own_group:
            self._set_foreground(self._own_group)
        os.close(self._descriptor)
        self._descriptor = None

    def _foreground(self) -> int | None:
        if self._descriptor is not None:
            with suppress(OSError):
                return os.tcgetpgrp(self._descriptor)
        return None

    def _set_foreground(self, group: int) -> bool:
        """Whether it could be done: the group may have ended, or left the session."""
        assert self._descriptor is not None
        try:
            with blocked({signal.SIGTTOU}):
                os.tcsetpgrp(self._descriptor, group)
        except OSError:
            return False
        return True


def _is_other(member: Member) -> bool:
    return os.getpid() not in (member.pid, member.parent) and member.pid != _sudo()


def _sudo() -> int | None:
    """The sudo that started this process."""
    return os.getppid() if parent_is_sudo() else None
