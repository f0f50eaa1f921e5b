"""Writing the run's journal: JSON lines, each in one write, so that a crash tears only the last."""

from __future__ import annotations

import json
import os
import time
from typing import Any

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def append(descriptor: int, kind: str, **values: Any) -> None:
    """Add a line with its CLOCK_MONOTONIC time. Raises OSError if the disk is full."""
    line = {"kind": kind, "time_ns": time.monotonic_ns(), **values}
    rest = memoryview(json.dumps(line).encode() + b"\n")
    while rest:  # an almost full disk accepts a part
        rest = rest[os.write(descriptor, rest) :]


def mountinfo(pid: int | str = "self") -> str:
    """The mounts that a process sees: /proc/PID/mountinfo; empty if it has ended."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().encode("utf-8", "backslashreplace").decode()
    except OSError:
        return ""


def boot_id() -> str:
    """What the kernel calls the time since it was started; empty where it cannot be read."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
