"""The kernel matrix: every backend that a kernel has records the same workload on it.

Prints a table kernel x backend x check, then what failed, and ends with 1 where a check did. A
backend may be refused only where the facts of its kernel say that it cannot serve. Run in tests/,
by ``make test-kernels``: ``python -m kernels [KERNEL…] [bcc]``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import cast

from cvmprof.probes import catalog
from cvmprof.probes.diagnosis import refusal
from cvmprof.probes.kernel import restored
from cvmprof.runners.lab.build import client_program
from cvmprof.tests.gpu.stand_ins import compile_stand_ins

from .bcc_versions import check_bcc_versions
from .checks import Check, Outcome, agree, driver_calls, killed, outcome_of, preempted, skipped
from .guest import run_in_guest
from .images import CACHE, Image, image_of
from .matrix import KERNELS
from .publishing import published
from .skipped import POINTS
from .stage import compile_daemon, stage

#: guests that run at once
_AT_ONCE = 2
#: in the order of the columns
_COUNTED = (
    "reads", "hits", "faults", "aio", "uring", "requests", "fetches", "losses", "left",
)  # fmt: skip


def main(names: list[str]) -> int:
    """Runs the matrix; the exit status."""
    kernels = [kernel for kernel in KERNELS if not names or kernel.name in names]
    began = time.monotonic()
    images = [image_of(kernel) for kernel in kernels]
    where = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))  # in /tmp, guests would not see it
    published(where / "lab")
    stage(where / "stage")
    compile_stand_ins(where / "stand-ins")
    compile_daemon(where / "daemon")
    client_program()  # compiled here, found by the guests
    print(f"{'kernel':24}{'backend':12}" + "".join(f"{name:>9}" for name in _COUNTED) + "  all")
    jobs: list[Callable[[], list[str]]] = [
        partial(_run, where, image)
        for image in reversed(images)  # the longest first
    ]
    if not names or "bcc" in names:
        jobs.append(partial(check_bcc_versions, where))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        submitted = [pool.submit(job) for job in jobs]
        failed = [line for job in submitted for line in job.result()]
    took_s = time.monotonic() - began
    summary = f"{len(failed)} failed: see {where}" if failed else "all passed"
    print("\n".join([*failed, f"{summary} ({took_s:.0f} s)"]))
    if not failed:
        shutil.rmtree(where)
    return min(len(failed), 1)


def _run(where: Path, image: Image) -> list[str]:
    """Boots one kernel and prints what came of it, at once; the checks that failed."""
    began, left = time.monotonic(), where / image.kernel.name
    command = [
        "env",
        f"PYTHONPATH={where / 'stage'}",
        sys.executable,
        "-m",
        "kernels.inside",
        str(where / "lab"),
        str(where / "stand-ins"),
        str(where / "daemon"),
    ]
    try:
        ended = run_in_guest(image, command, left)
        console, status = ended.console, ended.status
    except subprocess.TimeoutExpired as error:
        console, status = str(error), -1
    took_s = time.monotonic() - began
    if status != 0:
        output = left / "output"
        text = output.read_text() if output.exists() else console
        print(f"{image.release:24}FAILED after {took_s:.0f} s", flush=True)
        return [f"{image.release}: the guest failed with {status}\n{text[-2000:]}"]
    shutil.copy(left / "facts.json", image.root)  # for tests/probes/facts
    lines, failed = _report(image.release, left)
    print("\n".join([*lines, f"{image.release:24}took {took_s:.0f} s"]), flush=True)
    return failed


def _report(release: str, left: Path) -> tuple[list[str], list[str]]:
    """The lines of one kernel's table, and the checks that failed."""
    facts = restored(json.loads((left / "facts.json").read_text()))
    outcomes = [outcome_of(left / backend) for backend in catalog.BACKENDS]
    lines, failed = list[str](), list[str]()
    for outcome in outcomes:
        checks = outcome.checks
        if outcome.refused is not None:
            cannot = refusal(outcome.backend, facts) is not None
            checks = (Check("refused by the facts", cannot, True),)
        failed += [f"{release}, {outcome.backend}: {each}" for each in _failed(checks)]
        lines.append(f"{release:24}{outcome.backend:12}{_line(outcome)}")
    recorded = [outcome for outcome in outcomes if outcome.checks]
    verdicts = {
        f"the tables of {len(recorded)} backends agree": agree(recorded),
        "calls of threads that preempt one another": preempted(left / "preempted" / "result.json"),
        "calls of the CUDA driver are told": driver_calls(left / "driver" / "result.json"),
        "nothing is left of a recorder that was killed": killed(left / "killed.json"),
    }
    if facts.preemptible_tracepoints:
        alone = (check for point in POINTS for check in skipped(left / point / "result.json"))
        verdicts["reads are told without a program on their system call"] = tuple(alone)
    for text, checks in verdicts.items():
        failed += [f"{release}, {text}: {each}" for each in _failed(checks)]
        lines.append(f"{release:24}{text}: {'FAILED' if _failed(checks) else 'ok'}")
    return lines, failed


def _failed(checks: tuple[Check, ...]) -> list[Check]:
    return [check for check in checks if not check.passed]


def _line(outcome: Outcome) -> str:
    if outcome.refused is not None:
        return f"cannot: {outcome.refused}"
    if outcome.same_as is not None:
        return f"attaches the same as {outcome.same_as}"
    counts = {check.name: _count(check.found) for check in outcome.checks}
    word = "FAILED" if _failed(outcome.checks) else "ok"
    line = "".join(f"{counts[name]:>9}" for name in _COUNTED)
    return f"{line}  {len(outcome.checks)} {word}"


def _count(found: object) -> int:
    return len(cast("list[object]", found)) if isinstance(found, list) else int(str(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
