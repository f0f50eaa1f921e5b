"""Sampling real connections of this machine, announced as the recorder does it."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof.probes.events import DOWNLOAD, DOWNLOAD_ANNOUNCED, SOCKET_SAMPLE, TCP_STATES
from cvmprof.profiler.run.decode import plain_frame
from cvmprof.profiler.session.socket_sampler import MAX_CONNECTIONS, SocketSampler
from cvmprof.tests.profiler.conftest import record

HERE = os.stat("/proc/self/ns/net").st_ino
PATIENCE_S = 60.0
CLOSE_WAIT = TCP_STATES.index("close_wait")


class Sampled:
    """A sampler, the file in which connections are announced to it, and its end of a pipe."""

    def __init__(self, directory: Path) -> None:
        self._ring = directory / "download.ring"
        self._ring.touch()
        self._read, self._write = os.pipe()
        self.sampler = SocketSampler(self._ring, self._write)

    def announce(self, connection: socket.socket, **values: Any) -> int:
        """Announce a connection; its inode."""
        (local, local_port, *_), (remote, remote_port, *_) = (
            connection.getsockname(),
            connection.getpeername(),
        )
        addresses = [socket.inet_pton(connection.family, each) for each in (local, remote)]
        inode = os.fstat(connection.fileno()).st_ino
        fields = {"socket": inode, "net_namespace": HERE, "family": connection.family,
                "local_port": local_port, "remote_port": remote_port,
                "local": addresses[0].ljust(16, b"\0"), "remote": addresses[1].ljust(16, b"\0"),
                "flags": DOWNLOAD_ANNOUNCED, **values}  # fmt: skip
        with self._ring.open("ab") as ring:
            ring.write(struct.pack("<II", DOWNLOAD.size, 0) + record(DOWNLOAD, **fields).tobytes())
        return inode

    def await_sample(self, condition: pl.Expr) -> dict[str, Any]:
        """The next sample that satisfies a condition."""
        while select.select([self._read], [], [], PATIENCE_S)[0]:
            sample = plain_frame(os.read(self._read, SOCKET_SAMPLE.size), SOCKET_SAMPLE)
            if not sample.filter(condition).is_empty():
                return sample.row(0, named=True)
        raise AssertionError("no such sample came")

    def rest(self) -> pl.DataFrame:
        """The samples not yet read, once the sampler has stopped."""
        os.close(self._write)
        with os.fdopen(self._read, "rb") as pipe:
            return plain_frame(pipe.read(), SOCKET_SAMPLE)


@pytest.fixture
def sampled(tmp_path: Path) -> Iterator[Sampled]:
    made = Sampled(tmp_path)
    yield made
    made.sampler.stop()


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listening:
        near = socket.create_connection(listening.getsockname()[:2])
        far, _ = listening.accept()
    with near, far:
        yield near, far


Pair = tuple[socket.socket, socket.socket]


def test_a_sample_has_the_bytes_received_and_unread(sampled: Sampled, pair: Pair) -> None:
    near, far = pair
    far.sendall(bytes(50_021))
    near.recv(1009, socket.MSG_WAITALL)
    inode = sampled.announce(near)
    before_ns = time.monotonic_ns()
    sampled.sampler.start()
    first = sampled.await_sample(pl.col("bytes_received") == 50_021)
    assert before_ns < first["time_ns"] < time.monotonic_ns()
    assert (first["socket"], first["state"]) == (inode, 1)
    assert first["unread_bytes"] == 50_021 - 1009
    assert first["rtt_us"] > 0 and 0 < first["min_rtt_us"] < 1_000_000
    assert (first["retransmits"], first["out_of_order"]) == (0, 0)
    assert first["congestion_window"] > 0
    far.sendall(bytes(101))
    near.recv(49_012 + 101, socket.MSG_WAITALL)
    read = (pl.col("bytes_received") == 50_122) & (pl.col("unread_bytes") == 0)
    last = sampled.await_sample(read)
    assert last["segments_received"] > first["segments_received"]


def test_bytes_that_arrive_just_before_the_stop_are_sampled(sampled: Sampled, pair: Pair) -> None:
    near, far = pair
    sampled.announce(near)
    sampled.sampler.start()
    sampled.await_sample(pl.col("bytes_received") == 0)
    far.sendall(bytes(1009))
    near.recv(1009, socket.MSG_WAITALL)
    result = sampled.sampler.stop()
    rest = sampled.rest()
    assert rest["bytes_received"].to_list()[-1] == 1009
    assert result.samples == rest.height + 1
    assert result.row["reason"] is None


def test_a_closed_connection_has_no_more_samples(sampled: Sampled, pair: Pair) -> None:
    near, far = pair
    inode, other = sampled.announce(near), sampled.announce(far)
    sampled.sampler.start()
    sampled.await_sample(pl.col("socket") == other)
    near.close()
    sampled.await_sample((pl.col("socket") == other) & (pl.col("state") == CLOSE_WAIT))
    sampled.sampler.stop()
    assert inode not in sampled.rest()["socket"]


def test_only_announced_connections_that_exist_are_sampled(sampled: Sampled, pair: Pair) -> None:
    near, far = pair
    sampled.announce(near, flags=0)
    sampled.announce(near, socket=1)  # another socket had these addresses
    sampled.announce(near, local_port=1, remote_port=2)
    inode = sampled.announce(far)
    sampled.sampler.start()
    sampled.await_sample(pl.col("time_ns") > 0)
    sampled.sampler.stop()
    assert set(sampled.rest()["socket"]) == {inode}


def test_a_connection_in_another_network_namespace_is_reported_as_unseen(
    sampled: Sampled, pair: Pair
) -> None:
    sampled.announce(pair[0], net_namespace=HERE + 1)
    sampled.sampler.start()
    row = sampled.sampler.stop().row
    assert row["family"] == "none"
    assert row["reason"] == (
        "1 of the daemons' connections are in another network namespace, which only root can see"
    )
    assert sampled.rest().is_empty()


def test_the_newest_connections_are_sampled(sampled: Sampled, pair: Pair) -> None:
    for number in range(MAX_CONNECTIONS + 3):
        sampled.announce(pair[0], socket=1_000_000 + number)
    inode = sampled.announce(pair[0])
    sampled.sampler.start()
    sampled.await_sample(pl.col("socket") == inode)
    assert sampled.sampler.stop().row["reason"] == (
        f"only the newest {MAX_CONNECTIONS} connections at a time were sampled"
    )


def test_a_sampler_that_was_never_started_can_be_stopped(sampled: Sampled) -> None:
    assert sampled.sampler.stop().samples == 0


def test_a_missing_ring_is_reported(tmp_path: Path) -> None:
    sampler = SocketSampler(tmp_path / "absent", 2)
    sampler.start()
    row = sampler.stop().row
    assert row["family"] == "none"
    assert "No such file" in str(row["reason"])
