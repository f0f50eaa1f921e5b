"""The licence that the programs declare to the kernel."""

from __future__ import annotations

from typing import Any

from cvmprof.probes.kernel import running_kernel
from cvmprof.probes.programs import Options
from cvmprof.profiler.record import load


def test_the_programs_are_dual_licensed(bcc: Any) -> None:
    bpf = load.load(bcc, running_kernel(), Options())
    assert bcc.lib.bpf_module_license(bpf.module) == b"Dual BSD/GPL"
    bpf.cleanup()
