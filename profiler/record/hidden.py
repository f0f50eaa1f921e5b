"""Whether /proc hides other users' processes from the user of a run."""

from __future__ import annotations

import os
import re

#: the value of ``hidepid`` (proc(5)): a number, or a word since commit 1c6c4d112e81 ("proc: use
#: human-readable values for hidepid") (in v5.8); 0 and "off" are not listed
_HIDES = re.compile(r"(?:^|,)hidepid=(?!0|off)")


def hides_names(user: int, mounts: str) -> bool:
    """Whether names of processes that are not traced must stay out of a run that a user owns.

    ``user``: the number of the run's owner. ``mounts``: the text of mountinfo. A group that /proc
    makes an exception for (``gid``) is not looked at.
    """
    return user != 0 and any(map(_hides, mounts.splitlines()))


def names_are_hidden(run_file: int) -> bool:
    """The same for the owner of an open file of the run, by what this process has mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return hides_names(os.fstat(run_file).st_uid, file.read())


def _hides(mount: str) -> bool:
    """Whether a line of mountinfo is that of a /proc that hides processes."""
    head, _, tail = mount.partition(" - ")
    fields, of_filesystem = head.split(" "), tail.split(" ")
    if of_filesystem[0] != "proc" or fields[4] != "/proc":
        return False
    return _HIDES.search(of_filesystem[-1]) is not None
