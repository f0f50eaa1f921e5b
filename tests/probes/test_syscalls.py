"""System call numbers, against the C headers of this system."""

from __future__ import annotations

import platform
import re
import subprocess

import pytest

from cvmprof.probes import syscalls

if platform.machine() != "x86_64":
    pytest.skip("a table for this machine has yet to be made", allow_module_level=True)


@pytest.fixture(scope="module")
def numbers() -> dict[str, int]:
    """What <asm/unistd_64.h> defines."""
    printed = subprocess.run(
        ["cc", "-E", "-dM", "-include", "asm/unistd_64.h", "-x", "c", "/dev/null"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", printed, re.MULTILINE)
    return {name: int(number) for name, number in found}


def test_numbers_are_the_systems(numbers: dict[str, int]) -> None:
    ours = syscalls.NUMBERS["x86_64"]
    assert len(numbers) > 300
    assert ours == {name: numbers[name] for name in ours}


def test_every_classified_call_has_its_class(numbers: dict[str, int]) -> None:
    table = syscalls.class_table("x86_64")
    expected = {
        "pread64": ("pread", "none"), "read": ("read", "read"), "readv": ("readv", "readv"),
        "preadv2": ("preadv", "none"), "mmap": ("mmap", "none"), "mlockall": ("mlock", "none"),
        "fadvise64": ("fadvise", "none"), "openat": ("open", "openat"), "open": ("open", "open"),
        "execveat": ("exec", "none"), "statx": ("metadata", "none"), "close": ("close", "close"),
        "lseek": ("metadata", "none"), "sendto": ("none", "send"), "write": ("none", "send"),
        "recvmsg": ("none", "recvmsg"), "connect": ("none", "connect"),
        "renameat2": ("none", "renameat"), "unlink": ("none", "unlink"),
        "copy_file_range": ("copy_file_range", "none"), "splice": ("splice", "none"),
    }  # fmt: skip
    for name, (target, daemon) in expected.items():
        value = table[numbers[name]]
        classes = syscalls.TARGET_CLASSES[value & 0xFF], syscalls.DAEMON_CLASSES[value >> 8]
        assert classes == (target, daemon), name


def test_every_class_is_some_calls() -> None:
    values = syscalls.class_table("x86_64").values()
    assert {value & 0xFF for value in values} == set(range(len(syscalls.TARGET_CLASSES)))
    assert {value >> 8 for value in values} == set(range(len(syscalls.DAEMON_CLASSES)))


def test_calls_that_do_not_matter_are_not_in_the_table(numbers: dict[str, int]) -> None:
    table = syscalls.class_table("x86_64")
    assert not {numbers["getppid"], numbers["futex"], numbers["epoll_wait"]} & set(table)


def test_a_machine_without_a_table() -> None:
    with pytest.raises(KeyError):
        syscalls.class_table("pdp11")


def test_this_machine_is_the_default() -> None:
    assert syscalls.class_table() == syscalls.class_table("x86_64")
