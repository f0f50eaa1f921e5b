"""Do BPF programs load and do uprobes fire here? By the system calls alone, without bcc."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

from cvmprof.probes.machines import MACHINES

#: include/uapi/linux/bpf.h
_PROG_LOAD, _KPROBE = 5, 2
#: r0 = 1; exit: a program that returns 0 keeps the hit from being counted
_RETURN_1 = bytes.fromhex("b7000000010000009500000000000000")
#: include/uapi/linux/perf_event.h
_ATTRIBUTE_BYTES = 128
_ENABLE, _SET_BPF = 0x2400, 0x40042408
_UPROBE_TYPE = Path("/sys/bus/event_source/devices/uprobe/type")
_CALLS = 20_000


@dataclass(frozen=True)
class UprobeTrial:
    """``hits`` of ``calls`` of a function that was probed; what a hit costs, in ns."""

    calls: int
    hits: int
    hit_ns: float


def load_program() -> int:
    """Load a program that does nothing; returns its descriptor. Raises OSError."""
    code, licence = ctypes.create_string_buffer(_RETURN_1), ctypes.create_string_buffer(b"GPL")
    addresses = (ctypes.addressof(code), ctypes.addressof(licence))
    attributes = struct.pack("IIQQ", _KPROBE, len(_RETURN_1) // 8, *addresses).ljust(
        _ATTRIBUTE_BYTES, b"\0"
    )
    return _call("bpf", _PROG_LOAD, attributes, len(attributes))


def try_uprobe(program: int | None) -> UprobeTrial:
    """Probe a function of the C library in this process, and call it. Raises OSError."""
    function = ctypes.CDLL(None).labs
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    path, offset = _place(address)
    before_ns = _time_calls(function)
    with _probed(path, offset, program) as event:
        probed_ns = _time_calls(function)
        (hits,) = struct.unpack("Q", os.read(event, 8))
    return UprobeTrial(_CALLS, hits, (probed_ns - before_ns) / _CALLS)


def _time_calls(function: object) -> int:
    assert callable(function)
    began_ns = time.perf_counter_ns()
    for _ in range(_CALLS):
        function(1)
    return time.perf_counter_ns() - began_ns


def _place(address: int) -> tuple[str, int]:
    """The file that is mapped at an address, and the offset in it. Raises LookupError."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split()
        start, end = (int(part, 16) for part in span.split("-"))
        if start <= address < end and path:
            return path[0], address - start + int(offset, 16)
    raise LookupError(f"nothing is mapped at {address:#x}")


@contextmanager
def _probed(path: str, offset: int, program: int | None) -> Generator[int]:
    """A perf event that counts the hits of a place in a file, and runs a program at each."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    attributes = bytearray(_ATTRIBUTE_BYTES)
    struct.pack_into("II", attributes, 0, int(_UPROBE_TYPE.read_text()), _ATTRIBUTE_BYTES)
    struct.pack_into("QQ", attributes, 56, ctypes.addressof(name), offset)
    event = _call("perf_event_open", bytes(attributes), 0, -1, -1, 0)
    try:
        if program is not None:
            ioctl(event, _SET_BPF, program)
        ioctl(event, _ENABLE, 0)
        yield event
    finally:
        with suppress(OSError):
            os.close(event)


def _call(name: str, *arguments: int | bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _NUMBERS.get(name) or MACHINES[platform.machine()].calls[name]
    typed = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    result = int(libc.syscall(ctypes.c_long(number), *typed))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


#: arch/x86/entry/syscalls/syscall_64.tbl: machines with such a GPU are x86-64 here
_NUMBERS = {"perf_event_open": 298}
