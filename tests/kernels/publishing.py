"""The repository of the conformance workload."""

from __future__ import annotations

import random
from pathlib import Path

from cvmprof.runners.lab.lab import Cutting, Lab, publish

from . import workload


def published(root: Path) -> Path:
    """Makes the lab's folder, with the workload's files published in it; guests copy it."""
    source, seeded = root.with_name("source"), random.Random(20261122)
    source.mkdir(parents=True)
    for name, chunks in workload.CHUNKS.items():
        (source / name).write_bytes(seeded.randbytes(chunks * workload.CHUNK_BYTES))
    publish(Lab(root), source, Cutting(workload.CHUNK_BYTES, workload.CHUNK_BYTES))
    return root
