"""The licence that the programs declare to the kernel."""

from __future__ import annotations

from typing import Any

from cvmprof.probes.kernel import running_kernel
from cvmprof.probes.programs import Options
from cvmprof.profiler.record.load import compile_programs


def test_the_programs_are_dual_licensed(bcc: Any) -> None:
    bpf = compile_programs(bcc, running_kernel(), Options())
    assert bcc.lib.bpf_module_license(bpf.module) == b"Dual BSD/GPL"
    bpf.cleanup()
