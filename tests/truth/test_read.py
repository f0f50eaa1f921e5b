"""Reading files: every chunk, byte and request accounted for, against the server's log."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pytest

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import compute

from .conftest import (
    CHUNK_BYTES,
    MODEL_BYTES,
    READ_ALL,
    READ_AT_ONCE,
    TWIN_BYTES,
    Trace,
    Truth,
    hits_on,
    operations_on,
    pinned,
    reads_of,
)


def test_a_cold_read_fetches_each_chunk_once_in_the_servers_order(
    truth: Truth, trace: Trace
) -> None:
    before = truth.cool()
    run = trace(READ_ALL, 65536, truth.path("model.bin"))
    fetched = run.tables["fetches"].filter(object_kind="chunk", outcome="downloaded")
    fetched = fetched.sort("start_ns")
    hashes = truth.served_hashes(before)
    assert len(hashes) == 17
    assert fetched["object_hash"].to_list() == hashes
    assert fetched["unpacked_bytes"].to_list() == [CHUNK_BYTES] * 16 + [1009]
    assert fetched["offset_bytes"].to_list() == [CHUNK_BYTES * index for index in range(17)]
    paths = fetched.join(run.tables["files"], on="file_id")["path"].to_list()
    assert paths == [str(truth.path("model.bin"))] * 17


def test_the_chunk_list_is_the_files(truth: Truth, trace: Trace) -> None:
    truth.cool()
    run = trace(READ_ALL, 65536, truth.path("model.bin"))
    chunks = run.tables["chunks"].sort("index")
    assert chunks["offset_bytes"].to_list() == [CHUNK_BYTES * index for index in range(17)]
    assert chunks["size_bytes"].sum() == MODEL_BYTES
    assert chunks["cached_at_start"].to_list() == [False] * 17


@pytest.mark.parametrize("size", [4096, 65536, 4 << 20])
def test_bytes_of_operations_and_hits_sum_to_the_file(
    truth: Truth, trace: Trace, size: int
) -> None:
    path = truth.path("model.bin")
    truth.cool()
    run = trace(READ_ALL, size, path)
    reads, hits = operations_on(run, path).filter(kind="read"), hits_on(run, path)
    assert int(reads["result"].sum()) + int(hits["bytes"].sum()) == MODEL_BYTES
    assert reads.height + hits["count"].sum() == -(-MODEL_BYTES // size)
    assert hits["empty"].sum() == 1  # the read that finds the end is no hit
    assert run.tables["losses"].is_empty()


def test_a_warm_read_reaches_neither_daemon_nor_server(truth: Truth, trace: Trace) -> None:
    path = truth.path("model.bin")
    with pinned(path):
        before = len(truth.served(0))
        run = trace(READ_ALL, 65536, path)
    assert reads_of(run).is_empty()
    assert hits_on(run, path)["bytes"].sum() == MODEL_BYTES
    assert operations_on(run, path).filter(kind="read").is_empty()
    assert run.tables["fetches"].is_empty()
    assert len(truth.served(0)) == before


def test_every_read_records_each(truth: Truth, trace: Trace) -> None:
    path = truth.path("twin-a.bin")
    with pinned(path):
        run = trace(READ_ALL, 4096, path, options=("--every-read",))
    reads = operations_on(run, path).filter(kind="read")
    assert reads.height == TWIN_BYTES // 4096 + 1
    assert reads["offset_bytes"].to_list() == list(range(0, TWIN_BYTES + 1, 4096))
    assert hits_on(run, path).is_empty()


def test_two_readers_of_one_file_share_its_fetches(truth: Truth, trace: Trace) -> None:
    path = truth.path("model.bin")
    before = truth.cool()
    run = trace(READ_AT_ONCE, path, path)
    served = truth.served(before)
    assert len({access.path for access in served}) == len(served) == 17
    fetches = run.tables["fetches"].filter(object_kind="chunk")
    assert fetches.filter(outcome="downloaded").height == 17
    fetched = set(fetches.filter(outcome="downloaded")["fetch_id"].to_list())
    readers = operations_on(run, path).filter(kind="read")["pid"].unique().to_list()
    assert len(readers) == 2
    for pid in readers:
        led = _downloads_waited_for(run.tables["segments"].filter(pid=pid), fetches)
        assert led and led <= fetched
        behind = _fetches_behind_waits(run.tables, pid)
        assert behind and behind <= fetched  # readahead may finish before anyone waits for it


def test_identical_content_under_two_paths_is_downloaded_once_and_joined(
    truth: Truth, trace: Trace
) -> None:
    before = truth.cool()
    run = trace(READ_AT_ONCE, truth.path("twin-a.bin"), truth.path("twin-b.bin"))
    served = truth.served(before)
    assert len({access.path for access in served}) == len(served) == 3
    fetches = run.tables["fetches"].filter(object_kind="chunk")
    downloaded = fetches.filter(outcome="downloaded")
    joined = fetches.filter(outcome="joined")
    assert downloaded.height == 3
    assert joined.height >= 1
    owners = dict(downloaded.select("fetch_id", "object_hash").iter_rows())
    for row in joined.iter_rows(named=True):
        assert owners[row["joined_fetch_id"]] == row["object_hash"]
    assert "fetch_joined" in run.tables["segments"]["cause"].to_list()
    said = compute(gather(run))
    assert (said.chunks_known, said.objects_looked_up, said.objects_cached_at_start) == (6, 3, 0)


def _downloads_waited_for(segments: pl.DataFrame, fetches: pl.DataFrame) -> set[int]:
    """The fetches that downloaded what the segments waited for, through those that joined them."""
    waited = fetches.join(segments.select("fetch_id").unique(), on="fetch_id", how="semi")
    return set(waited.select(pl.coalesce("joined_fetch_id", "fetch_id")).to_series().to_list())


def _fetches_behind_waits(tables: Mapping[str, pl.DataFrame], pid: int) -> set[int]:
    """From a process's waits through requests and daemon calls to fetches, by identity alone."""
    own = tables["operations"].filter(pid=pid)
    waited = tables["waits"].join(own, on="op_id", how="semi").select("mount_id", "unique").unique()
    calls = tables["daemon_calls"].join(waited, on=["mount_id", "unique"], how="semi")
    fetches = tables["fetches"].join(calls, on="call_id", how="semi")
    return set(fetches.select(pl.coalesce("joined_fetch_id", "fetch_id")).to_series().to_list())
