"""What system calls mean to the programs."""

from __future__ import annotations

import platform

import pytest

from cvmprof.probes import syscalls
from cvmprof.probes.machines import MACHINES


@pytest.mark.parametrize("machine", MACHINES)
def test_every_classified_call_has_its_class(machine: str) -> None:
    table, calls = syscalls.class_table(machine), MACHINES[machine].calls
    expected = {
        "pread64": ("pread", "none"),
        "read": ("read", "read"),
        "readv": ("readv", "readv"),
        "preadv2": ("preadv", "none"),
        "mmap": ("mmap", "none"),
        "mlockall": ("mlock", "none"),
        "fadvise64": ("fadvise", "none"),
        "openat": ("openat", "openat"),
        "open": ("open", "open"),
        "execve": ("exec", "none"),
        "execveat": ("execveat", "none"),
        "statx": ("statat", "none"),
        "statfs": ("stat", "none"),
        "fstat": ("metadata", "none"),
        "close": ("close", "close"),
        "lseek": ("metadata", "none"),
        "sendto": ("none", "send"),
        "write": ("none", "send"),
        "recvmsg": ("none", "recvmsg"),
        "connect": ("none", "connect"),
        "renameat2": ("none", "renameat"),
        "unlink": ("none", "unlink"),
        "unlinkat": ("none", "unlinkat"),
        "copy_file_range": ("copy_file_range", "none"),
        "splice": ("splice", "none"),
    }
    for name, (target, daemon) in expected.items():
        if name in calls:
            value = table[calls[name]]
            classes = syscalls.TARGET_CLASSES[value & 0xFF], syscalls.DAEMON_CLASSES[value >> 8]
            assert classes == (target, daemon), name


@pytest.mark.parametrize(
    ("machine", "without"), [("x86_64", set[str]()), ("aarch64", {"open", "rename", "unlink"})]
)
def test_every_class_is_some_calls(machine: str, without: set[str]) -> None:
    values = syscalls.class_table(machine).values()
    targets = {syscalls.TARGET_CLASSES[value & 0xFF] for value in values}
    daemons = {syscalls.DAEMON_CLASSES[value >> 8] for value in values}
    assert targets == set(syscalls.TARGET_CLASSES) - (without & {"open"})
    assert daemons == set(syscalls.DAEMON_CLASSES) - without


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_that_do_not_matter_are_not_in_the_table(machine: str) -> None:
    table = syscalls.class_table(machine)
    assert MACHINES[machine].calls["bpf"] not in table
    assert all(table.values())


def test_a_machine_without_a_table() -> None:
    with pytest.raises(KeyError):
        syscalls.class_table("pdp11")


def test_this_machine_is_the_default() -> None:
    assert syscalls.class_table() == syscalls.class_table(platform.machine())
