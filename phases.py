"""Names for the parts of a program, so that a trace can say what the time was for.

    with phase("load"):
        session = load(model)

While cvmprof traces the program, each phase adds two JSON lines to a file of the run. The variable
``CVMPROF_PHASES`` holds ``DEVICE:INODE:PATH``: the file's absolute path, and its st_dev and st_ino,
so that no other file is taken for it. Without the variable nothing happens, at almost no cost. Each
line is one write(2) that appends, so the lines of threads and processes never mix:

    {"name": "load", "event": "begin", "time_ns": 12345678, "pid": 4242, "tid": 4243}

``event`` is ``begin`` or ``end``, ``time_ns`` CLOCK_MONOTONIC in nanoseconds, ``pid`` and ``tid``
the ids in the program's own pid namespace. Phases of one thread nest.

A process opens the file at its first phase, so any child that has the variable marks phases, even
one that closed all descriptors. The descriptor is above the numbers that programs use, no program
that is executed inherits it, and it is recognised as the file's before each line. Nothing here
raises into the program: if the file is out of reach, removed or full, phases do nothing.

Standard library only, nothing of ours, Python 3.6: import this file or copy it.
"""

import fcntl
import json
import os
import stat
import threading
import time
from contextlib import ContextDecorator
from typing import Any, Callable, TypeVar

__all__ = ["VARIABLE", "Phase", "phase"]

VARIABLE = "CVMPROF_PHASES"
"""The environment variable that names the file."""

_NAME_MAX_CHARACTERS = 256
_LOWEST_DESCRIPTOR = 64  # above the numbers that shells and programs use
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
_DUPLICATE_CLOSED_ON_EXEC = 1030  # F_DUPFD_CLOEXEC, which PyPy does not name

_Function = TypeVar("_Function", bound=Callable[..., Any])


class PhaseFile:
    """The run's file of phases; given up for good at the first sign that it cannot be written.

    ``named``: what the variable holds. Raises ValueError if that names no file.
    """

    def __init__(self, named: str) -> None:
        device, inode, self._path = named.split(":", 2)
        self._identity = int(device), int(inode)
        self._descriptor = -1
        self.is_given_up = not os.path.isabs(self._path)

    def append(self, line: bytes) -> None:
        """Write one line, or give the file up. Never raises OSError."""
        if self.is_given_up:
            return
        try:
            descriptor = self._descriptor
            if not self._is_open_as(descriptor):
                descriptor = self._opened()
            if os.write(descriptor, line) == len(line):
                return
        except (OSError, ValueError, OverflowError):
            pass
        self.is_given_up = True

    def _is_open_as(self, descriptor: int) -> bool:
        """Whether a descriptor is the file, open for appending, and the file still has a name.

        The program may have closed it, and the number may by now be another file of the program.
        """
        if descriptor < 0:
            return False
        try:
            status = os.fstat(descriptor)
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        except OSError:
            return False
        is_named = stat.S_ISREG(status.st_mode) and status.st_nlink > 0
        is_it = is_named and (status.st_dev, status.st_ino) == self._identity
        return is_it and bool(flags & os.O_APPEND)

    def _opened(self) -> int:
        """Open the file and keep its descriptor. Raises OSError where the path leads elsewhere.

        Without a lock, since one that another thread holds during a fork is never released in the
        child.
        """
        before = self._descriptor
        low = os.open(self._path, _FLAGS)
        try:
            if not self._is_open_as(low) or os.fstat(low).st_uid != os.geteuid():
                raise FileNotFoundError(self._path)
            descriptor = fcntl.fcntl(low, _DUPLICATE_CLOSED_ON_EXEC, _LOWEST_DESCRIPTOR)
        finally:
            os.close(low)
        if self._descriptor == before:
            self._descriptor = descriptor
        else:  # another thread was faster
            os.close(descriptor)
        return self._descriptor


class Phase(ContextDecorator):
    """A named phase: a context manager, or a decorator of a plain (not ``async``) function."""

    def __init__(self, name: str, file: PhaseFile) -> None:
        self._name = json.dumps(_text(name)[:_NAME_MAX_CHARACTERS])
        self._file = file

    def __enter__(self) -> None:
        self._mark("begin")

    def __exit__(self, *_: object) -> None:
        self._mark("end")

    def _mark(self, event: str) -> None:
        line = '{"name": %s, "event": "%s", "time_ns": %d, "pid": %d, "tid": %d}\n'
        try:
            values = self._name, event, monotonic_ns(), os.getpid(), thread_id()
        except OSError:
            return
        self._file.append((line % values).encode("ascii"))


class _Unobserved(Phase):
    """The phase of a program that is not traced."""

    def __init__(self) -> None:
        """Hold nothing."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def __call__(self, func: _Function) -> _Function:
        """Return the function as it is."""
        return func


def phase(name: str) -> Phase:
    """Return the phase called ``name``: use it in a ``with`` statement or as a decorator.

    A name is cut after 256 characters. Costs about 0.1 µs if the program is not traced, 10 µs if it
    is.
    """
    return _UNOBSERVED if _FILE is None else Phase(name, _FILE)


def named(path: str, status: os.stat_result) -> str:
    """Return what the variable has to hold for the file at this absolute path."""
    return f"{status.st_dev}:{status.st_ino}:{path}"


def thread_id() -> int:
    """Return the calling thread's id in its pid namespace.

    Raises OSError where Python is older than 3.8 and /proc is not there.
    """
    if hasattr(threading, "get_native_id"):  # since Python 3.8
        return threading.get_native_id()  # novm
    return int(os.path.basename(os.readlink("/proc/thread-self")))


def monotonic_ns() -> int:
    """Return CLOCK_MONOTONIC in nanoseconds."""
    if hasattr(time, "clock_gettime_ns"):  # since Python 3.7
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)  # novm
    return int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e9)


def _text(name: object) -> str:
    """Return a name as text: what is not text may fail to become it."""
    try:
        return str(name)
    except Exception:  # noqa: BLE001  the program goes on
        return type(name).__name__


def _file_of_the_run() -> "PhaseFile | None":
    try:
        return PhaseFile(os.environ[VARIABLE])
    except (KeyError, ValueError):
        return None


_FILE = _file_of_the_run()
_UNOBSERVED = _Unobserved()
