"""FUSE as the programs and the tables need it: opcodes, the superblock's magic, device numbers.

include/uapi/linux/fuse.h, include/uapi/linux/magic.h, include/linux/kdev_t.h. Standard library
only.
"""

from __future__ import annotations

SUPER_MAGIC = 0x65735546

#: enum fuse_opcode, those that a read-only client is sent
OPCODES = {
    1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 5: "READLINK", 14: "OPEN", 15: "READ", 17: "STATFS",
    18: "RELEASE", 20: "FSYNC", 22: "GETXATTR", 23: "LISTXATTR", 25: "FLUSH", 26: "INIT",
    27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", 36: "INTERRUPT", 38: "DESTROY",
    42: "BATCH_FORGET", 44: "READDIRPLUS", 46: "LSEEK", 52: "STATX",
}  # fmt: skip
_NUMBERS = {name: number for number, name in OPCODES.items()}
OPEN, READ, INIT, DESTROY = (_NUMBERS[name] for name in ("OPEN", "READ", "INIT", "DESTROY"))
LOOKUP = _NUMBERS["LOOKUP"]
#: requests for names, attributes and the opening of files
NAME_OPCODES = tuple(
    _NUMBERS[name]
    for name in (
        "LOOKUP", "GETATTR", "READLINK", "OPEN", "STATFS", "GETXATTR", "LISTXATTR", "OPENDIR",
        "READDIR", "READDIRPLUS", "STATX",
    )
)  # fmt: skip
#: requests on an open file or directory, which carry its handle
HANDLE_OPCODES = (
    READ, *(_NUMBERS[name] for name in ("RELEASE", "FSYNC", "FLUSH", "RELEASEDIR")),
)  # fmt: skip

#: bytes of struct fuse_in_header, which begins every request that a daemon reads from /dev/fuse
HEADER_BYTES = 40
#: above every opcode, CUSE_INIT (4096) included: a larger number is no opcode
OPCODE_LIMIT = 4200


def device_text(dev: int) -> str:
    """``major:minor`` of a device number as the kernel encodes it (MKDEV)."""
    return f"{dev >> 20}:{dev & 0xFFFFF}"


def device_number(text: str) -> int:
    """The kernel's encoding of ``major:minor``."""
    major, _, minor = text.partition(":")
    return int(major) << 20 | int(minor)


def c_definitions() -> str:
    """The same numbers for the programs: FUSE_READ and so on."""
    numbers = {
        "SUPER_MAGIC": SUPER_MAGIC,
        "HEADER_BYTES": HEADER_BYTES,
        "OPCODE_LIMIT": OPCODE_LIMIT,
        **_NUMBERS,
    }
    return "".join(f"#define FUSE_{name} {value}\n" for name, value in numbers.items())
