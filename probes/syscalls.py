"""System calls that matter, and what each means for a target and for a daemon.

A class says how the programs read the arguments. Numbers are one architecture's own table
(arch/x86/entry/syscalls/syscall_64.tbl); architectures that never had the older calls lack those
rows. Standard library only.
"""

from __future__ import annotations

import platform

#: classes for target tasks, in the order that the programs compare them
TARGET_CLASSES = (
    "none",
    "read", "pread", "readv", "preadv",  # reads
    "sendfile", "splice", "copy_file_range",  # kernel to kernel
    "mmap", "mlock",  # populate
    "readahead", "fadvise", "madvise",  # advise
    "open", "exec",  # open
    "metadata", "close",
)  # fmt: skip
#: classes for daemon tasks
DAEMON_CLASSES = (
    "none", "send", "sendmsg", "writev", "read", "recv", "readv", "recvmsg", "connect", "close",
    "open", "openat", "rename", "renameat", "unlink",
)  # fmt: skip

_TARGET = {
    "read": "read", "pread64": "pread", "readv": "readv", "preadv": "preadv", "preadv2": "preadv",
    "sendfile": "sendfile", "splice": "splice", "copy_file_range": "copy_file_range",
    "mmap": "mmap", "mlock": "mlock", "mlock2": "mlock", "mlockall": "mlock",
    "readahead": "readahead", "fadvise64": "fadvise", "madvise": "madvise",
    "open": "open", "openat": "open", "openat2": "open", "creat": "open",
    "execve": "exec", "execveat": "exec",
    "stat": "metadata", "lstat": "metadata", "fstat": "metadata", "newfstatat": "metadata",
    "statx": "metadata", "statfs": "metadata", "fstatfs": "metadata", "access": "metadata",
    "faccessat": "metadata", "faccessat2": "metadata", "readlink": "metadata",
    "readlinkat": "metadata", "getdents": "metadata", "getdents64": "metadata",
    "getxattr": "metadata", "lgetxattr": "metadata", "fgetxattr": "metadata",
    "listxattr": "metadata", "llistxattr": "metadata", "flistxattr": "metadata",
    "chdir": "metadata", "fchdir": "metadata", "lseek": "metadata", "close": "close",
}  # fmt: skip
_DAEMON = {
    "write": "send", "sendto": "send", "sendmsg": "sendmsg", "writev": "writev", "read": "read",
    "recvfrom": "recv", "readv": "readv", "recvmsg": "recvmsg", "connect": "connect",
    "close": "close", "open": "open", "openat": "openat", "rename": "rename",
    "renameat": "renameat", "renameat2": "renameat", "unlink": "unlink",
}  # fmt: skip

_X86_64 = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "lseek": 8,
    "mmap": 9, "pread64": 17, "readv": 19, "writev": 20, "access": 21, "madvise": 28,
    "sendfile": 40, "connect": 42, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47,
    "execve": 59, "getdents": 78, "chdir": 80, "fchdir": 81, "rename": 82, "creat": 85,
    "unlink": 87, "readlink": 89, "statfs": 137, "fstatfs": 138, "mlock": 149, "mlockall": 151,
    "readahead": 187, "getxattr": 191, "lgetxattr": 192, "fgetxattr": 193, "listxattr": 194,
    "llistxattr": 195, "flistxattr": 196, "getdents64": 217, "fadvise64": 221, "openat": 257,
    "newfstatat": 262, "renameat": 264, "readlinkat": 267, "faccessat": 269, "splice": 275,
    "preadv": 295, "renameat2": 316, "execveat": 322, "mlock2": 325, "copy_file_range": 326,
    "preadv2": 327, "statx": 332, "openat2": 437, "faccessat2": 439,
}  # fmt: skip

NUMBERS = {"x86_64": _X86_64}

#: pt_regs members that hold the arguments of a system call
ARGUMENT_REGISTERS = {"x86_64": ("di", "si", "dx", "r10", "r8", "r9")}


def class_table(machine: str = "") -> dict[int, int]:
    """System call number -> target class | daemon class << 8, as the programs look it up.

    Raises KeyError on an architecture without a table.
    """
    numbers = NUMBERS[machine or platform.machine()]
    table = dict.fromkeys(numbers.values(), 0)
    for name, number in numbers.items():
        target = TARGET_CLASSES.index(_TARGET.get(name, "none"))
        daemon = DAEMON_CLASSES.index(_DAEMON.get(name, "none"))
        table[number] = target | daemon << 8
    return table
