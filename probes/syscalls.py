"""System calls that matter, with their class for a target and for a daemon.

A class says how the programs read the arguments. Numbers differ between machines (machines.py);
newer ones lack the older calls. Standard library only.
"""

from __future__ import annotations

import platform

from .machines import MACHINES

#: classes for target tasks; the programs compare their order
TARGET_CLASSES = (
    "none",
    "read", "pread", "readv", "preadv",  # reads
    "sendfile", "splice", "copy_file_range",  # kernel to kernel
    "mmap", "mlock",  # populate
    "readahead", "fadvise", "madvise",  # advise
    "open", "openat", "exec", "execveat",  # open: by a path, by a directory and a path
    "metadata", "stat", "statat", "close",  # by a descriptor, by a path, by a directory and a path
)  # fmt: skip
#: classes for daemon tasks
DAEMON_CLASSES = (
    "none", "send", "sendmsg", "writev", "read", "recv", "readv", "recvmsg", "connect", "close",
    "open", "openat", "rename", "renameat", "unlink", "unlinkat",
)  # fmt: skip

_TARGET = {
    "read": "read", "pread64": "pread", "readv": "readv", "preadv": "preadv", "preadv2": "preadv",
    "sendfile": "sendfile", "splice": "splice", "copy_file_range": "copy_file_range",
    "mmap": "mmap", "mlock": "mlock", "mlock2": "mlock", "mlockall": "mlock",
    "readahead": "readahead", "fadvise64": "fadvise", "madvise": "madvise",
    "open": "open", "openat": "openat", "openat2": "openat", "creat": "open",
    "execve": "exec", "execveat": "execveat",
    "fstat": "metadata", "fstatfs": "metadata", "getdents": "metadata", "getdents64": "metadata",
    "fgetxattr": "metadata", "flistxattr": "metadata", "fchdir": "metadata", "lseek": "metadata",
    "stat": "stat", "lstat": "stat", "statfs": "stat", "access": "stat", "readlink": "stat",
    "getxattr": "stat", "lgetxattr": "stat", "listxattr": "stat", "llistxattr": "stat",
    "chdir": "stat", "newfstatat": "statat", "statx": "statat", "faccessat": "statat",
    "faccessat2": "statat", "readlinkat": "statat", "close": "close",
}  # fmt: skip
_DAEMON = {
    "write": "send", "sendto": "send", "sendmsg": "sendmsg", "writev": "writev", "read": "read",
    "recvfrom": "recv", "readv": "readv", "recvmsg": "recvmsg", "connect": "connect",
    "close": "close", "open": "open", "openat": "openat", "rename": "rename",
    "renameat": "renameat", "renameat2": "renameat", "unlink": "unlink",
    "unlinkat": "unlinkat",
}  # fmt: skip


def class_table(machine: str = "") -> dict[int, int]:
    """System call number -> target class | daemon class << 8, as the programs look it up.

    Raises KeyError if the machine is not supported.
    """
    calls = MACHINES[machine or platform.machine()].calls
    return {
        calls[name]: TARGET_CLASSES.index(_TARGET.get(name, "none"))
        | DAEMON_CLASSES.index(_DAEMON.get(name, "none")) << 8
        for name in calls
        if name in _TARGET or name in _DAEMON
    }
