"""The kinds of programs, by the families that they are attached as."""

from __future__ import annotations

from typing import Any

from cvmprof.probes import catalog


def program_kinds(bcc: Any) -> dict[str, int]:
    """What every program can be loaded as, whatever the kernel has: the arguments of fentry and
    fexit come as a raw tracepoint's, and their own type takes a kernel that can attach it.
    """
    return {
        catalog.RAW_TRACEPOINT: bcc.BPF.RAW_TRACEPOINT,
        catalog.SOFTWARE_EVENT: bcc.BPF.PERF_EVENT,
        catalog.KPROBE: bcc.BPF.KPROBE,
        catalog.KRETPROBE: bcc.BPF.KPROBE,
        catalog.FENTRY: bcc.BPF.RAW_TRACEPOINT,
        catalog.FEXIT: bcc.BPF.RAW_TRACEPOINT,
    }
