"""What a fetch's time was spent on, against what the server was ordered to do and says it did."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.runners.lab.lab import (
    Access,
    Rule,
    Shaping,
    mount,
    order,
    serve,
)

from .conftest import READ_ALL, Trace, Truth, served_lab, traced

CHUNK_BYTES = 256 << 10
CHUNKS = 48
FILE_BYTES = CHUNKS * CHUNK_BYTES
BYTES_PER_S = 6 << 20
MS = 1_000_000

#: reads a page of a cold file in one thread; in the other, page after page of a file that the
#: client has cached, each through an open file of its own, until the first thread is done
SHARE_LOCKS = """
import os, resource, sys, threading
cold, cached, handles = sys.argv[1], sys.argv[2], int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (handles + 100, handles + 100))
opened = [os.open(cached, os.O_RDONLY) for _ in range(handles)]
for descriptor in opened:
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
done = threading.Event()

def read_cold():
    descriptor = os.open(cold, os.O_RDONLY)
    os.pread(descriptor, 4096, 0)
    done.set()

other = threading.Thread(target=read_cold)
other.start()
for index, descriptor in enumerate(opened):
    if done.is_set():
        break
    os.pread(descriptor, 4096, 4096 * index)
other.join()
"""


@dataclass(frozen=True)
class Case:
    """A cold read: the run, and the server's log of it."""

    run: Run
    served: list[Access]

    def spent_ms(self) -> dict[str, float]:
        """Time inside file operations by cause."""
        inside = self.run.tables["segments"].drop_nulls("op_id")
        summed = inside.group_by(pl.col("cause").cast(pl.String)).agg(
            ms=(pl.col("end_ns") - pl.col("start_ns")).sum() / MS
        )
        return dict(summed.iter_rows())


Read = Callable[..., Case]


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    """A lab of many small chunks: random bytes, and hexadecimal digits, which can be compressed."""
    root = tmp_path_factory.mktemp("division")
    seeded = random.Random(20261123)
    files = {
        "random.bin": seeded.randbytes(FILE_BYTES),
        "digits.txt": seeded.randbytes(FILE_BYTES // 2).hex().encode(),
        "whole.bin": seeded.randbytes(CHUNK_BYTES),
    }
    with served_lab(root, files, chunk_bytes=CHUNK_BYTES) as lab:
        yield Truth(lab, mount(lab), root)


@pytest.fixture(scope="module")
def read(shaped: Truth) -> Read:
    """Read a file cold from a server shaped so; each case once."""

    @cache
    def case(name: str, latency_ms: int, bytes_per_s: float | None) -> Case:
        order(shaped.lab, Shaping(latency_ms / 1000, bytes_per_s))
        before = shaped.cool()
        where = shaped.directory / f"{name}-{latency_ms}-{bytes_per_s}.cvmprof"
        run = traced(where, READ_ALL, 65536, shaped.path(name))
        return Case(run, shaped.served(before))

    return case


CASES = (
    ("random.bin", 5, None), ("random.bin", 20, None), ("random.bin", 80, None),
    ("random.bin", 5, BYTES_PER_S), ("digits.txt", 5, None),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nothing_stays_undivided(read: Read, case: tuple[str, int, float | None]) -> None:
    spent = read(*case).spent_ms()
    assert {"first_byte", "transfer", "decompress", "cache_write", "cache_read"} <= set(spent)
    assert not {"daemon", "fetch"} & set(spent)
    assert spent.get("unknown", 0) <= 0.02 * sum(spent.values())


def test_latency_grows_the_time_to_the_first_byte_alone(read: Read) -> None:
    near, middle, far = (read("random.bin", ms, None).spent_ms() for ms in (5, 20, 80))
    for more, less, ms in ((middle, near, 15), (far, near, 75)):
        assert more["first_byte"] - less["first_byte"] >= 0.9 * CHUNKS * ms
    growth = far["first_byte"] - near["first_byte"]
    for cause in ("connect", "transfer", "decompress", "cache_write", "cache_read", "fetch_queue"):
        assert abs(far.get(cause, 0) - near.get(cause, 0)) <= 0.15 * growth, cause


def test_bandwidth_grows_the_transfer_alone(read: Read) -> None:
    fast, slow = (read("random.bin", 5, limit).spent_ms() for limit in (None, BYTES_PER_S))
    growth = slow["transfer"] - fast["transfer"]
    expected = (
        1000 * sum(access.bytes for access in read("random.bin", 5, None).served) / BYTES_PER_S
    )
    assert growth >= 0.85 * expected - fast["transfer"]
    for cause in (
        "connect",
        "first_byte",
        "decompress",
        "cache_write",
        "cache_read",
        "fetch_queue",
    ):
        assert abs(slow.get(cause, 0) - fast.get(cause, 0)) <= 0.2 * growth, cause


def test_what_can_be_compressed_takes_time_to_unpack(read: Read) -> None:
    plain, digits = read("random.bin", 5, None), read("digits.txt", 5, None)
    assert sum(a.bytes for a in digits.served) < 0.7 * sum(a.bytes for a in plain.served)
    assert digits.spent_ms()["decompress"] >= 1.5 * plain.spent_ms()["decompress"]


@pytest.mark.parametrize("case", CASES)
def test_segments_tile(read: Read, case: tuple[str, int, float | None]) -> None:
    segments = read(*case).run.tables["segments"].sort("tid", "start_ns")
    gaps = segments.select(pl.col("start_ns") - pl.col("end_ns").shift().over("tid"))
    assert (gaps.to_series().drop_nulls() == 0).all()
    assert (segments["end_ns"] > segments["start_ns"]).all()


@pytest.mark.parametrize("case", CASES)
def test_each_chunk_against_the_servers_log(
    shaped: Truth, read: Read, case: tuple[str, int, float | None]
) -> None:
    """The server's times are of just after reading the request and just before sending."""
    told = read(*case)
    loads = told.run.tables["fetches"].join(told.run.tables["downloads"], on="download_id")
    loads = loads.sort("sent_ns")
    assert loads["url_path"].to_list() == [access.path for access in told.served]
    assert loads.height == CHUNKS
    for row, access in zip(loads.iter_rows(named=True), told.served, strict=True):
        assert access.first_byte_ns is not None and access.last_byte_ns is not None
        assert row["start_ns"] <= row["queued_ns"] <= row["sent_ns"] <= access.request_ns
        assert access.first_byte_ns <= row["first_byte_ns"] <= row["last_byte_ns"]
        assert access.last_byte_ns <= row["last_byte_ns"] <= row["committed_ns"] <= row["end_ns"]
        assert row["wire_bytes"] == access.bytes + head_bytes(shaped, access.path)


def head_bytes(shaped: Truth, path: str) -> int:
    """The length of the status line and headers with which the server answers."""
    port = serve(shaped.lab).port
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return len(b"".join(iter(lambda: connection.recv(4096), b"")))


def test_the_download_of_a_whole_file_belongs_to_its_open(shaped: Truth, trace: Trace) -> None:
    order(shaped.lab, Shaping(0.2))
    shaped.cool()
    run = trace(READ_ALL, 65536, shaped.path("whole.bin"))
    fetch = run.tables["fetches"].filter(object_kind="file").row(0, named=True)
    waited = run.tables["segments"].filter(fetch_id=fetch["fetch_id"])
    kinds = waited.join(run.tables["operations"], on="op_id")["kind"].unique()
    assert kinds.to_list() == ["open"]
    spent = waited.filter(cause="first_byte").select((pl.col("end_ns") - pl.col("start_ns")).sum())
    assert spent.item() >= 200 * MS


def test_two_open_files_that_share_a_lock(shaped: Truth, trace: Trace) -> None:
    """Of enough open files one shares its lock with the one whose chunk is on its way."""
    order(shaped.lab, Shaping(rules=(Rule("delay", path="/data/", delay_s=2.0, skip=CHUNKS),)))
    shaped.cool()
    cold, cached = shaped.path("random.bin"), shaped.path("digits.txt")
    load_and_forget(cached)
    run = trace(SHARE_LOCKS, cold, cached, 1200)
    waits = run.tables["lock_waits"].with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    collision = waits.filter(kind="collision").sort("ns").row(-1, named=True)
    assert 1000 * MS <= collision["ns"] <= 2100 * MS
    held = run.tables["fetches"].filter(fetch_id=collision["holder_fetch_id"])
    assert held.join(run.tables["files"], on="file_id")["path"].to_list() == [str(cold)]
    requests = run.tables["fuse_requests"]
    waiter = requests.filter(unique=collision["unique"]).row(0, named=True)
    holder = requests.filter(unique=collision["holder_unique"]).row(0, named=True)
    assert waiter["handle"] != holder["handle"] and waiter["node_id"] != holder["node_id"]
    slept = run.tables["segments"].filter(cause="daemon_lock", op_id=waiter["op_id"])
    assert slept.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item() >= 1000 * MS


def load_and_forget(path: Path) -> None:
    """Have the client cache a file, and the kernel not."""
    path.read_bytes()
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
