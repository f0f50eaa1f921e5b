"""An automounter that mounts nothing: python automounter.py DIRECTORY, in a session of its own.

The kernel's Documentation/filesystems/autofs.rst describes what passes between the two. It prints a
line once it is mounted, and unmounts when its input ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys

#: linux/auto_fs.h: AUTOFS_IOC_FAIL, and struct autofs_v5_packet up to its token, and whole
FAIL = 0x9361
TOKEN = struct.Struct("iiI")
PACKET_BYTES = 304


def main(place: str) -> None:
    """Mounts, refuses until the input ends, unmounts."""
    libc = ctypes.CDLL(None, use_errno=True)
    packets, kernels_end = os.pipe()
    options = f"fd={kernels_end},pgrp={os.getpgrp()},minproto=5,maxproto=5,indirect"
    if libc.mount(b"auto", os.fsencode(place), b"autofs", 0, options.encode()):
        sys.exit(f"autofs cannot be mounted: {os.strerror(ctypes.get_errno())}")
    os.close(kernels_end)
    root = os.open(place, os.O_RDONLY)
    print("mounted", flush=True)
    with contextlib.suppress(BrokenPipeError):
        while packets in select.select([packets, 0], [], [])[0]:
            _, _, token = TOKEN.unpack_from(os.read(packets, PACKET_BYTES))
            fcntl.ioctl(root, FAIL, token)
    os.close(root)
    libc.umount2(os.fsencode(place), 2)


if __name__ == "__main__":
    main(sys.argv[1])
