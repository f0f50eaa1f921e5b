"""File operations that failed, and what that says of their mount."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ..escape import visible
from ..numbers.failed_operations import FailedOperation
from ..numbers.statistics import Statistics
from ..words import duration, plural
from .finding import Finding

_PATH = 200
_WORDS = {
    "open": "open of", "read": "read of", "splice": "read of", "fault": "page fault in",
    "populate": "populating of", "advise": "reading ahead of", "metadata": "look-up of",
}  # fmt: skip
#: what an error says of a mount that is not dead, and what to do
_MEANINGS = {
    "EIO": "The client could not supply what was asked for: its log says why, and fetches that "
    "failed may.",
    "EACCES": "Permissions, or the client, refuse it: check who may read the repository.",
    "ESTALE": "What was open is not there any more: open it again, or mount the repository again.",
    "ECONNABORTED": "The client ended before it answered, or the mount was detached by force.",
    "ENOENT": "The automounter mounted nothing there: cvmfs_config probe says why.",
    "ENODEV": "What is mounted there answers no such call: check that it is the right mount.",
}


def failed_operations(s: Statistics) -> Iterator[Finding]:
    """Name the file operations that failed, by mount and error, and say when a mount is dead."""
    by_mount = sorted(s.failed_operations, key=_mount_and_error)
    groups = [list(alike) for _, alike in groupby(by_mount, key=_mount_and_error)]
    for alike in sorted(groups, key=lambda group: group[0].first_ns):
        yield _dead(s, alike) if alike[0].error == "ENOTCONN" else _failed(alike)


def _mount_and_error(each: FailedOperation) -> tuple[str, str]:
    return each.mountpoint or "", each.error


def _dead(s: Statistics, alike: list[FailedOperation]) -> Finding:
    place = _place(alike[0])
    which = f"the mount {place}" if place else "its mount"
    again = f"umount -l {place}" if place else "umount -l"
    until = f"Every access fails until it is detached ({again}) and mounted again."
    return Finding(
        "warning",
        f"{_what(alike)} failed: {which} is dead: its client has ended (ENOTCONN).",
        f"{_first(alike)}{'It was mounted again later.' if _is_renewed(s, alike) else until}",
    )


def _is_renewed(s: Statistics, alike: list[FailedOperation]) -> bool:
    """Whether something was mounted at the same place after the first of these failed."""
    failed_ns = s.start_ns + min(each.first_ns for each in alike)
    return any(
        mount["mountpoint"] == alike[0].mountpoint and (mount["start_ns"] or 0) > failed_ns
        for mount in s.mounts
    )


def _failed(alike: list[FailedOperation]) -> Finding:
    place = _place(alike[0])
    where = f" on {place}" if place and _number(alike) > 1 else ""
    meaning = _MEANINGS.get(alike[0].error, "What serves that mount could not be reached.")
    headline = f"{_what(alike)}{where} failed ({alike[0].error})."
    return Finding("warning", headline, f"{_first(alike)}{meaning}")


def _place(failed: FailedOperation) -> str:
    return visible(failed.mountpoint or "", _PATH)


def _number(alike: list[FailedOperation]) -> int:
    return sum(each.count for each in alike)


def _what(alike: list[FailedOperation]) -> str:
    if _number(alike) == 1:
        return f"The {_named(alike[0])}"
    return plural(_number(alike), "file operation")


def _first(alike: list[FailedOperation]) -> str:
    """When the only one failed, or which was the first and when."""
    first = min(alike, key=lambda each: each.first_ns)
    after = f"{duration(first.first_ns)} after the start"
    if _number(alike) == 1:
        return f"That was {after}. "
    return f"The first was the {_named(first)}, {after}. "


def _named(failed: FailedOperation) -> str:
    return f"{_WORDS[failed.kind]} {visible(failed.path or 'an unknown file', _PATH)}"
