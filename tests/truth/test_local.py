"""Files that lie on no FUSE: recorded when they are asked for, and their disk named."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from .conftest import READ_ALL, Trace, hits_on, operations_on

SIZE = 8 * (1 << 20) + 1009


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A file whose pages are on disk alone."""
    path = tmp_path / "local.bin"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def test_a_local_file_is_recorded_only_on_demand(local: Path, trace: Trace) -> None:
    run = trace(READ_ALL, 65536, local)
    assert run.tables["operations"].is_empty()
    assert run.tables["hits"].is_empty()


def test_all_files_tells_bytes_and_disk(local: Path, trace: Trace) -> None:
    run = trace(READ_ALL, 65536, local, options=("--all-files",))
    read = operations_on(run, local).filter(kind="read")
    assert int(read["result"].sum()) + int(hits_on(run, local)["bytes"].sum()) == SIZE
    assert run.tables["fuse_requests"].is_empty()
    inside = run.tables["segments"].join(read, on="op_id", how="semi")
    spent = inside.group_by("cause").agg(ns=(pl.col("end_ns") - pl.col("start_ns")).sum())
    causes = dict(spent.iter_rows())
    assert causes["disk"] > 0
    assert causes.get("unknown", 0) <= 0.02 * sum(causes.values())
