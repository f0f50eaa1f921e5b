"""What a recording of the conformance workload must say, whatever the kernel and the backend.

The expected numbers are the workload's own and the server's; the tables are made here from the
spool that the guest left.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import polars as pl

from cvmprof import open_run
from cvmprof.profiler.finalise import finalise
from cvmprof.profiler.run.opened import Run

from . import killer, workload
from .preempted import CALLED, READS, THREADS
from .skipped import OFFSETS

_READ = 15


@dataclass(frozen=True)
class Check:
    """One expectation: what was counted and what had to be."""

    name: str
    found: object
    expected: object

    @property
    def passed(self) -> bool:
        """Whether they are the same."""
        return self.found == self.expected

    def __str__(self) -> str:
        return f"{self.name}: {str(self.found)[:300]}, expected {str(self.expected)[:300]}"


@dataclass(frozen=True)
class Outcome:
    """One backend on one kernel: its checks, and what backends must agree on; or why it was not
    recorded: refused by the kernel's facts, or attaching the same as another.
    """

    backend: str
    refused: str | None = None
    same_as: str | None = None
    checks: tuple[Check, ...] = ()
    substance: Counter[tuple[Any, ...]] = field(default_factory=Counter[tuple[Any, ...]])


def outcome_of(directory: Path) -> Outcome:
    """Makes the tables of what a guest left, and checks them."""
    result = json.loads((directory / "result.json").read_text())
    backend = str(result["backend"])
    if "status" not in result:
        return Outcome(backend, result.get("refused"), result.get("same_as"))
    finalise(directory / "run.cvmprof")
    run = open_run(directory / "run.cvmprof")
    checks = (
        Check("status", result["status"], 0),
        *_operations(run),
        *_requests(run),
        *_fetches(run, result["served"]),
        Check("losses", result["losses"], []),
        Check("left", result["programs_left"], 0),
    )
    return Outcome(backend, checks=checks, substance=_substance(run))


def agree(outcomes: list[Outcome]) -> tuple[Check, ...]:
    """Checks that each backend saw what the first did, and nothing else."""
    return tuple(
        Check(f"{one.backend} saw, {other.backend} did not", [*one.substance - other.substance], [])
        for each in outcomes[1:]
        for one, other in permutations((outcomes[0], each))
    )


def killed(path: Path) -> tuple[Check, ...]:
    """Checks what came of a recorder that was killed."""
    result = json.loads(path.read_text())
    return (
        Check("attached", result["attached"] > 0, True),
        Check("left", result["left"], 0),
        Check("status", result["status"], killer.STATUS),
        Check("trouble", "incomplete" in str(result["trouble"]), True),
    )


def skipped(path: Path) -> tuple[Check, ...]:
    """Checks what was recorded of reads whose system call's entry, or end, no program saw."""
    result = json.loads(path.read_text())
    expected = [[offset, size, size] for size, offset in enumerate(OFFSETS, 1)]
    # an end that no program saw is counted, unless the file system tells it
    allowed = {"unmatched start"} if path.parent.name == "sys_exit" else set[str]()
    counted = {each["cause"] for each in result["losses"]}
    return (
        Check(f"reads without {path.parent.name}", result["reads"], expected),
        Check(f"losses without {path.parent.name}", sorted(counted - allowed), []),
    )


def driver_calls(path: Path) -> tuple[Check, ...]:
    """Checks what was recorded of the calls that a stand-in of the driver logged."""
    result = json.loads(path.read_text())
    return (
        Check("calls of the driver", result["recorded"], result["logged"]),
        Check("launches", result["recorded"].get("cuLaunchKernel"), 101),
        Check("losses of the driver", result["losses"], []),
    )


def preempted(path: Path) -> tuple[Check, ...]:
    """Checks what was recorded of a client whose threads preempt one another."""
    result = json.loads(path.read_text())
    read, fetch, opened, download = CALLED
    odd = sum(1 for number in range(1, READS + 1) if number % 251 % 2)
    each = {read: READS, f"{read} {fetch}": READS, f"{fetch} {opened}": READS}
    each[f"{fetch} {download}"] = odd
    return (
        Check("calls of each thread", list(result["calls"].values()), [each] * THREADS),
        Check("losses of its calls", result["losses"], []),
    )


def _operations(run: Run) -> tuple[Check, ...]:
    reads = _operations_on(run, "read.bin", "read")
    faults = _operations_on(run, "mapped.bin", "fault")
    hits = _on(run, run.tables["hits"], "read.bin")
    page = workload.PAGE_BYTES
    return (
        Check(
            "reads",
            sorted(reads["offset_bytes"].to_list()),
            [page * at for at in workload.pages_of("read.bin", workload.COLD_READS)],
        ),
        Check("read bytes", reads["result"].sum(), page * workload.COLD_READS),
        Check("hits", hits["count"].sum(), workload.WARM_READS),
        Check(
            "faults",
            sorted(faults["offset_bytes"].to_list()),
            [page * at for at in workload.pages_of("mapped.bin", workload.FAULTS)],
        ),
        Check("faults ended", faults["end_ns"].null_count(), 0),
        *(_asynchronous(run, name) for name in workload.ASYNCHRONOUS),
    )


def _asynchronous(run: Run, name: str) -> Check:
    """io_uring first asks for what is there, which queues the request and gives nothing; a worker
    then waits for it, or comes when the page is there already: a hit.
    """
    whole = _operations_on(run, name, "read").filter(result=workload.PAGE_BYTES)
    there = _on(run, run.tables["hits"], name)
    found = whole.height + int(there["count"].sum())
    return Check(name.split(".")[0], found, workload.ASYNCHRONOUS[name])


def _requests(run: Run) -> tuple[Check, ...]:
    reads = run.tables["fuse_requests"].filter(opcode=_READ)
    single = workload.COLD_READS + workload.FAULTS
    ahead = workload.CHUNKS["ahead.bin"] * workload.CHUNK_BYTES
    pages = single + sum(workload.ASYNCHRONOUS.values())
    ours = pl.concat(
        [_operations_on(run, "read.bin", "read"), _operations_on(run, "mapped.bin", "fault")]
    )
    by_operation = reads.join(ours.select("op_id"), on="op_id", how="semi")
    return (
        Check("requests", by_operation.height, single),
        Check("one each", by_operation["op_id"].n_unique(), single),
        Check("requested", reads["size_bytes"].sum(), pages * workload.PAGE_BYTES + ahead),
        Check("requests ended", reads["end_ns"].null_count(), 0),
        Check("unique", reads["unique"].n_unique(), reads.height),
        Check("served", reads["served_ns"].null_count(), 0),
    )


def _fetches(run: Run, served: list[str]) -> tuple[Check, ...]:
    names = [path.split("/data/")[1].replace("/", "")[:40] for path in served if "/data/" in path]
    fetched = run.tables["fetches"].filter(object_kind="chunk", outcome="downloaded")
    return (
        Check("served objects", len(names), workload.FETCHES),
        Check("fetches", sorted(fetched["object_hash"].to_list()), sorted(names)),
        Check("fetches named", fetched["file_id"].null_count(), 0),
        Check("fetches on the wire", fetched["download_id"].null_count(), 0),
    )


def _substance(run: Run) -> Counter[tuple[Any, ...]]:
    """What was seen, without times and numbers that differ from run to run.

    Of the requests only what was read: whether attributes are asked for once more under a read
    is decided by the clock, since the kernel keeps them for a minute.
    """
    columns = ("path", "kind", "offset_bytes", "size_bytes", "result")
    operations = run.tables["operations"].join(run.tables["files"], on="file_id")
    single = operations.filter(
        pl.col("path").str.ends_with("read.bin") | pl.col("path").str.ends_with("mapped.bin")
    )
    files = single.filter(pl.col("kind").is_in(["read", "fault"]))
    reads = run.tables["fuse_requests"].filter(opcode=_READ)
    requests = files.select("op_id", "path").join(reads, on="op_id")
    asked = requests.select(pl.lit("READ"), "path", "offset_bytes", "size_bytes", "error")
    fetches = run.tables["fetches"].filter(object_kind="chunk").select("object_hash")
    return Counter([*files.select(columns).rows(), *asked.rows(), *fetches.rows()])


def _operations_on(run: Run, name: str, kind: str) -> pl.DataFrame:
    return _on(run, run.tables["operations"].filter(kind=kind), name)


def _on(run: Run, frame: pl.DataFrame, name: str) -> pl.DataFrame:
    files = run.tables["files"].filter(pl.col("path").str.ends_with("/" + name)).select("file_id")
    return frame.join(files, on="file_id", how="semi")
