"""Samples of GPUs get their device, and what was not reported is null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvmprof.probes.events import GPU_MEASURES, GPU_SAMPLE
from cvmprof.profiler.device.samples import gpu_samples, sampled_devices
from cvmprof.profiler.run.directory import GPU_SAMPLES, SPOOL_DIRECTORY
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.run.spool import Spool

LISTED = Journal(
    (
        {
            "kind": "gpu",
            "time_ns": 1,
            "driver": "580.65.06",
            "devices": [
                {"index": 0, "uuid": "GPU-a", "name": "Large", "memory_bytes": 85899345920},
                {"index": 1, "uuid": "GPU-b", "name": None, "memory_bytes": None},
            ],
        },
    )
)


def bits(*names: str) -> int:
    return sum(1 << GPU_MEASURES.index(name) for name in names)


def spool_of(run: Path, *samples: dict[str, Any], torn: bytes = b"") -> Spool:
    (run / SPOOL_DIRECTORY).mkdir()
    records = b"".join(GPU_SAMPLE.pack(**each) for each in samples)
    (run / SPOOL_DIRECTORY / GPU_SAMPLES).write_bytes(records + torn)
    return Spool(run)


def test_what_was_told_has_its_unit_and_the_rest_is_null(tmp_path: Path) -> None:
    everything = {
        "utilisation_percent": 37,
        "memory_bytes": 5_000_000_000,
        "power_mw": 350_001,
        "clock_mhz": 1410,
        "pcie_rx_bytes_s": 20_480_000,
        "pcie_tx_bytes_s": 7168,
    }
    spool = spool_of(
        tmp_path,
        {"time_ns": 20, "device": 0, "known": bits(*GPU_MEASURES), **everything},
        {"time_ns": 10, "device": 1, "known": bits("utilisation_percent", "clock_mhz")},
        {"time_ns": 10, "device": 0},
        torn=b"x" * (GPU_SAMPLE.size - 1),
    )
    assert gpu_samples(spool, LISTED).rows() == [
        (10, "GPU-a", None, None, None, None, None, None),
        (10, "GPU-b", 0.0, None, None, 0.0, None, None),
        (20, "GPU-a", 37.0, 5_000_000_000, 350.001, 1410.0, 20_480_000, 7168),
    ]


def test_a_device_that_the_journal_lost_is_called_by_its_number(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, {"time_ns": 10, "device": 3})
    assert gpu_samples(spool, LISTED)["device"].to_list() == ["gpu3"]
    assert gpu_samples(spool, Journal(()))["device"].to_list() == ["gpu3"]


def test_every_gpu_of_the_machine_is_a_device() -> None:
    assert sampled_devices(LISTED).rows() == [
        ("GPU-a", 0, "Large", 85899345920),
        ("GPU-b", 1, None, None),
    ]


def test_without_a_gpu_both_tables_are_empty(tmp_path: Path) -> None:
    assert sampled_devices(Journal(())).is_empty()
    assert gpu_samples(Spool(tmp_path), Journal(())).is_empty()
