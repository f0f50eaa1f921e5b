"""How much stack programs at uprobes use, as the kernel's verifier finds it."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable
from typing import Any

from cvmprof.profiler.record.bpf_call import bpf as bpf_call
from cvmprof.profiler.record.prog_load import PROG_LOAD, ProgLoad

#: include/linux/bpf_verifier.h: BPF_LOG_STATS
_LOG_STATISTICS = 4
#: the most that is less than BPF_PRIV_STACK_MIN_SIZE, 64, once rounded up to 16
MOST_STACK = 48


def too_much_stack(bcc: Any, bpf: Any, names: Iterable[str], attach_type: int) -> dict[str, int]:
    """The programs that use more, and how many bytes."""
    used = {name: _stack_bytes(bcc, bpf, name.encode(), attach_type) for name in names}
    return {name: size for name, size in used.items() if size > MOST_STACK}


def _stack_bytes(bcc: Any, bpf: Any, name: bytes, attach_type: int) -> int:
    log, license_text = ctypes.create_string_buffer(1 << 20), ctypes.create_string_buffer(b"GPL")
    request = ProgLoad(
        prog_type=bcc.BPF.KPROBE,
        expected_attach_type=attach_type,
        insns=bcc.lib.bpf_function_start(bpf.module, name),
        insn_cnt=bcc.lib.bpf_function_size(bpf.module, name) // 8,
        license=ctypes.addressof(license_text),
        log_level=_LOG_STATISTICS,
        log_size=len(log),
        log_buf=ctypes.addressof(log),
    )
    os.close(bpf_call(PROG_LOAD, request))
    found = re.search(rb"^stack depth (\d+)", log.value, re.MULTILINE)
    assert found is not None, log.value
    return int(found[1])
