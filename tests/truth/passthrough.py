"""A file system of one file that the kernel reads from another one: MOUNTPOINT BACKING.

Speaks the FUSE protocol of include/uapi/linux/fuse.h itself, since older libraries do not know
FUSE_PASSTHROUGH. Every READ that reaches it fails. Ends when unmounted. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import sys

NAME = b"model.bin"
_FILE_NODE = 2
_LOOKUP, _FORGET, _GETATTR, _OPEN, _RELEASE, _FLUSH, _INIT = 1, 2, 3, 14, 18, 25, 26
_INTERRUPT, _DESTROY, _BATCH_FORGET = 36, 38, 42
_IN, _OUT, _ATTRIBUTES = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ"), struct.Struct("<6Q10I")
_INIT_EXT, _PASSTHROUGH_HIGH = 1 << 30, 1 << 5  # FUSE_PASSTHROUGH is bit 37
_OPEN_PASSTHROUGH = 1 << 7
_BACKING_OPEN = 0x4010E501  # FUSE_DEV_IOC_BACKING_OPEN
_DAY_S = 86400


class Server:
    """Serves one backing file on an open /dev/fuse."""

    def __init__(self, device: int, backing: int) -> None:
        self._device, self._backing = device, backing

    def serve(self) -> None:
        """Answers until the file system is unmounted."""
        while True:
            try:
                request = os.read(self._device, 1 << 20)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                raise
            opcode, unique, node = struct.unpack_from("<IQQ", request, 4)
            answer = self._answer(opcode, node, request[_IN.size :])
            if answer is not None:
                self._send(unique, answer)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes | int | None:
        if opcode == _INIT:
            return self._init(body)
        if opcode == _LOOKUP:
            return self._lookup(body.partition(b"\0")[0])
        if opcode == _GETATTR:
            return struct.pack("<QII", _DAY_S, 0, 0) + self._attributes(node)
        if opcode == _OPEN:
            return self._open()
        if opcode in (_RELEASE, _FLUSH):
            return b""
        if opcode in (_FORGET, _BATCH_FORGET, _INTERRUPT, _DESTROY):
            return None
        return errno.ENOSYS

    def _send(self, unique: int, answer: bytes | int) -> None:
        error, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
        os.write(self._device, _OUT.pack(_OUT.size + len(body), error, unique) + body)

    @staticmethod
    def _init(body: bytes) -> bytes:
        major, minor, readahead = struct.unpack_from("<III", body)
        return struct.pack(
            "<IIIIHHIIHHII24x",
            major,
            min(minor, 40),
            readahead,
            _INIT_EXT,
            16,
            12,
            1 << 17,
            1,
            32,
            0,
            _PASSTHROUGH_HIGH,
            1,
        )

    def _lookup(self, name: bytes) -> bytes | int:
        if name != NAME:
            return errno.ENOENT
        entry = struct.pack("<QQQQII", _FILE_NODE, 0, _DAY_S, _DAY_S, 0, 0)
        return entry + self._attributes(_FILE_NODE)

    def _attributes(self, node: int) -> bytes:
        size = os.fstat(self._backing).st_size if node == _FILE_NODE else 0
        mode = 0o100444 if node == _FILE_NODE else 0o040555
        times = (0,) * 6
        return _ATTRIBUTES.pack(node, size, size // 512, *times, mode, 1, 0, 0, 0, 4096, 0)

    def _open(self) -> bytes:
        backing = bytearray(struct.pack("<iIQ", self._backing, 0, 0))  # mutable: the result is kept
        number = fcntl.ioctl(self._device, _BACKING_OPEN, backing)
        return struct.pack("<QIi", 0, _OPEN_PASSTHROUGH, number)


def main(mountpoint: str, backing: str) -> None:
    """Mounts, says so, and serves."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"passthrough", mountpoint.encode(), b"fuse", 6, options):  # NOSUID, NODEV
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    Server(device, os.open(backing, os.O_RDONLY)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
