"""Runs of older schema versions are read as those of today."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from cvmprof import open_run
from cvmprof.errors import BadRun
from cvmprof.profiler.run.directory import SCHEMA_VERSION
from cvmprof.profiler.run.writing import write_run
from cvmprof.profiler.tables import TABLES
from cvmprof.tests.profiler.rows import rows

NEW_TABLES = ("devices", "gpu_calls", "tensors", "failed_operations")


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A run as version 1 wrote it, with one stall of the runner."""
    run = tmp_path / "a.cvmprof"
    run.mkdir()
    stall = rows("stalls", {"start_ns": 3, "end_ns": 9, "waiting_tid": 5, "device": "runner"})
    ran = rows("gpu_ops", {"start_ns": 9, "end_ns": 11, "kind": "run", "pid": 4, "tid": 5})
    write_run(run, iter([("stalls", stall), ("gpu_ops", ran)]), dict)
    tables = run / "tables"
    for name in NEW_TABLES:
        (tables / f"{name}.parquet").unlink()
    later = ("submitted_ns", "copying_in_ns", "copying_out_ns", "source")
    stall.drop(later).write_parquet(tables / "stalls.parquet")
    ran.select("device", "stream", pl.col("kind").cast(pl.String), "name", "start_ns", "end_ns",
               "bytes", "pid", "tid", source=pl.lit("runner")).write_parquet(
        tables / "gpu_ops.parquet")  # fmt: skip
    meta = json.loads((run / "meta.json").read_text())
    meta["schema_version"] = 1
    for name in NEW_TABLES:
        del meta["rows"][name]
    (run / "meta.json").write_text(json.dumps(meta))
    return run


def test_every_table_of_a_first_version_has_the_columns_of_today(first: Path) -> None:
    run = open_run(first)
    for table in TABLES:
        assert run.tables[table.name].schema == table.schema(), table.name
    assert [run.tables[name].height for name in NEW_TABLES] == [0, 0, 0, 0]


def test_what_came_later_has_the_value_that_it_had_then(first: Path) -> None:
    run = open_run(first)
    added = ("submitted_ns", "copying_in_ns", "copying_out_ns", "source", "waiting_tid")
    assert run.tables["stalls"].select(added).rows() == [(9, 0, 0, "runner", 5)]
    columns = ("kind", "pageable", "correlation", "gpu_call_id", "source")
    assert run.tables["gpu_ops"].select(columns).rows() == [("run", False, None, None, "runner")]


def test_a_table_that_its_version_had_must_be_there(first: Path) -> None:
    (first / "tables/stalls.parquet").unlink()
    with pytest.raises(BadRun, match=r"stalls\.parquet is missing"):
        open_run(first)


def test_a_run_of_today_must_have_all(first: Path) -> None:
    meta = json.loads((first / "meta.json").read_text())
    (first / "meta.json").write_text(json.dumps({**meta, "schema_version": SCHEMA_VERSION}))
    with pytest.raises(BadRun, match=r"failed_operations\.parquet is missing"):
        open_run(first)
