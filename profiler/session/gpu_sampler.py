"""Sample the machine's GPUs while a command runs, by NVML.

Two threads of the session ask, as the invoking user: NVML measures the throughput of PCIe for 20 ms
whenever it is asked for it, so that has a thread of its own. All devices are sampled, whatever
the command is allowed to use. The threads may hang in a driver that is in trouble: nobody waits
for them then.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ...probes import events
from ...probes.catalog import GPU_SAMPLES

EVENT = GPU_SAMPLES.name
INTERVAL_S, PCIE_INTERVAL_S = 0.05, 0.25
MAX_DEVICES = 16
_LIBRARY = "libnvidia-ml.so.1"
_PATIENCE_S = 1.0
#: NVML tells PCIe throughput in KB
_KB = 1000

Values = dict[str, int]


@dataclass(frozen=True)
class SampledGpus:
    """What a sampler did: samples taken, CPU time used, the devices as the journal has them, and
    its rows for the table `probes`: none on a machine without NVML.
    """

    samples: int
    cpu_ns: int
    devices: list[dict[str, Any]]
    rows: list[dict[str, str | None]]


class GpuSampler:
    """Samples from `start` to `stop`. ``samples`` is a descriptor to append to."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, name="gpu sampler", daemon=True)]
        self._devices: list[dict[str, Any]] = []
        self._taken = self._cpu_ns = 0
        self._found = False
        self._reasons = dict[str, None]()

    def start(self) -> None:
        """Start. The threads inherit the signals that the caller has blocked."""
        self._threads[0].start()

    def stop(self) -> SampledGpus:
        """Take a last sample of every device and end. May be called more than once."""
        self._ending.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_PATIENCE_S)
        return SampledGpus(self._taken, self._cpu_ns, self._devices, self._rows())

    def _rows(self) -> list[dict[str, str | None]]:
        if not self._found:
            return []
        family = "nvml" if self._taken else "none"
        reason = "; ".join(self._reasons) or None
        return [
            {
                "event": EVENT,
                "family": family,
                "target": _LIBRARY,
                "build_id": None,
                "reason": reason,
            }
        ]

    def _run(self) -> None:
        try:
            ctypes.CDLL(_LIBRARY)
        except OSError:
            return  # no NVIDIA driver
        self._found = True
        try:
            nvml: Any = import_module("pynvml")
        except ImportError:
            self._reasons["nvidia-ml-py is not installed: pip install 'cvmprof[gpu]'"] = None
            return
        try:
            handles = self._opened(nvml)
        except nvml.NVMLError as error:
            self._reasons[f"NVML: {error}"] = None
            return
        pcie = threading.Thread(target=self._sample_pcie, args=(nvml, handles), daemon=True)
        self._threads.append(pcie)
        pcie.start()
        self._sample(handles, INTERVAL_S, _usage(nvml), nvml.NVMLError)

    def _opened(self, nvml: Any) -> list[Any]:
        """The devices; the journal gets their names. Raises NVMLError."""
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
        if count > MAX_DEVICES:
            self._reasons[f"only the first {MAX_DEVICES} of {count} GPUs were sampled"] = None
        handles = [
            nvml.nvmlDeviceGetHandleByIndex(number) for number in range(min(count, MAX_DEVICES))
        ]
        self._devices = [
            {
                "index": number,
                "uuid": str(nvml.nvmlDeviceGetUUID(handle)),
                "name": str(nvml.nvmlDeviceGetName(handle)),
                "memory_bytes": int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
            }
            for number, handle in enumerate(handles)
        ]
        return handles

    def _sample_pcie(self, nvml: Any, handles: list[Any]) -> None:
        self._sample(handles, PCIE_INTERVAL_S, _throughput(nvml), nvml.NVMLError)

    def _sample(
        self,
        handles: list[Any],
        interval_s: float,
        parts: dict[int, Callable[[Any], Values]],
        refused: type[Exception],
    ) -> None:
        """Sample until the end. Of a device that answers no question any more, that is said."""
        before_ns = time.thread_time_ns()
        answering = set[int]()
        ends = False
        while not ends:
            ends = self._ending.wait(interval_s)
            for number, handle in enumerate(handles):
                values, held = _asked(handle, parts, refused)
                if held:
                    answering.add(number)
                    self._write(device=number, held=held, **values)
                elif number in answering:
                    self._reasons[f"GPU {number} stopped answering"] = None
        self._cpu_ns += time.thread_time_ns() - before_ns

    def _write(self, **values: int) -> None:
        record = events.GPU_SAMPLE.pack(time_ns=time.monotonic_ns(), **values)
        try:
            os.write(self._samples, record)
        except OSError as error:
            self._reasons[f"a sample could not be written: {error.strerror}"] = None
        else:
            self._taken += 1


def _asked(
    handle: Any, parts: dict[int, Callable[[Any], Values]], refused: type[Exception]
) -> tuple[Values, int]:
    """What a device tells, and the bits of what it told."""
    values, held = dict[str, int](), 0
    for bit, ask in parts.items():
        try:
            values |= ask(handle)
        except refused:
            continue
        held |= bit
    return values, held


def _usage(nvml: Any) -> dict[int, Callable[[Any], Values]]:
    """What NVML answers at once, by the bit of a sample."""
    return {
        events.GPU_SAMPLE_UTILISATION: lambda handle: {
            "utilisation_percent": nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        },
        events.GPU_SAMPLE_MEMORY: lambda handle: {
            "memory_bytes": nvml.nvmlDeviceGetMemoryInfo(handle).used
        },
        events.GPU_SAMPLE_POWER: lambda handle: {"power_mw": nvml.nvmlDeviceGetPowerUsage(handle)},
        events.GPU_SAMPLE_CLOCK: lambda handle: {
            "clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
        },
    }


def _throughput(nvml: Any) -> dict[int, Callable[[Any], Values]]:
    """What NVML measures while the caller waits."""

    def ask(handle: Any) -> Values:
        received, sent = nvml.NVML_PCIE_UTIL_RX_BYTES, nvml.NVML_PCIE_UTIL_TX_BYTES
        return {
            "pcie_rx_bytes_s": nvml.nvmlDeviceGetPcieThroughput(handle, received) * _KB,
            "pcie_tx_bytes_s": nvml.nvmlDeviceGetPcieThroughput(handle, sent) * _KB,
        }

    return {events.GPU_SAMPLE_PCIE: ask}
