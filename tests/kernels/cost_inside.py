"""Measures in a guest what observing a page fault costs: ``python3 -m kernels.cost_inside``.

Runs under the system's Python. The guest's clock counts instructions (QEMU's ``-icount shift=0``:
one nanosecond each), so a time is a number of instructions of the whole machine: of the fault, of
the FUSE request that it waits for, and of the daemon that answers. What backends differ by is
the cost of observing.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import statistics
import sys
import time

from cvmprof.probes import events, syscalls
from cvmprof.probes.kernel import KernelFacts, running_kernel
from cvmprof.probes.programs import Options
from cvmprof.profiler.record import load
from cvmprof.profiler.record.attach import Attacher
from cvmprof.profiler.record.state import State

PAGE_BYTES = 4096
#: mov rcx, rdi; 1: dec rcx; jnz 1b; ret
_LOOP = bytes.fromhex("4889f948ffc975fbc3")
LOOPS = 1_000_000
NOTHING = "nothing"


def main(file: str, backend: str) -> None:
    """Prints the measurements of one backend as JSON; nothing is attached for `NOTHING`."""
    descriptor = os.open(file, os.O_RDONLY)
    pages = os.fstat(descriptor).st_size // PAGE_BYTES
    attached = _attach(running_kernel(), backend) if backend != NOTHING else None
    _faults(descriptor, pages)  # warms the caches of the daemon and of everything else
    faults = _faults(descriptor, pages)
    print(json.dumps({"fault": statistics.median(faults), "count": len(faults), "loop": _loop()}))
    del attached


def _attach(facts: KernelFacts, backend: str) -> Attacher:
    """All programs of the kernel's events, for this process as the target."""
    bcc = load.import_bcc()
    bpf = load.compile_programs(bcc, facts, Options(backend=backend))
    state = State(bcc, bpf)
    state.set_syscall_classes(syscalls.class_table(facts.machine))
    attacher = Attacher(bcc, bpf, facts, backend)
    attacher.attach_kernel_events()
    state.set_role(os.getpid(), events.ROLE_TARGET)
    os.close(os.open("/", os.O_RDONLY))  # the first system call makes the thread known
    return attacher


def _faults(descriptor: int, pages: int) -> list[int]:
    """Instructions of each first touch of a page that is not in the page cache."""
    mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    took = list[int]()
    for page in range(pages):
        began = time.monotonic_ns()
        mapped[page * PAGE_BYTES]
        took.append(time.monotonic_ns() - began)
    mapped.close()
    return took


def _loop() -> int:
    """What the clock says of a loop of 2 instructions, run LOOPS times."""
    code = mmap.mmap(-1, PAGE_BYTES, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(_LOOP)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    run = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(address)
    began = time.monotonic_ns()
    run(LOOPS)
    return time.monotonic_ns() - began


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
