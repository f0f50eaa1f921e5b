"""Print what a process can see of itself, as JSON: to stdout, or to "seen" where that is closed.

Without what a recording is documented to add: variables, and a descriptor for phases.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

ADDED = ("CVMPROF_", "CUDA_INJECTION64_PATH=", "PYTHONPATH=", "PWD=")
STATUS = (
    "Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn", "SigPnd",
    "ShdPnd", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Cpus_allowed_list", "TracerPid",
)  # fmt: skip
FILES = ("limits", "oom_score_adj", "cgroup", "timerslack_ns", "personality")


def read(name: str) -> str:
    with open(f"/proc/self/{name}", errors="backslashreplace") as file:
        return file.read()


def descriptors() -> list[tuple[int, str]]:
    opened = list[tuple[int, str]]()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            kind = os.readlink(f"/proc/self/fd/{name}").partition(":")[0]
            opened.append((int(name), os.path.basename(kind)))
    return sorted(each for each in opened if each[1] != "phases.jsonl")


def environment() -> list[str]:
    return sorted(each for each in read("environ").split("\0") if not each.startswith(ADDED))


def terminal() -> str | None:
    try:
        return os.ttyname(os.open("/dev/tty", os.O_RDONLY))
    except OSError:
        return None


lines = (line.partition(":") for line in read("status").splitlines())
status = {name: value for name, _, value in lines}
seen = {
    "status": {name: status.get(name) for name in STATUS},
    "descriptors": descriptors(),
    "environment": environment(),
    "files": {name: read(name) for name in FILES},
    "leads": [os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()],
    "leader leads session": os.getsid(0) == os.getpgrp(),
    "terminal": terminal(),
    "priority": [os.nice(0), os.sched_getscheduler(0)],
    "directory": os.path.basename(os.getcwd()),
}  # fmt: skip
print(json.dumps(seen), file=sys.stdout or open("seen", "w"))  # noqa: SIM115
