"""A model of external data loaded cold by ONNX Runtime: page faults, identity, tiling."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest

from cvmprof.profiler.attribution.causes import phase_causes
from cvmprof.profiler.run.opened import Run

from .conftest import MODEL_NAME, Truth, open_run, reads_of


@pytest.fixture(scope="module")
def cold_load(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[str]]:
    """A traced cold load and run, and the hashes that the server served for it."""
    before = truth.cool()
    where = tmp_path_factory.mktemp("model") / "run.cvmprof"
    model = truth.path(MODEL_NAME) / "model.onnx"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "cvmprof",
            "trace",
            "--no-report",
            "-o",
            where,
            "--",
            sys.executable,
            "-m",
            "cvmprof",
            "run",
            model,
        ],
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
    return open_run(where), truth.served_hashes(before)


def test_reads_are_queued_inside_operations(cold_load: tuple[Run, list[str]]) -> None:
    """All READs of the mount, whoever queued them: nobody else reads there."""
    run, _ = cold_load
    queued = reads_of(run)
    assert queued["mount_id"].n_unique() == 1
    assert queued.height > 100
    assert queued["op_id"].null_count() <= queued.height * 0.01


def test_the_weights_come_by_page_fault(cold_load: tuple[Run, list[str]]) -> None:
    run, _ = cold_load
    kinds = reads_of(run).join(run.tables["operations"], on="op_id")["kind"].value_counts()
    share = dict(kinds.iter_rows())
    assert share["fault"] >= 0.9 * sum(share.values())


def test_the_load_is_explained(cold_load: tuple[Run, list[str]]) -> None:
    run, _ = cold_load
    causes = phase_causes(run.tables["segments"], run.tables["phases"]).filter(name="load")
    spent = dict(causes.select(pl.col("cause").cast(pl.String), "ns").iter_rows())
    load = run.tables["phases"].filter(name="load")
    length_ns = (load["end_ns"] - load["start_ns"]).item()
    assert sum(spent.values()) == length_ns
    assert spent.get("blocked", 0) + spent.get("unknown", 0) <= 0.05 * length_ns
    fetching = (
        "fetch_queue", "connect", "first_byte", "transfer", "decompress", "cache_write", "runqueue",
    )  # fmt: skip
    assert not {"daemon", "fetch"} & set(spent)
    assert sum(spent.get(cause, 0) for cause in fetching) >= 0.5 * length_ns


def test_every_read_joins_one_daemon_call(cold_load: tuple[Run, list[str]]) -> None:
    run, _ = cold_load
    answered = reads_of(run).drop_nulls("end_ns")
    calls = run.tables["daemon_calls"].filter(function="cvmfs_read")
    joined = answered.join(calls, on=["mount_id", "unique"], how="left")
    assert joined.height == answered.height  # none joins two
    assert joined["call_id"].null_count() <= answered.height * 0.001


def test_every_fetch_joins_its_call_download_and_chunk(cold_load: tuple[Run, list[str]]) -> None:
    run, served = cold_load
    fetches = run.tables["fetches"].filter(outcome="downloaded").sort("start_ns")
    calls = fetches.join(run.tables["daemon_calls"], on="call_id")
    downloads = fetches.join(run.tables["downloads"], on=["download_id", "object_hash"])
    chunks = fetches.join(run.tables["chunks"], on=["file_id", "object_hash", "offset_bytes"])
    assert fetches["object_hash"].to_list() == served
    assert calls.height == downloads.height == chunks.height == fetches.height
    assert (chunks["unpacked_bytes"] == chunks["size_bytes"]).all()


def test_segments_tile_every_target_thread(cold_load: tuple[Run, list[str]]) -> None:
    run, _ = cold_load
    segments = run.tables["segments"].sort("tid", "start_ns")
    following = segments.with_columns(next_ns=pl.col("start_ns").shift(-1).over("tid"))
    assert following.drop_nulls("next_ns").filter(pl.col("end_ns") != pl.col("next_ns")).is_empty()
    assert segments.filter(pl.col("end_ns") <= pl.col("start_ns")).is_empty()
    stop_ns = int(run.meta["stop_ns"])
    lives = (
        run.tables["tasks"]
        .filter(role="target")
        .with_columns(pl.col("end_ns").fill_null(stop_ns).clip(upper_bound=stop_ns))
    )
    ends = segments.group_by("tid").agg(pl.col("end_ns").max(), pl.col("start_ns").min())
    both = lives.join(ends, on="tid")
    assert both.height == lives.height > 1
    assert (both["end_ns"] == both["end_ns_right"]).all()


def test_little_inside_operations_is_unknown(cold_load: tuple[Run, list[str]]) -> None:
    run, _ = cold_load
    inside = (
        run.tables["segments"]
        .drop_nulls("op_id")
        .with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    )
    assert inside.filter(cause="unknown")["ns"].sum() <= 0.02 * int(inside["ns"].sum())
