"""Reads that no system call shows: their requests, their waits and, where the kernel lets
`fuse_file_read_iter` be observed, the operations themselves.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cvmprof.profiler.run.opened import Run

from . import asynchronous
from .conftest import CHUNK_BYTES, LATENCY_S, Trace, Truth, operations_on, reads_of

PROGRAM = Path(asynchronous.__file__).read_text(encoding="utf-8")
#: a page of each of seven chunks
OFFSETS = [n * CHUNK_BYTES + 4096 * n for n in range(7)]
#: causes that lie between a request and its answer
WITHIN = (
    "fuse_queue", "daemon", "daemon_lock", "cache_read", "catalog", "fetch", "fetch_queue",
    "connect", "first_byte", "transfer", "decompress", "cache_write", "fetch_joined", "reply",
)  # fmt: skip


def causes_ns(run: Run, tids: pl.Series) -> dict[str, int]:
    """Time of the threads by cause."""
    of_them = run.tables["segments"].filter(pl.col("tid").is_in(tids.implode()))
    spent = of_them.group_by("cause").agg(ns=(pl.col("end_ns") - pl.col("start_ns")).sum())
    return dict(spent.iter_rows())


@pytest.mark.parametrize("way", ["aio", "uring"])
def test_reads_that_are_no_system_calls(truth: Truth, trace: Trace, way: str) -> None:
    """AIO waits in the thread that submits, io_uring in threads of the kernel's own making."""
    truth.cool()
    run = trace(PROGRAM, way, truth.path("model.bin"), *OFFSETS)
    assert sorted(reads_of(run)["offset_bytes"]) == OFFSETS
    assert run.tables["losses"].is_empty()
    _check_operations(run, truth.path("model.bin"))
    workers = pl.col("name").str.starts_with("iou-wrk")
    waiting = run.tables["tasks"].filter(pl.col("role") == "target", workers == (way == "uring"))
    causes = causes_ns(run, waiting["tid"])
    within = sum(causes.get(cause, 0) for cause in WITHIN)
    assert within >= len(OFFSETS) * LATENCY_S * 1e9 / 2  # a worker may start late
    assert causes.get("unknown", 0) <= 0.02 * sum(causes.values())
    if way == "uring":  # they do nothing but wait
        assert causes["cpu"] <= 0.1 * sum(causes.values())


def _check_operations(run: Run, path: Path) -> None:
    probes = run.tables["probes"].filter(event="asynchronous read")
    reads = operations_on(run, path).filter(kind="read")
    if (probes["family"] == "none").all():
        assert probes["reason"].null_count() == 0
        assert reads.is_empty()
        return
    # io_uring first asks for what is there, in the thread that submits: that queues the request
    whole = reads.filter(pl.col("result") == asynchronous.SIZE)
    assert sorted(whole["offset_bytes"]) == OFFSETS
    assert reads_of(run)["op_id"].null_count() == 0
