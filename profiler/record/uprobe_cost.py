"""What a uprobe costs on this machine, measured on a function of this process."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from dataclasses import dataclass
from typing import Callable

from ...probes.catalog import DRIVER_FUNCTIONS, UPROBE_MULTI
from ...probes.machines import Machine
from ...probes.programs import GPU_LAUNCH
from .driver_probes import LAUNCH
from .state import State
from .uprobe_multi import Link, Place
from .uprobes import Uprobes

_CALLS, _ROUNDS = 50, 7
_NO_ADDRESS = ctypes.c_void_p(-1).value
#: what a hit is taken to cost where it cannot be measured
_ASSUMED_NS = 3_000


@dataclass(frozen=True)
class Cost:
    """Nanoseconds that a hit takes; if that is assumed, the reason why it was not measured."""

    hit_ns: int
    reason: str | None = None


def measured(uprobes: Uprobes, machine: Machine, state: State) -> Cost:
    """What a launch that is counted costs. Nothing else may be attached yet."""
    try:
        return Cost(_hit_ns(uprobes, machine, state))
    except OSError as error:
        return Cost(_ASSUMED_NS, str(error))


def _hit_ns(uprobes: Uprobes, machine: Machine, state: State) -> int:
    """The least of several rounds in which this process is traced, less what the calls themselves
    take. Raises OSError.

    The probe stays, on a file of this process that nothing calls any more: to take it off would
    take as long as the kernel needs to be sure that no program runs.
    """
    file = os.memfd_create("cvmprof", os.MFD_CLOEXEC)
    os.write(file, machine.empty_function)
    function = _mapped_function(file)
    without_ns, path = _least_ns(function), f"/proc/self/fd/{file}"
    launch = DRIVER_FUNCTIONS[0]
    if uprobes.family == UPROBE_MULTI:
        uprobes.attach_all(GPU_LAUNCH, Link(path, (Place(0, launch.cookie),), returns=False))
    else:
        uprobes.attach_one(launch.entry, path, 0, returns=False)
    with state.traced_for_a_moment(os.getpid()):
        with_ns = _least_ns(function)
        hits = next(row["hits"] for row in state.hits() if row["event"] == LAUNCH)
    if not hits:
        raise OSError("the program for launches did not run")
    return max(0, with_ns - without_ns)


def _mapped_function(file: int) -> Callable[[], None]:
    """The code in a file as a function. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    protection = mmap.PROT_READ | mmap.PROT_EXEC
    address = libc.mmap(None, mmap.PAGESIZE, protection, mmap.MAP_PRIVATE, file, 0)
    if address == _NO_ADDRESS:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    function: Callable[[], None] = ctypes.CFUNCTYPE(None)(address)
    return function


def _least_ns(function: Callable[[], None]) -> int:
    rounds = list[int]()
    for _ in range(_ROUNDS):
        begun_ns = time.perf_counter_ns()
        for _ in range(_CALLS):
            function()
        rounds.append((time.perf_counter_ns() - begun_ns) // _CALLS)
    return min(rounds)
