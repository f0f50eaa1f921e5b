"""What cvmprof itself prints while it traces: it is lost where it cannot be written."""

from __future__ import annotations

import os
from contextlib import suppress

_STDERR = 2


def say(line: str) -> None:
    """Write a line to stderr.

    Not through ``sys.stderr``: what its buffer could not get rid of would change the exit code.
    """
    with suppress(OSError):  # it is closed or full, or its reader has left
        rest = memoryview(f"{line}\n".encode("utf-8", "backslashreplace"))
        while rest:
            rest = rest[os.write(_STDERR, rest) :]


def hold_standard_descriptors() -> None:
    """Open /dev/null where stdin, stdout or stderr are closed, so that no other file gets their
    numbers. The exec of a command closes what was opened here.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor < _STDERR:
        descriptor = os.dup(descriptor)
    if descriptor > _STDERR:
        os.close(descriptor)
