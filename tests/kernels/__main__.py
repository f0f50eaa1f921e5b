"""The kernel matrix: every backend that a kernel has records the same workload on it.

Prints a table kernel x backend x check and ends with 1 where a check fails. A backend may be
refused only where the facts of its kernel say that it cannot serve. Run in tests/, by ``make
test-kernels``: ``python -m kernels [KERNEL…]``.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import cast

from cvmprof.probes import catalog
from cvmprof.probes.kernel import KernelFacts, restored
from cvmprof.runners.lab.build import client_program
from cvmprof.runners.lab.lab import Cutting, Lab, publish

from . import workload
from .checks import Outcome, outcome_of
from .guest import run_in_guest
from .images import CACHE, image_of
from .matrix import KERNELS, Kernel

_HERE = Path(__file__).resolve().parent
_COUNTED = ("reads", "hits", "faults", "requests", "fetches", "losses", "left")


def main(names: list[str]) -> int:
    """Runs the matrix; the exit status."""
    published, failed = _publish(), 0
    client_program()  # compiled here, found by the guests
    print(f"{'kernel':24}{'backend':12}" + "".join(f"{name:>10}" for name in _COUNTED) + "  all")
    for kernel in KERNELS:
        if not names or kernel.name in names:
            failed += _run(kernel, published)
    print("all passed" if not failed else f"{failed} failed")
    return min(failed, 1)


def _run(kernel: Kernel, published: Path) -> int:
    image, began = image_of(kernel), time.monotonic()
    command = [
        "env", f"PYTHONPATH={_HERE.parents[1] / 'typings'}", sys.executable,
        str(_HERE / "inside.py"), str(published), *catalog.BACKENDS,
    ]  # fmt: skip
    ended = run_in_guest(image, command, "conformance")
    took_s = time.monotonic() - began
    output = ended.shared / "output"
    if ended.status != 0:
        text = output.read_text() if output.exists() else ended.console
        print(f"{image.release:24}the guest failed with {ended.status}\n{text[-2000:]}")
        return 1
    facts = restored(json.loads((ended.shared / "facts.json").read_text()))
    outcomes = [outcome_of(ended.shared / backend) for backend in catalog.BACKENDS]
    failures = sum(_report(image.release, outcome, facts) for outcome in outcomes)
    recorded = [outcome.substance for outcome in outcomes if outcome.substance]
    agree = all(each == recorded[0] for each in recorded)
    what = "agree" if agree else "DIFFER"
    print(f"{image.release:24}the tables of {len(recorded)} backends {what} ({took_s:.0f} s)")
    return failures + (not agree)


def _report(release: str, outcome: Outcome, facts: KernelFacts) -> int:
    if outcome.refused is not None:
        expected = _cannot(outcome.backend, facts)
        word = "cannot" if expected else "FAILED"
        print(f"{release:24}{outcome.backend:12}{word}: {outcome.refused}")
        return 0 if expected else 1
    counts = {check.name: _count(check.found) for check in outcome.checks}
    failed = [check for check in outcome.checks if not check.passed]
    word = "ok" if not failed else "FAILED"
    line = "".join(f"{counts[name]:>10}" for name in _COUNTED)
    print(f"{release:24}{outcome.backend:12}{line}  {len(outcome.checks)} {word}")
    for check in failed:
        print(f"    {check.name}: {str(check.found)[:300]}, expected {str(check.expected)[:300]}")
    return len(failed)


def _cannot(backend: str, facts: KernelFacts) -> bool:
    """Whether the facts say that a backend lacks an event that it was asked for by name."""
    return any(
        catalog.is_forced(event, backend)
        and isinstance(catalog.resolve(event, facts, backend), catalog.Unsupported)
        for event in catalog.EVENTS
    )


def _count(found: object) -> int:
    return len(cast("list[object]", found)) if isinstance(found, list) else int(str(found))


def _publish() -> Path:
    """The lab's repository, made once: guests copy it."""
    root = CACHE / "lab"
    if not (root / "srv").exists():
        source, seeded = CACHE / "source", random.Random(20261122)
        source.mkdir(parents=True, exist_ok=True)
        for name, chunks in workload.CHUNKS.items():
            (source / name).write_bytes(seeded.randbytes(chunks * workload.CHUNK_BYTES))
        publish(Lab(root), source, Cutting(workload.CHUNK_BYTES, workload.CHUNK_BYTES))
    return root


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
