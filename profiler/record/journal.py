"""The run's journal: JSON lines, each in one write, so that a crash tears at most the last."""

from __future__ import annotations

import json
import os
import time
from typing import Any


def append(descriptor: int, kind: str, **values: Any) -> None:
    """Adds a line with the time on CLOCK_MONOTONIC. Raises OSError when the disk is full."""
    line = {"kind": kind, "time_ns": time.monotonic_ns(), **values}
    rest = memoryview(json.dumps(line).encode() + b"\n")
    while rest:  # a disk about to be full takes a part
        rest = rest[os.write(descriptor, rest) :]


def mountinfo(pid: int | str = "self") -> str:
    """The mounts that a process sees, as /proc tells them; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().encode("utf-8", "backslashreplace").decode()
    except OSError:
        return ""
