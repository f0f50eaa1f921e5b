"""Reads a file by requests that are no system call of their own: ``io_uring`` or AIO (libaio).

``python asynchronous.py WAY PATH OFFSET…`` hands in all reads of a page at once, or one by one,
waits for them, and prints what each gave. A way is ``uring``, ``single``, ``aio``, or ``polled``,
which looks for what is done by AIO a hundred times a second; with ``direct`` before it the file is
opened so. Standard library only; the numbers are those of x86-64.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys

SIZE = 4096
_IO_SETUP, _IO_GETEVENTS, _IO_SUBMIT, _URING_SETUP, _URING_ENTER = 206, 208, 209, 425, 426
_READ, _WAIT, _ENTRIES = 22, 1, 16
_COMPLETIONS, _SUBMISSIONS = 0x8000000, 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def aio(descriptor: int, buffer: int, offsets: list[int], wait_ns: int | None = None) -> list[int]:
    """By io_submit(2): linux/aio_abi.h. ``wait_ns``: how long to wait at a time; None: no limit."""
    context, count = ctypes.c_ulong(0), len(offsets)
    _call(_IO_SETUP, count, ctypes.byref(context))
    blocks = [
        ctypes.create_string_buffer(
            struct.pack("<QQHhIQQq", n, 0, 0, 0, descriptor, buffer + n * SIZE, SIZE, at), 64
        )
        for n, at in enumerate(offsets)
    ]
    pointers = (ctypes.c_void_p * count)(*map(ctypes.addressof, blocks))
    assert _call(_IO_SUBMIT, context, ctypes.c_long(count), pointers) == count
    events = ctypes.create_string_buffer(32 * count)
    limit = None if wait_ns is None else ctypes.create_string_buffer(struct.pack("<qq", 0, wait_ns))
    done = 0
    while done < count:
        wanted, at = ctypes.c_long(count - done), ctypes.byref(events, 32 * done)
        done += _call(_IO_GETEVENTS, context, wanted, wanted, at, limit)
    return [struct.unpack_from("<q", events, 32 * n + 16)[0] for n in range(count)]


def polled(descriptor: int, buffer: int, offsets: list[int]) -> list[int]:
    """By io_submit(2), asked every 10 ms."""
    return aio(descriptor, buffer, offsets, 10_000_000)


def uring(descriptor: int, buffer: int, offsets: list[int]) -> list[int]:
    """By io_uring_enter(2): linux/io_uring.h."""
    parameters = ctypes.create_string_buffer(120)
    ring = _call(_URING_SETUP, _ENTRIES, parameters)
    _, tail, _, _, _, _, array = struct.unpack_from("<7I", parameters, 40)
    _, filled, _, _, _, results = struct.unpack_from("<6I", parameters, 80)
    queue = mmap.mmap(ring, array + 4 * _ENTRIES)
    done = mmap.mmap(ring, results + 32 * _ENTRIES, offset=_COMPLETIONS)
    entries = mmap.mmap(ring, 64 * _ENTRIES, offset=_SUBMISSIONS)
    for n, at in enumerate(offsets):
        where = (at, buffer + n * SIZE, SIZE)
        struct.pack_into("<BBHiQQIIQ", entries, 64 * n, _READ, 0, 0, descriptor, *where, 0, n)
        struct.pack_into("<I", queue, array + 4 * n, n)
    struct.pack_into("<I", queue, tail, len(offsets))
    count = len(offsets)
    assert _call(_URING_ENTER, ring, count, count, _WAIT, None, ctypes.c_size_t(0)) == count
    assert struct.unpack_from("<I", done, filled)[0] == count
    return [struct.unpack_from("<i", done, results + 16 * n + 8)[0] for n in range(count)]


def single(descriptor: int, buffer: int, offsets: list[int]) -> list[int]:
    """By io_uring, each when the one before is done."""
    return [result for at in offsets for result in uring(descriptor, buffer, [at])]


def main() -> None:
    """Reads."""
    way, path, *offsets = sys.argv[1:]
    direct, name = "direct" in way.split(), way.split()[-1]
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # each page is one request
    pages = mmap.mmap(-1, SIZE * len(offsets))
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    read = {"aio": aio, "polled": polled, "uring": uring, "single": single}[name]
    print(*read(descriptor, address, [int(offset) for offset in offsets]))


if __name__ == "__main__":
    main()
