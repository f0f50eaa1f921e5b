"""Which of the traced processes have not ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def living(pids: Iterable[int]) -> list[dict[str, Any]]:
    """The processes that are neither gone nor wait to be reaped: pid and name of each."""
    processes = list[dict[str, Any]]()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="backslashreplace") as file:
                head, _, tail = file.read().rpartition(")")
        except OSError:  # it has ended
            continue
        if tail.split()[0] not in ("Z", "X"):
            processes.append({"pid": pid, "name": head.partition("(")[2]})
    return processes
