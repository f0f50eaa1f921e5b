"""A client without symbols: what its system calls on the cache and its sockets show is the same."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.runners.lab.build import client_program
from cvmprof.runners.lab.lab import (
    Shaping,
    chosen_client,
    mount,
    order,
)

from .conftest import (
    CHUNK_BYTES,
    LATENCY_S,
    MODEL_BYTES,
    READ_ALL,
    READ_AT_ONCE,
    Trace,
    Truth,
    served_lab,
)

#: without readahead one request follows another: of two at once, on both sides of a chunk's border,
#: chance decides which looks the chunks up, and how often
READ_IN_ORDER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
while os.read(descriptor, 65536):
    pass
os.close(descriptor)
"""


def strip_client(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the lab mount with a copy of its client, or of the real one, without symbol tables."""
    if chosen_client("auto") == "lab":
        built = client_program().parent
        shutil.copytree(built, directory / "cvmprof" / built.name)
        monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    else:
        prefix = Path(str(shutil.which("cvmfs2"))).resolve().parent.parent
        for part in ("bin", "lib"):
            shutil.copytree(prefix / part, directory / part, symlinks=True)
        monkeypatch.setenv("PATH", str(directory / "bin"), prepend=":")
        for name in ("LD_LIBRARY_PATH", "CVMFS_LIBRARY_PATH"):
            monkeypatch.setenv(name, str(directory / "lib"))
    libraries = [file for file in directory.rglob("libcvmfs*.so*") if not file.is_symlink()]
    assert libraries
    subprocess.run(["strip", *map(str, libraries)], check=True)


@pytest.fixture
def stripped(truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Truth]:
    """The client without its symbols, serving the same content to a lab of its own."""
    strip_client(tmp_path / "client", monkeypatch)
    with served_lab(tmp_path, truth.directory / "source") as lab:
        yield Truth(lab, mount(lab), tmp_path)


def told(run: Run) -> dict[str, list[tuple[Any, ...]]]:
    """What a run says of lookups, fetches and downloads, in order, less times and numbers."""
    tables = run.tables
    lookups = tables["cache_lookups"].sort("start_ns")
    fetches = tables["fetches"].sort("fetch_id")
    downloads = tables["downloads"].sort("download_id")
    return {
        "cache_lookups": lookups.select("object_hash", "hit").rows(),
        "fetches": fetches.select(
            "object_hash", "object_kind", "outcome", "offset_bytes", "unpacked_bytes", "download_id"
        ).rows(),
        "downloads": downloads.select(
            "object_hash", "url_path", "status", "attempt", "wire_bytes"
        ).rows(),
    }


def test_fetches_and_lookups_are_the_same_without_symbols(
    truth: Truth, stripped: Truth, trace: Trace
) -> None:
    truth.cool()
    whole = trace(READ_IN_ORDER, truth.path("model.bin"))
    assert whole.tables["daemon_calls"].height > 0
    expected = told(whole)
    shutil.rmtree(whole.path)
    before = stripped.cool()
    run = trace(READ_IN_ORDER, stripped.path("model.bin"))
    assert run.tables["daemon_calls"].is_empty()
    for name, rows in told(run).items():
        assert rows == expected[name], name

    probes = run.tables["probes"].filter(event="daemon call")
    own = probes.filter(pl.col("target").str.contains(str(stripped.directory), literal=True))
    assert set(own["family"]) == {"none"}
    assert set(own["symbols"]) == {"none"}
    assert any("no symbol cvmfs::cvmfs_read" in reason for reason in own["reason"])

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
