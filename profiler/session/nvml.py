"""NVIDIA's management library, through nvidia-ml-py: which GPUs there are, and what one measures.

NVML takes no notice of CUDA_VISIBLE_DEVICES: it shows every GPU of the machine. A GPU that is
divided into MIG instances is shown as a whole; NVML then has no utilisation for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, TypeVar

from ...probes.gpus import Gpu, Gpus, driver_version, found_gpus

Answer = TypeVar("Answer")

LIBRARY = "libnvidia-ml.so.1"
#: GPUs of one machine that are looked at, in NVML's order
MAX_GPUS = 16
_PACKAGE = "the Python package nvidia-ml-py is not installed: pip install 'cvmprof[nvml]'"
#: NVML says KB/s, and not which; its own tools count 1024 bytes
_KIB = 1024
#: what NVML answers in 32 and 64 bits where a value is missing
_NOT_AVAILABLE = {(1 << 32) - 1, (1 << 64) - 1}

#: how each of GPU_MEASURES is asked for, of a module pynvml and a device's handle
_QUERIES: dict[str, Callable[[Any, Any], int]] = {
    "utilisation_percent": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "memory_bytes": lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    "power_mw": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu),
    "clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "pcie_rx_bytes_s": lambda nvml, gpu: (
        nvml.nvmlDeviceGetPcieThroughput(gpu, nvml.NVML_PCIE_UTIL_RX_BYTES) * _KIB
    ),
    "pcie_tx_bytes_s": lambda nvml, gpu: (
        nvml.nvmlDeviceGetPcieThroughput(gpu, nvml.NVML_PCIE_UTIL_TX_BYTES) * _KIB
    ),
}


class NvmlUnavailable(Exception):
    """NVML cannot be used. Without a reason NVIDIA's library is not there: no NVIDIA GPU either."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason)
        self.reason = reason


class GpuLost(Exception):
    """A GPU no longer answers, and will not until the driver is loaded again."""


class Nvml:
    """NVML, ready to be asked. ``gpus`` are those that can be: of the first of the machine, which
    has ``count``.

    Raises NvmlUnavailable.
    """

    def __init__(self) -> None:
        if not _is_installed():
            raise NvmlUnavailable(None)
        try:
            self._nvml: Any = import_module("pynvml")
        except ImportError as error:
            raise NvmlUnavailable(_PACKAGE) from error
        self._errors = (self._nvml.NVMLError, AttributeError, UnicodeDecodeError)
        self._lasting = {
            self._nvml.NVML_ERROR_NOT_SUPPORTED,
            self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            self._nvml.NVML_ERROR_NO_PERMISSION,
        }
        self._fatal = {
            self._nvml.NVML_ERROR_GPU_IS_LOST,
            self._nvml.NVML_ERROR_GPU_NOT_FOUND,
            self._nvml.NVML_ERROR_RESET_REQUIRED,
        }
        #: what a device does not report: not asked again
        self._refused = set[tuple[int, str]]()
        self._handles = dict[int, Any]()
        try:
            self._nvml.nvmlInit()
            self.count: int = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            raise NvmlUnavailable(f"NVML cannot be used: {error}") from error
        looked_at = (self._gpu(index) for index in range(min(self.count, MAX_GPUS)))
        self.gpus = [gpu for gpu in looked_at if gpu is not None]

    def driver(self) -> str | None:
        """The driver's version."""
        return self._told(lambda nvml: str(nvml.nvmlSystemGetDriverVersion()))

    def measure(self, index: int, name: str) -> int | None:
        """One of GPU_MEASURES of a GPU; None where it does not report it, now or ever.

        Raises GpuLost.
        """
        if (index, name) in self._refused:
            return None
        try:
            value = int(_QUERIES[name](self._nvml, self._handles[index]))
        except self._nvml.NVMLError as error:
            if error.value in self._fatal:
                raise GpuLost(str(error)) from error
            if error.value in self._lasting:
                self._refused.add((index, name))
            return None
        return None if value in _NOT_AVAILABLE else value

    def tells(self, index: int, names: tuple[str, ...]) -> bool:
        """Whether a GPU may still report any of these measures."""
        return any((index, name) not in self._refused for name in names)

    def close(self) -> None:
        """Let go of the driver."""
        self._told(lambda nvml: nvml.nvmlShutdown())

    def _gpu(self, index: int) -> Gpu | None:
        handle = self._told(lambda nvml: nvml.nvmlDeviceGetHandleByIndex(index))
        if handle is None:
            return None
        unnamed = Gpu(index, f"gpu{index}")
        self._handles[index] = handle
        uuid = self._told(lambda nvml: str(nvml.nvmlDeviceGetUUID(handle)))
        return replace(
            unnamed,
            uuid=uuid or unnamed.uuid,
            name=self._told(lambda nvml: str(nvml.nvmlDeviceGetName(handle))),
            memory_bytes=self._told(lambda nvml: int(nvml.nvmlDeviceGetMemoryInfo(handle).total)),
            is_divided=bool(self._told(lambda nvml: nvml.nvmlDeviceGetMigMode(handle)[0])),
        )

    def _told(self, ask: Callable[[Any], Answer]) -> Answer | None:
        """What NVML answers; None where it refuses, or nvidia-ml-py is too old to ask."""
        try:
            return ask(self._nvml)
        except self._errors:
            return None


def _is_installed() -> bool:
    """Whether NVIDIA's library is there, as part of its driver."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def gpus_of_machine(environment: Mapping[str, str]) -> Gpus:
    """All that is known of this machine's GPUs, with libraries as an environment finds them."""
    found = found_gpus(environment)
    try:
        nvml = Nvml()
    except NvmlUnavailable as lack:
        missing = f"{LIBRARY} was not found" if found.driver else None
        return replace(found, unsampled=lack.reason or missing)
    try:
        return replace(found, driver=nvml.driver() or driver_version(), devices=tuple(nvml.gpus))
    finally:
        nvml.close()
