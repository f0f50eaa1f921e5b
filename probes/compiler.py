"""bcc, which compiles the programs: which of its versions will do.

They are told apart by nothing else: what they do differently is done without them, by bpf(2)
(profiler/record/loading.py). Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Debian 11's and Ubuntu 22.04's; tests/kernels tries it, and those of newer distributions
OLDEST = (0, 18)
OLDEST_NAME = ".".join(map(str, OLDEST))


@dataclass(frozen=True)
class Compiler:
    """The bcc of a Python: its version as it gives it; or why it will not do, and the way out."""

    interpreter: str
    version: str | None
    refusal: str | None = None
    way_out: str | None = None


def is_too_old(version: str) -> bool:
    """Whether a version will not do. One that cannot be read is taken for a new one."""
    numbers = version_numbers(version)
    return numbers is not None and numbers < OLDEST


def version_numbers(version: str) -> tuple[int, int] | None:
    """The first two numbers of a version, or None where it does not begin with such."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None
