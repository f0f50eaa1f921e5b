"""The session samples GPUs by NVML: what a stand-in of it answers is what the tables hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof import open_run
from cvmprof.profiler.run.opened import Run
from cvmprof.tests.gpu.injected import TIMEOUT_S
from cvmprof.tests.gpu.stand_ins import StandIns

UUIDS = ["GPU-00010203-0405-0607-0809-0a0b0c0d0e0f", "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f"]
USAGE = ("utilisation_percent", "memory_bytes", "power_w", "clock_mhz")
PCIE = ("pcie_rx_bytes_s", "pcie_tx_bytes_s")
#: long enough for a sample of each kind before the last one
COMMAND = ("sleep", "0.4")


def sampled(
    stand_ins: StandIns, tmp_path: Path, *options: str, **switches: object
) -> tuple[Run, list[dict[str, Any]]]:
    """A traced command: its run, and the rows of `probes` about samples."""
    named: dict[str, Any] = {f"NVML_{name}": value for name, value in switches.items()}
    trace = [sys.executable, "-m", "cvmprof", "trace", "--no-report", *options]
    subprocess.run(
        [*trace, "-o", str(tmp_path / "a"), "--", *COMMAND],
        env=stand_ins.environment(**named),
        check=True,
        timeout=TIMEOUT_S,
    )
    run = open_run(tmp_path / "a")
    return run, run.tables.probes.filter(event="GPU sample").to_dicts()


def told(run: Run, columns: tuple[str, ...]) -> set[tuple[Any, ...]]:
    """What samples say, where they hold any of the columns."""
    samples = run.tables.gpu_samples
    held = pl.any_horizontal(pl.col(columns).is_not_null())
    return set(samples.filter(held).select("device", *columns).rows())


def test_each_device_is_sampled_and_described(stand_ins: StandIns, tmp_path: Path) -> None:
    run, rows = sampled(stand_ins, tmp_path)
    assert run.tables.devices.select("device", "index", "name", "memory_bytes").rows() == [
        (UUIDS[0], 0, "Stand-in 0", 5000),
        (UUIDS[1], 1, "Stand-in 1", 5001),
    ]
    assert told(run, USAGE) == {
        (UUIDS[0], 10.0, 1000, 70.0, 1500.0),
        (UUIDS[1], 11.0, 1001, 70.001, 1501.0),
    }
    assert told(run, PCIE) == {(UUIDS[0], 3000, 4000), (UUIDS[1], 4000, 5000)}
    counts = run.tables.gpu_samples.group_by("device").len()["len"].to_list()
    assert min(counts) >= 4  # 0.4 s hold two of usage and one of PCIe even on a busy machine
    (row,) = rows
    assert (row["family"], row["hits"], row["reason"]) == ("nvml", sum(counts), None)


def test_what_a_device_does_not_tell_is_null(stand_ins: StandIns, tmp_path: Path) -> None:
    run, rows = sampled(stand_ins, tmp_path, WITHOUT="UPT")
    assert told(run, USAGE) == {
        (UUIDS[0], None, 1000, None, 1500.0),
        (UUIDS[1], None, 1001, None, 1501.0),
    }
    assert told(run, PCIE) == set()
    assert rows[0]["reason"] is None


def test_a_device_that_is_lost_is_said(stand_ins: StandIns, tmp_path: Path) -> None:
    run, rows = sampled(stand_ins, tmp_path, LOST=4)
    counts = dict(run.tables.gpu_samples.group_by("device").len().iter_rows())
    assert counts[UUIDS[0]] > counts[UUIDS[1]] > 0
    assert rows[0]["reason"] == "GPU 1 stopped answering"


def test_of_many_devices_the_first_are_sampled(stand_ins: StandIns, tmp_path: Path) -> None:
    run, rows = sampled(stand_ins, tmp_path, DEVICES=17)
    assert run.tables.devices.height == 16
    assert rows[0]["reason"] == "only the first 16 of 17 GPUs were sampled"


def test_why_nothing_is_sampled(stand_ins: StandIns, tmp_path: Path) -> None:
    run, rows = sampled(stand_ins, tmp_path, FAILS=1)
    assert run.tables.gpu_samples.height == 0
    assert (rows[0]["family"], rows[0]["reason"]) == ("none", "NVML: Driver Not Loaded")


@pytest.mark.parametrize("options", [("--gpu", "off")])
def test_nothing_is_sampled_where_it_is_not_wanted(
    stand_ins: StandIns, tmp_path: Path, options: tuple[str, ...]
) -> None:
    run, rows = sampled(stand_ins, tmp_path, *options)
    assert (run.tables.gpu_samples.height, run.tables.devices.height, rows) == (0, 0, [])


def test_a_device_that_is_sampled_and_used_is_one(stand_ins: StandIns, tmp_path: Path) -> None:
    """Which the driver and NVML know by the same UUID."""
    steps = (str(stand_ins.program), "init", "launch", "3", "1000", "sync", "1")
    trace = [sys.executable, "-m", "cvmprof", "trace", "--no-report", "-o", str(tmp_path / "a")]
    subprocess.run(
        [*trace, "--", *steps], env=stand_ins.environment(), check=True, timeout=TIMEOUT_S
    )
    run = open_run(tmp_path / "a")
    assert run.tables.devices["device"].to_list() == UUIDS
    assert run.tables.gpu_ops.filter(kind="kernel")["device"].to_list() == UUIDS[:1] * 3
