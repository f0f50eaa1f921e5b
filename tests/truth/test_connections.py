"""What went over which connection, against the logs of a server, of proxies, of one by HTTPS.

By the lab's client: how often one tries again, and which proxy comes next, is each client's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import compute
from cvmprof.runners.lab import serving
from cvmprof.runners.lab.lab import (
    Lab,
    MountOptions,
    Rule,
    Shaping,
    accesses,
    mount,
    order,
    unmount,
)

from .conftest import CHUNK_BYTES, READ_ALL, Trace, served_lab
from .servers import LOCALHOST, certificate, dead_port, relay

FILE_BYTES = 6 * CHUNK_BYTES + 1009
CHUNKS = 7

#: mounts, reads, and leaves all caches and connections as they were made
MOUNT_AND_READ = """
import os, subprocess, sys
subprocess.run(sys.argv[2:], check=True)
descriptor = os.open(sys.argv[1], os.O_RDONLY)
while os.read(descriptor, 65536):
    pass
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that serves one file of seven chunks."""
    root = tmp_path_factory.mktemp("connections")
    with served_lab(root, {"model.bin": os.urandom(FILE_BYTES)}) as served:
        yield served


@pytest.fixture
def mounted(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A mount without a proxy, and its end; orders to the server end with it."""
    order(lab, Shaping())
    place = mount(lab, tmp_path / "mnt", MountOptions("lab", cache=tmp_path / "cache"))
    try:
        yield place
    finally:
        order(lab, Shaping())
        unmount(lab, place, force=True)


def _port(lab: Lab) -> int:
    server = serving.current(lab)
    assert server is not None
    return server.port


def _data(run: Run) -> pl.DataFrame:
    return run.tables["downloads"].drop_nulls("object_hash").sort("download_id")


def _by_fetch(run: Run) -> list[pl.DataFrame]:
    """The attempts for each object, in order."""
    return _data(run).partition_by("object_hash", maintain_order=True)


def test_a_connection_made_before_recording(lab: Lab, mounted: Path, trace: Trace) -> None:
    since = len(accesses(lab))
    run = trace(READ_ALL, 65536, mounted / "model.bin")
    served = [one for one in accesses(lab)[since:] if "/data/" in one.path]
    data = _data(run)
    assert data.height == len(served) == CHUNKS
    assert data["reused"].to_list() == [True] * CHUNKS
    assert data["connect_ns"].null_count() == CHUNKS
    assert data["connection_id"].n_unique() == 1
    assert data["local"].to_list() == [f"{LOCALHOST}:{one.connection}" for one in served]
    assert set(data["remote"]) == {f"{LOCALHOST}:{_port(lab)}"}
    assert data["proxy"].null_count() == CHUNKS
    assert data["status"].to_list() == [200] * CHUNKS
    heads = data["wire_bytes"] - pl.Series([one.bytes for one in served])
    assert heads.is_between(60, 300).all()


def test_connections_that_the_server_closes(lab: Lab, mounted: Path, trace: Trace) -> None:
    """A request cut short ends its connection: the next one is new, and is the second attempt."""
    order(lab, Shaping(rules=(Rule("truncate", "/data/", skip=2, times=1),)))
    since = len(accesses(lab))
    run = trace(READ_ALL, 65536, mounted / "model.bin")
    served = [one for one in accesses(lab)[since:] if "/data/" in one.path]
    data = _data(run)
    assert data["local"].to_list() == [f"{LOCALHOST}:{one.connection}" for one in served]
    assert data["reused"].to_list() == [True] * 3 + [False] + [True] * 4
    assert data["connect_ns"].is_not_null().to_list() == [False] * 3 + [True] * 5
    assert data["closed_ns"].is_not_null().to_list() == [False] * 2 + [True] + [False] * 5
    assert [part["attempt"].to_list() for part in _by_fetch(run)] == [
        [1],
        [1],
        [1, 2],
        [1],
        [1],
        [1],
        [1],
    ]


def test_an_error_of_the_server_is_an_attempt(lab: Lab, mounted: Path, trace: Trace) -> None:
    order(lab, Shaping(rules=(Rule("status", "/data/", status=503, skip=4, times=1),)))
    run = trace(READ_ALL, 65536, mounted / "model.bin")
    tried = _by_fetch(run)
    assert [part["status"].to_list() for part in tried] == [[200]] * 4 + [[503, 200]] + [[200]] * 2
    assert tried[4]["attempt"].to_list() == [1, 2]
    owner = run.tables["fetches"].join(tried[4][1:], on="download_id")
    assert owner["outcome"].to_list() == ["downloaded"]


def test_a_dead_proxy_and_a_live_one(lab: Lab, tmp_path: Path, trace: Trace) -> None:
    """The first connection of all fails; what follows goes through the second proxy."""
    dead = dead_port()
    with relay(f"{LOCALHOST}:{_port(lab)}") as (live, log):
        proxies = f"http://{LOCALHOST}:{dead};http://{LOCALHOST}:{live}"
        options = MountOptions("lab", cache=tmp_path / "cache", proxy=proxies, retries=2)
        place = mount(lab, tmp_path / "mnt", options)
        try:
            log.answered.clear()
            run = trace(READ_ALL, 65536, place / "model.bin")
        finally:
            unmount(lab, place, force=True)
    data = _data(run)
    assert data["proxy"].to_list() == [f"{LOCALHOST}:{live}"] * CHUNKS
    assert set(data["host"]) == {f"{LOCALHOST}:{_port(lab)}"}
    assert data["wire_bytes"].to_list() == [one.bytes for one in log.answered]
    assert data["local"].to_list() == [f"{LOCALHOST}:{one.client_port}" for one in log.answered]


def test_a_proxy_that_dies(lab: Lab, tmp_path: Path, trace: Trace) -> None:
    """Its connection is refused while recording: that is the first attempt for the chunk."""
    with relay(f"{LOCALHOST}:{_port(lab)}") as (live, log):
        with relay(f"{LOCALHOST}:{_port(lab)}") as (dying, _):
            proxies = f"http://{LOCALHOST}:{dying};http://{LOCALHOST}:{live}"
            options = MountOptions("lab", cache=tmp_path / "cache", proxy=proxies, retries=3)
            place = mount(lab, tmp_path / "mnt", options)
        try:
            run = trace(READ_ALL, 65536, place / "model.bin")
        finally:
            unmount(lab, place, force=True)
    first, *rest = _by_fetch(run)
    failed = first.filter(pl.col("sent_ns").is_null())
    assert failed.height >= 1
    assert failed["remote"].to_list() == [f"{LOCALHOST}:{dying}"] * failed.height
    assert failed["closed_ns"].null_count() == 0
    assert failed["wire_bytes"].sum() == 0
    assert first["attempt"].to_list() == list(range(1, first.height + 1))
    assert first[-1]["proxy"].to_list() == [f"{LOCALHOST}:{live}"]
    assert [part["attempt"].to_list() for part in rest] == [[1]] * (CHUNKS - 1)
    through = _data(run).drop_nulls("proxy").filter(pl.col("proxy").str.ends_with(f":{live}"))
    assert through["wire_bytes"].to_list() == [one.bytes for one in log.answered]
    found = compute(gather(run))
    assert found.network.failed_connections == failed.height
    (down,) = found.waits.failed_at
    assert (down.name, down.is_local) == (f"{LOCALHOST}:{dying}", True)
    lost_ns = int(first["sent_ns"].drop_nulls()[0]) - int(failed["connect_ns"][0])
    assert 0 < found.waits.kinds_ns["refused"] <= lost_ns


def test_https_tells_times_and_bytes(lab: Lab, tmp_path: Path, trace: Trace) -> None:
    authority, context = certificate(tmp_path)
    with relay(f"{LOCALHOST}:{_port(lab)}", context) as (port, log):
        url = f"https://{LOCALHOST}:{port}/cvmfs/{lab.repository}"
        options = MountOptions("lab", cache=tmp_path / "cache", url=url, certificate=authority)
        place = mount(lab, tmp_path / "mnt", options)
        try:
            log.answered.clear()
            run = trace(READ_ALL, 65536, place / "model.bin")
        finally:
            unmount(lab, place, force=True)
    loads = run.tables["downloads"].sort("download_id")
    named = ["".join(one.target.split("/data/")[1].split("/"))[:40] for one in log.answered]
    assert len(named) == CHUNKS
    assert loads["encrypted"].to_list() == [True] * CHUNKS
    assert loads["url_path"].null_count() == loads["status"].null_count() == CHUNKS
    assert loads["object_hash"].to_list() == named
    assert set(loads["remote"]) == {f"{LOCALHOST}:{port}"}
    overhead = loads["wire_bytes"] - pl.Series([one.bytes for one in log.answered])
    assert overhead.is_between(20, 4000).all()
    assert (loads["first_byte_ns"] > loads["sent_ns"]).all()
    assert run.tables["fetches"]["download_id"].null_count() == 0


def test_samples_agree_with_the_bytes(lab: Lab, tmp_path: Path, trace: Trace) -> None:
    """A mount made while recording: its connections are seen whole."""
    order(lab, Shaping(latency_s=0.06))
    place = tmp_path / "mnt"
    run = trace(MOUNT_AND_READ, place / "model.bin", *_mount_command(lab, place, tmp_path))
    order(lab, Shaping())
    with suppress(Exception):
        unmount(lab, place, force=True)
    samples = run.tables["sockets"].sort("connection_id", "time_ns")
    loads = (
        run.tables["downloads"]
        .group_by("connection_id")
        .agg(pl.col("wire_bytes").sum(), pl.col("reused").sum(), pl.len())
    )
    assert (loads["reused"] == loads["len"] - 1).all()
    assert samples.height >= CHUNKS  # one each 50 ms, a chunk takes 60 ms and more
    grown = samples.select(pl.col("bytes_received").diff().over("connection_id")).drop_nulls()
    assert (grown["bytes_received"] >= 0).all()
    last = samples.group_by("connection_id").agg(pl.col("bytes_received").last())
    both = last.join(loads, on="connection_id")
    assert both.height == loads.height
    assert both["bytes_received"].to_list() == both["wire_bytes"].to_list()
    assert (samples["state"] == "established").all()
    assert samples["min_rtt_us"].is_between(1, 5_000).all()
    assert samples["retransmits"].sum() == 0
    assert run.tables["probes"].filter(event="socket sample")["reason"].to_list() == [None]


def _mount_command(lab: Lab, place: Path, directory: Path) -> list[str]:
    program = (
        "import sys; from pathlib import Path; from cvmprof.runners.lab.lab import *; "
        "root, place, cache = map(Path, sys.argv[1:]); "
        "mount(Lab(root), place, MountOptions('lab', cache=cache))"
    )
    return [sys.executable, "-c", program, str(lab.root), str(place), str(directory / "cache")]
