"""Samples of GPUs."""

from __future__ import annotations

from cvmprof.probes import events
from cvmprof.profiler.device.samples import gpu_samples, nvml_devices
from cvmprof.profiler.run.journal import Journal
from cvmprof.tests.profiler.conftest import raw

GPUS = Journal(
    (
        {
            "kind": "gpus",
            "rows": [
                {"index": 0, "uuid": "GPU-a", "name": "H100", "memory_bytes": 80},
                {"index": 1, "uuid": "GPU-b"},
            ],
        },
    )
)
EVERYTHING = {
    "memory_bytes": 7, "pcie_rx_bytes_s": 8, "pcie_tx_bytes_s": 9, "utilisation_percent": 10,
    "power_mw": 11_500, "clock_mhz": 12,
}  # fmt: skip


def test_a_sample_has_what_it_holds_and_the_devices_name() -> None:
    samples = raw(
        events.GPU_SAMPLE,
        {**EVERYTHING, "time_ns": 2, "device": 1, "held": 31},
        {**EVERYTHING, "time_ns": 1, "device": 0, "held": events.GPU_SAMPLE_PCIE},
        {**EVERYTHING, "time_ns": 3, "device": 0, "held": events.GPU_SAMPLE_POWER},
        {**EVERYTHING, "time_ns": 3, "device": 9, "held": 31},
    )
    assert gpu_samples(samples, nvml_devices(GPUS)).rows() == [
        (1, "GPU-a", None, None, None, None, 8, 9),
        (2, "GPU-b", 10.0, 7, 11.5, 12.0, 8, 9),
        (3, "GPU-a", None, None, 11.5, None, None, None),
    ]


def test_devices_as_the_journal_has_them() -> None:
    assert nvml_devices(GPUS).rows() == [("GPU-a", 0, "H100", 80), ("GPU-b", 1, None, None)]
    assert nvml_devices(Journal(())).height == 0
