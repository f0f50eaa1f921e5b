"""Samples GPUs until so many samples came, and prints what became of it as JSON.

A process of its own, since a library cannot be exchanged in one: ``python -m
cvmprof.tests.gpu.sampling COUNT PATIENCE_S``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

from cvmprof.probes.events import GPU_MEASURES, GPU_SAMPLE
from cvmprof.profiler.run.decode import plain_frame
from cvmprof.profiler.run.journal import parse_journal
from cvmprof.profiler.session import gpu_sampler


def _known(sample: dict[str, Any]) -> dict[str, Any]:
    """The device's number and what it reported."""
    told = [name for bit, name in enumerate(GPU_MEASURES) if sample["known"] >> bit & 1]
    return {"device": sample["device"], **{name: sample[name] for name in told}}


def main(count: int, patience_s: float) -> None:
    """Print the samples, the rows of `probes`, and the journal's lines of GPUs."""
    gpu_sampler.PATIENCE_S = patience_s
    read, write = os.pipe()
    with tempfile.TemporaryFile(buffering=0) as journal:
        sampler = gpu_sampler.GpuSampler(write, journal.fileno())
        sampler.start()
        data = b""
        while len(data) < count * GPU_SAMPLE.size:
            data += os.read(read, GPU_SAMPLE.size)
        sampled = sampler.stop()
        os.close(write)
        with open(read, "rb") as rest:
            samples = plain_frame(data + rest.read(), GPU_SAMPLE).to_dicts()
        journal.seek(0)
        devices = parse_journal(journal.read()).of("gpu")
    result = {
        "samples": [_known(each) for each in samples],
        "times_ns": [each["time_ns"] for each in samples],
        "count": sampled.samples,
        "cpu_ns": sampled.cpu_ns,
        "rows": sampled.rows,
        "journal": [{key: line[key] for key in ("driver", "devices")} for line in devices],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
