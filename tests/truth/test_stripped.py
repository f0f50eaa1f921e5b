"""A client without symbols: what its system calls on the cache and its sockets tell is the same."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvmprof.runners.lab.build import client_program
from cvmprof.runners.lab.lab import (
    Cutting,
    Lab,
    MountOptions,
    Shaping,
    mount,
    order,
    publish,
    serve,
    stop,
)

from .conftest import CHUNK_BYTES, LATENCY_S, MODEL_BYTES, READ_ALL, READ_AT_ONCE, Trace, Truth


@pytest.fixture
def stripped(
    truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Truth]:
    """The lab's client without its symbol table, serving the same content to a lab of its own."""
    built = client_program().parent
    caches = tmp_path / "xdg"
    copy = caches / "cvmprof" / built.name
    shutil.copytree(built, copy)
    for library in copy.glob("libcvmfs_fuse3.so*"):
        subprocess.run(["strip", library], check=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    lab = Lab(tmp_path / "lab")
    publish(lab, truth.directory / "source", Cutting(CHUNK_BYTES, 2 * CHUNK_BYTES))
    serve(lab)
    try:
        yield Truth(lab, mount(lab, options=MountOptions(client="lab")), tmp_path)
    finally:
        stop(lab, force=True)


def test_fetches_and_lookups_are_the_same_without_symbols(
    truth: Truth, stripped: Truth, trace: Trace
) -> None:
    before = stripped.cool()
    run = trace(READ_ALL, 65536, stripped.path("model.bin"))
    assert run.tables["daemon_calls"].is_empty()
    reasons = run.tables["probes"].filter(event="daemon call")["reason"].drop_nulls()
    assert any("no symbol cvmfs::cvmfs_read" in reason for reason in reasons)

    served = stripped.served_hashes(before)
    fetched = run.tables["fetches"].filter(outcome="downloaded").sort("start_ns")
    assert len(served) == 17
    assert fetched["object_hash"].to_list() == served
    assert fetched["download_id"].null_count() == 0
    assert fetched["offset_bytes"].to_list() == [CHUNK_BYTES * index for index in range(17)]
    assert fetched["unpacked_bytes"].sum() == MODEL_BYTES
    assert run.tables["downloads"].sort("sent_ns")["object_hash"].to_list() == served
    misses = run.tables["cache_lookups"].filter(hit=False)
    assert sorted(misses["object_hash"]) == sorted(2 * served)  # each miss looks twice


def test_the_time_is_still_explained(stripped: Truth, trace: Trace) -> None:
    stripped.cool()
    run = trace(READ_ALL, 65536, stripped.path("model.bin"))
    inside = run.tables["segments"].drop_nulls("op_id")
    spent = inside.with_columns(ns=inside["end_ns"] - inside["start_ns"])
    assert spent.filter(cause="unknown")["ns"].sum() <= spent["ns"].sum() // 50
    causes = {"first_byte", "transfer", "decompress", "cache_write", "cache_read", "fetch_queue"}
    assert causes <= set(spent["cause"])
    assert not {"fetch", "daemon"} & set(spent["cause"])


def test_a_joined_download_is_known_by_the_one_that_it_waits_for(
    stripped: Truth, trace: Trace
) -> None:
    order(stripped.lab, Shaping(LATENCY_S))
    before = stripped.cool()
    run = trace(READ_AT_ONCE, stripped.path("twin-a.bin"), stripped.path("twin-b.bin"))
    assert run.tables["daemon_calls"].is_empty()
    assert len(stripped.served(before)) == 3
    fetches = run.tables["fetches"].filter(object_kind="chunk")
    downloaded, joined = (fetches.filter(outcome=how) for how in ("downloaded", "joined"))
    assert downloaded.height == 3 and joined.height >= 1
    owners = dict(downloaded.select("fetch_id", "object_hash").iter_rows())
    for row in joined.iter_rows(named=True):
        assert owners[row["joined_fetch_id"]] == row["object_hash"]
    assert "fetch_joined" in run.tables["segments"]["cause"].to_list()
