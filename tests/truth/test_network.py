"""Networks of their own, with nothing but a loopback: one that is slow, one out of reach."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from cvmprof.runners.lab.lab import Cutting, Lab, publish, stop

from .conftest import CHUNK_BYTES, READ_ALL, open_run

CHUNKS = 5
#: every packet takes its turn at this rate, and waits so long at most before it is dropped
RATE, QUEUE_MS = "24mbit", 40
LOOPBACK = "ip link set lo mtu 1500 up"
SHAPED = f"{LOOPBACK} && tc qdisc add dev lo root tbf rate {RATE} burst 20kb latency {QUEUE_MS}ms"
SERVE_AND_MOUNT = """
import sys
from pathlib import Path
from cvmprof.runners.lab.lab import *
lab = Lab(Path(sys.argv[1]))
serve(lab)
mount(lab, Path(sys.argv[2]))
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab with one file, not served yet."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "model.bin").write_bytes(os.urandom(CHUNKS * CHUNK_BYTES))
    made = Lab(tmp_path / "lab")
    publish(made, tmp_path / "source", Cutting(CHUNK_BYTES, 2 * CHUNK_BYTES))
    yield made
    stop(made, force=True)


class Network:
    """A network namespace, kept by a process that waits in it."""

    def __init__(self, setup: str) -> None:
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", f"{setup} && echo made && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"made\n"

    def run(self, *command: object) -> None:
        """Runs a command in it."""
        inside = ["nsenter", f"--net=/proc/{self._keeper.pid}/ns/net", *map(str, command)]
        subprocess.run(inside, check=True, timeout=240)

    def end(self) -> None:
        """Lets it go."""
        self._keeper.send_signal(signal.SIGKILL)
        self._keeper.communicate()


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    made = Network(request.param)
    yield made
    made.end()


def _trace(run: Path, path: Path) -> list[object]:
    return [
        sys.executable,
        "-m",
        "cvmprof",
        "trace",
        "--no-report",
        "-o",
        run,
        "--",
        sys.executable,
        "-I",
        "-c",
        READ_ALL,
        65536,
        path,
    ]


@pytest.mark.parametrize("network", [SHAPED], indirect=True)
def test_a_slow_line_shows_in_the_samples(lab: Lab, network: Network, tmp_path: Path) -> None:
    network.run(sys.executable, "-c", SERVE_AND_MOUNT, lab.root, tmp_path / "mnt")
    network.run(*_trace(tmp_path / "run.cvmprof", tmp_path / "mnt" / "model.bin"))
    tables = open_run(tmp_path / "run.cvmprof").tables
    samples = tables["sockets"].sort("time_ns")
    loads = tables["downloads"].drop_nulls("object_hash")
    assert loads["status"].to_list() == [200] * CHUNKS
    assert tables["losses"].is_empty()
    (connection,) = loads["connection_id"].unique()
    mine = samples.filter(connection_id=connection)
    taken_s = int((loads["last_byte_ns"] - loads["first_byte_ns"]).sum()) / 1e9
    assert taken_s > 0.9 * CHUNKS * CHUNK_BYTES * 8 / 24e6
    assert mine.height >= taken_s / 0.05 / 4  # on a busy machine
    grown = mine["bytes_received"].diff().drop_nulls()
    assert (grown >= 0).all()
    before = int(mine["bytes_received"][0])
    assert int(mine["bytes_received"][-1]) - before <= loads["wire_bytes"].sum()
    # the sender fills the queue, and loses what does not fit into it
    assert mine["receive_rtt_us"].max() > QUEUE_MS * 1000 / 4  # type: ignore[operator]
    assert mine["out_of_order"].max() > 0  # type: ignore[operator]


@pytest.mark.parametrize("network", [LOOPBACK], indirect=True)
def test_a_daemon_in_another_network_is_not_sampled(
    lab: Lab, network: Network, tmp_path: Path
) -> None:
    network.run(sys.executable, "-c", SERVE_AND_MOUNT, lab.root, tmp_path / "mnt")
    command = _trace(tmp_path / "run.cvmprof", tmp_path / "mnt" / "model.bin")
    subprocess.run([str(word) for word in command], check=True, timeout=240)
    tables = open_run(tmp_path / "run.cvmprof").tables
    assert tables["downloads"].filter(pl.col("status") == 200).height == CHUNKS
    assert tables["sockets"].is_empty()
    (row,) = tables["probes"].filter(event="socket sample").to_dicts()
    assert (row["family"], row["hits"]) == ("none", 0)
    assert "in another network namespace" in row["reason"]
