"""The supported machines: everything that differs between architectures is here.

Named as by uname(2). All are 64-bit and little-endian. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Machine:
    """One architecture.

    ``arch``: its name in the kernel's sources; bcc reads it from the variable ``ARCH``.
    ``registers``: the members of its ``struct pt_regs`` in order, eight bytes each, up to the last
    one needed. Among them ``call_number`` and ``call_arguments`` hold a system call's number and
    arguments, at its entry and at its exit; ``arguments`` a function's first arguments at its
    entry, and ``result`` its return value; ``return_address_bytes`` is how much of the stack its
    call has taken then. ``empty_function`` is code of a function that does nothing, and begins as
    compiled functions do. A task runs 32-bit code, with other system call numbers,
    if ``compat_register``, or without one its ``thread_info.status``, has a bit of ``compat_mask``.
    ``calls``: the numbers of the system calls that matter.
    """

    arch: str
    registers: tuple[str, ...]
    call_number: str
    call_arguments: tuple[str, ...]
    arguments: tuple[str, ...]
    result: str
    return_address_bytes: int
    empty_function: bytes
    compat_mask: int
    compat_register: str | None = None
    calls: dict[str, int] = field(default_factory=dict[str, int])

    def offset(self, register: str) -> int:
        """A register's offset in ``struct pt_regs``. Raises ValueError if there is none."""
        return 8 * self.registers.index(register)


#: arch/x86/include/uapi/asm/ptrace.h; TS_COMPAT of arch/x86/include/asm/thread_info.h;
#: arch/x86/entry/syscalls/syscall_64.tbl
_X86_64 = Machine(
    arch="x86",
    registers=(
        "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si",
        "di", "orig_ax", "ip", "cs", "flags", "sp", "ss",
    ),
    call_number="orig_ax",
    call_arguments=("di", "si", "dx", "r10", "r8", "r9"),
    arguments=("di", "si", "dx", "cx"),
    result="ax",
    return_address_bytes=8,
    empty_function=bytes.fromhex("f30f1efa c3"),  # endbr64; ret
    compat_mask=2,
    calls={
        "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6,
        "lseek": 8, "mmap": 9, "pread64": 17, "readv": 19, "writev": 20, "access": 21,
        "madvise": 28, "sendfile": 40, "connect": 42, "sendto": 44, "recvfrom": 45,
        "sendmsg": 46, "recvmsg": 47, "execve": 59, "getdents": 78, "chdir": 80, "fchdir": 81,
        "rename": 82, "creat": 85, "unlink": 87, "readlink": 89, "statfs": 137, "fstatfs": 138,
        "mlock": 149, "mlockall": 151, "readahead": 187, "getxattr": 191, "lgetxattr": 192,
        "fgetxattr": 193, "listxattr": 194, "llistxattr": 195, "flistxattr": 196,
        "getdents64": 217, "fadvise64": 221, "openat": 257, "newfstatat": 262, "unlinkat": 263,
        "renameat": 264, "readlinkat": 267, "faccessat": 269, "splice": 275, "preadv": 295,
        "renameat2": 316, "bpf": 321, "execveat": 322, "mlock2": 325, "copy_file_range": 326,
        "preadv2": 327, "statx": 332, "openat2": 437, "faccessat2": 439,
    },
)  # fmt: skip

#: struct user_pt_regs and PSR_MODE32_BIT of arch/arm64/include/uapi/asm/ptrace.h, and orig_x0 of
#: arch/arm64/include/asm/ptrace.h: at a system call's exit x0 holds its result, so the kernel's
#: syscall_get_arguments() also takes the first argument from orig_x0. The numbers are those of
#: include/uapi/asm-generic/unistd.h, which lacks the calls that openat and the like replaced.
_AARCH64 = Machine(
    arch="arm64",
    registers=(*(f"x{number}" for number in range(31)), "sp", "pc", "pstate", "orig_x0"),
    call_number="x8",
    call_arguments=("orig_x0", "x1", "x2", "x3", "x4", "x5"),
    arguments=("x0", "x1", "x2", "x3"),
    result="x0",
    return_address_bytes=0,
    empty_function=bytes.fromhex("5f2403d5 c0035fd6"),  # bti c; ret
    compat_mask=0x10,
    compat_register="pstate",
    calls={
        "getxattr": 8, "lgetxattr": 9, "fgetxattr": 10, "listxattr": 11, "llistxattr": 12,
        "flistxattr": 13, "unlinkat": 35, "renameat": 38, "statfs": 43, "fstatfs": 44,
        "faccessat": 48, "chdir": 49, "fchdir": 50, "openat": 56, "close": 57, "getdents64": 61,
        "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67,
        "preadv": 69, "sendfile": 71, "splice": 76, "readlinkat": 78, "newfstatat": 79,
        "fstat": 80, "connect": 203, "sendto": 206, "recvfrom": 207, "sendmsg": 211,
        "recvmsg": 212, "readahead": 213, "execve": 221, "mmap": 222, "fadvise64": 223,
        "mlock": 228, "mlockall": 230, "madvise": 233, "renameat2": 276, "bpf": 280,
        "execveat": 281, "mlock2": 284, "copy_file_range": 285, "preadv2": 286, "statx": 291,
        "openat2": 437, "faccessat2": 439,
    },
)  # fmt: skip

MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}
