"""Names for the parts of a program, so that a trace can say what the time was for.

    with phase("load"):
        session = load(model)

While cvmprof traces the program, each phase writes two JSON lines to the inherited descriptor whose
number is in ``CVMPROF_PHASE_FD``: a file opened for appending, or a pipe. Otherwise nothing
happens, at almost no cost. Each line is one write(2) of at most PIPE_BUF bytes, which files and
pipes keep whole, so the lines of threads and processes never mix:

    {"name": "load", "event": "begin", "time_ns": 12345678, "pid": 4242, "tid": 4243}

``event`` is ``begin`` or ``end``, ``time_ns`` CLOCK_MONOTONIC in nanoseconds, ``pid`` and ``tid``
the ids in the program's own pid namespace. Phases of one thread nest. Nothing here raises into the
program: if the profiler is gone, stuck or absent, phases do nothing. A child keeps the descriptor
if it inherits descriptors (``subprocess`` closes them except with ``close_fds=False`` or
``pass_fds``).

Standard library only, nothing of ours, Python 3.9: import this file or copy it.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import stat
import threading
import time
from contextlib import ContextDecorator
from typing import Any, Callable, TypeVar

__all__ = ["VARIABLE", "Phase", "phase"]

VARIABLE = "CVMPROF_PHASE_FD"
"""The environment variable that holds the number of the pipe's descriptor."""

_NAME_MAX_CHARACTERS = 256  # at most 12 bytes each once escaped: a line stays under PIPE_BUF (4096)
_PATIENCE_MS = 1000  # how long a full pipe may delay the program, once

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Pipe:
    """The way to the profiler; given up for good at the first sign that nobody reads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._identity = _pipe_identity(descriptor)

    def write(self, line: bytes) -> None:
        """Write one line, or give the pipe up. Never raises OSError, never waits long."""
        if self._identity is None:
            return
        try:
            if self._is_ready():
                os.write(self._descriptor, line)
                return
        except (OSError, ValueError):
            pass
        self._identity = None

    def _is_ready(self) -> bool:
        """Whether this is still the inherited pipe, someone reads it and it has room.

        The number may by now be another file of the program, where we must not write; and a pipe
        without a reader would kill a program that restored SIGPIPE.
        """
        if _pipe_identity(self._descriptor) != self._identity:
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return [event for _, event in poll.poll(_PATIENCE_MS)] == [select.POLLOUT]


class Phase(ContextDecorator):
    """A named phase: a context manager, or a decorator of a plain (not ``async``) function."""

    def __init__(self, name: str, pipe: _Pipe) -> None:
        self._name = str(name)[:_NAME_MAX_CHARACTERS]
        self._pipe = pipe

    def __enter__(self) -> None:
        self._mark("begin")

    def __exit__(self, *_: object) -> None:
        self._mark("end")

    def _mark(self, event: str) -> None:
        mark = {
            "name": self._name,
            "event": event,
            "time_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            "pid": os.getpid(),
            "tid": threading.get_native_id(),
        }
        self._pipe.write(json.dumps(mark).encode("ascii") + b"\n")


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

    A name is cut after 256 characters. Costs about 0.2 µs if the program is not traced.
    """
    return _UNOBSERVED if _PIPE is None else Phase(name, _PIPE)


def _pipe_identity(descriptor: int) -> tuple[int, int] | None:
    """Return (device, inode) of the pipe or appended file of a descriptor; None if neither."""
    try:
        status = os.fstat(descriptor)
    except (OSError, OverflowError):
        return None
    writable = stat.S_ISFIFO(status.st_mode) or _appends(descriptor, status.st_mode)
    return (status.st_dev, status.st_ino) if writable else None


def _appends(descriptor: int, mode: int) -> bool:
    return stat.S_ISREG(mode) and bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)


def _inherited_pipe() -> _Pipe | None:
    number = os.environ.get(VARIABLE, "")
    if not (number.isascii() and number.isdigit()):
        return None
    pipe = int(number[:10])
    return _Pipe(pipe) if _pipe_identity(pipe) else None


_PIPE = _inherited_pipe()
_UNOBSERVED = _Unobserved()
