"""bcc, which compiles the programs: which versions are supported.

Nothing else depends on the version: what the versions do differently is done by bpf(2) instead
(profiler/record/prog_load.py). Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: the one of Debian 11 and Ubuntu 22.04; tests/kernels tests it, and those of newer distributions
OLDEST = (0, 18)
OLDEST_NAME = ".".join(map(str, OLDEST))


@dataclass(frozen=True)
class Compiler:
    """The bcc of a Python: its version as bcc reports it; or why it is refused, and what helps."""

    interpreter: str
    version: str | None
    refusal: str | None = None
    way_out: str | None = None


def is_too_old(version: str) -> bool:
    """Whether a version is not supported. One that cannot be parsed is assumed to be new."""
    numbers = version_numbers(version)
    return numbers is not None and numbers < OLDEST


def version_numbers(version: str) -> tuple[int, int] | None:
    """The first two numbers of a version, or None if it does not begin with two."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None
