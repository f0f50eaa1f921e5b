"""GPUs of a stand-in, sampled while the real command runs, and as the doctor shows them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from cvmprof import open_run
from cvmprof.profiler.run.opened import Run
from cvmprof.tests.gpu.nvml import TIMEOUT_S, StandIn, stand_in

SCRIPT = """
count 0 2
driver 0 580.65.06
handle 0 0
uuid 0 GPU-11111111-2222
name 0 Stand-in
total 0 85899345920
used 0 4000000007
utilisation 0 31
power 0 350001
clock 0 1410
received 0 2000
sent 0 10
handle 1 0
uuid 1 GPU-33333333-4444
utilisation 1 0
"""


@pytest.fixture(scope="module", name="machine")
def _machine(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return stand_in(tmp_path_factory.mktemp("nvml"), SCRIPT)


@pytest.fixture(scope="module", name="run")
def _run(machine: StandIn) -> Run:
    run = machine.directory / "a.cvmprof"
    command = [sys.executable, "-m", "cvmprof", "trace", "--no-report", "-o", str(run), "--"]
    subprocess.run(
        [*command, "sleep", "0.6"], env=machine.environment, check=True, timeout=TIMEOUT_S
    )
    return open_run(run)


def test_the_tables_hold_what_the_devices_told(run: Run) -> None:
    assert run.tables["devices"].rows() == [
        ("GPU-11111111-2222", 0, "Stand-in", 85899345920),
        ("GPU-33333333-4444", 1, None, None),
    ]
    samples = run.tables["gpu_samples"]
    constant = samples.drop("time_ns", "pcie_rx_bytes_s", "pcie_tx_bytes_s").unique()
    assert sorted(constant.rows()) == [
        ("GPU-11111111-2222", 31.0, 4000000007, 350.001, 1410.0),
        ("GPU-33333333-4444", 0.0, None, None, None),
    ]
    over_pcie = samples.select("pcie_rx_bytes_s", "pcie_tx_bytes_s").drop_nulls()
    assert set(over_pcie.rows()) == {(2048000, 10240)}


def test_samples_cover_the_command(run: Run) -> None:
    first, last = (
        run.tables["gpu_samples"]
        .select(first=pl.col("time_ns").min(), last=pl.col("time_ns").max())
        .row(0)
    )
    command = run.tables["tasks"].filter(name="sleep")
    assert first < command["start_ns"].min() + 600_000_000 < last  # type: ignore[operator]


def test_the_samples_are_counted_beside_the_other_events(run: Run) -> None:
    row = run.tables["probes"].filter(event="GPU sample").row(0, named=True)
    assert (row["family"], row["target"], row["reason"]) == ("nvml", "libnvidia-ml", None)
    assert row["hits"] == run.tables["gpu_samples"].height


def test_the_doctor_shows_them(machine: StandIn) -> None:
    command = [sys.executable, "-m", "cvmprof", "doctor", "--json"]
    printed = subprocess.check_output(command, env=machine.environment, timeout=TIMEOUT_S)
    gpus = json.loads(printed)["gpus"]
    first = {"index": 0, "uuid": "GPU-11111111-2222", "name": "Stand-in"}
    assert gpus["driver"] == "580.65.06"
    assert gpus["devices"][0] == {**first, "memory_bytes": 85899345920, "is_divided": False}
    assert [each["uuid"] for each in gpus["devices"]] == ["GPU-11111111-2222", "GPU-33333333-4444"]
    assert gpus["unsampled"] is None


def test_without_a_gpu_nothing_is_said(tmp_path: Path) -> None:
    run = tmp_path / "a.cvmprof"
    command = [sys.executable, "-m", "cvmprof", "trace", "--no-report", "-o", str(run), "--"]
    environment = stand_in(tmp_path, "count 0 0\n").environment
    subprocess.run([*command, "true"], env=environment, check=True, timeout=TIMEOUT_S)
    opened = open_run(run)
    assert opened.tables["gpu_samples"].is_empty() and opened.tables["devices"].is_empty()
    assert "GPU sample" not in opened.tables["probes"]["event"].to_list()
