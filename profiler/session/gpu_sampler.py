"""Sample the machine's GPUs while a command runs, by NVML.

A thread of the session asks each GPU 20 times a second for its utilisation, memory, power and
clock. What goes over PCIe takes NVML 20 ms for each direction, since it counts for that long: a
second thread asks for it, one GPU after the other, and each answer goes into the next sample of its
GPU. The samples between have none.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import asdict, dataclass

from ...probes.catalog import GPU_SAMPLES
from ...probes.events import GPU_MEASURES, GPU_SAMPLE
from ...probes.gpus import other_gpus
from ..record import journal
from .nvml import MAX_GPUS, GpuLost, Nvml, NvmlUnavailable

EVENT = GPU_SAMPLES.name
INTERVAL_S = 0.05
#: from the beginning of one round over PCIe to the next, unless it takes longer
PCIE_INTERVAL_S = 0.25
#: how long a driver that does not answer may delay the end
PATIENCE_S = 2.0
_PCIE = tuple(name for name in GPU_MEASURES if name.startswith("pcie"))
_OTHERS = tuple(name for name in GPU_MEASURES if name not in _PCIE)
Values = dict[str, int]


@dataclass(frozen=True)
class SampledGpus:
    """What a sampler did: samples taken, CPU time used, and its rows for the table `probes`.

    No row where no GPU is here.
    """

    samples: int
    cpu_ns: int
    rows: list[dict[str, str | None]]


class GpuSampler:
    """A thread that samples from `start` to `stop`.

    ``samples`` and ``journal`` are descriptors to append to: records, and a line with the GPUs.
    Importing pynvml and waking the driver takes time: the thread does it while the recorder
    compiles.
    """

    def __init__(self, samples: int, journal: int) -> None:
        self._samples, self._journal = samples, journal
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="GPU sampler", daemon=True)
        self._gaps = list[str]()
        self._samples_taken = self._cpu_ns = 0

    def start(self) -> None:
        """Start. The thread inherits the signals that the caller has blocked."""
        self._thread.start()

    def stop(self) -> SampledGpus:
        """Take a last sample of every GPU and end. May be called more than once."""
        if self._thread.ident is not None and not self._ending.is_set():
            self._ending.set()
            self._thread.join(PATIENCE_S)
        gaps = [*self._gaps, *self._unrecorded()]
        if self._thread.is_alive():
            gaps.append(f"the driver did not answer for {PATIENCE_S:g} s at the end")
        return SampledGpus(self._samples_taken, self._cpu_ns, self._rows("; ".join(gaps)))

    def _rows(self, reason: str) -> list[dict[str, str | None]]:
        if not reason and not self._samples_taken:
            return []
        return [
            {
                "event": EVENT,
                "family": "nvml" if self._samples_taken else "none",
                "target": "libnvidia-ml",
                "build_id": None,
                "reason": reason or None,
            }
        ]

    @staticmethod
    def _unrecorded() -> list[str]:
        others = other_gpus()
        return [f"{', '.join(others)}: only GPUs of NVIDIA are recorded"] if others else []

    def _run(self) -> None:
        try:
            nvml = Nvml()
        except NvmlUnavailable as lack:
            self._gaps += [lack.reason] if lack.reason else []
            return
        before_ns = time.thread_time_ns()
        pcie = _PcieReader(nvml)
        try:
            self._announce(nvml)
            pcie.start()
            self._sample_until_end(nvml, pcie)
        except OSError as error:
            self._gaps.append(f"sampling ended early: {error}")
        finally:
            self._cpu_ns = time.thread_time_ns() - before_ns + pcie.stop()
            if not pcie.is_busy():
                nvml.close()

    def _announce(self, nvml: Nvml) -> None:
        journal.append(
            self._journal, "gpu", driver=nvml.driver(), devices=[asdict(gpu) for gpu in nvml.gpus]
        )
        if nvml.count > MAX_GPUS:
            self._gaps.append(f"only the first {MAX_GPUS} of {nvml.count} GPUs were sampled")
        missing = min(nvml.count, MAX_GPUS) - len(nvml.gpus)
        if missing:
            self._gaps.append(f"{missing} of {nvml.count} GPUs do not answer")
        divided = [str(gpu.index) for gpu in nvml.gpus if gpu.is_divided]
        if divided:
            self._gaps.append(f"MIG instances are not sampled apart (GPU {', '.join(divided)})")

    def _sample_until_end(self, nvml: Nvml, pcie: _PcieReader) -> None:
        left = [gpu.index for gpu in nvml.gpus]
        next_s = time.monotonic()
        ending = False
        while left and not ending:
            next_s = max(next_s + INTERVAL_S, time.monotonic())
            ending = self._ending.wait(next_s - time.monotonic())
            for index in list(left):
                try:
                    self._sample(nvml, index, pcie.taken(index))
                except GpuLost as loss:
                    left.remove(index)
                    self._gaps.append(f"GPU {index} was lost during the run: {loss}")

    def _sample(self, nvml: Nvml, index: int, carried: Values) -> None:
        answers = {name: nvml.measure(index, name) for name in _OTHERS}
        values = {name: each for name, each in answers.items() if each is not None} | carried
        known = sum(1 << bit for bit, name in enumerate(GPU_MEASURES) if name in values)
        record = GPU_SAMPLE.pack(time_ns=time.monotonic_ns(), device=index, known=known, **values)
        os.write(self._samples, record)
        self._samples_taken += 1


class _PcieReader:
    """A thread that measures what goes over PCIe, one GPU after the other."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="GPU PCIe reader", daemon=True)
        self._answers = defaultdict[int, deque[Values]](deque)
        self._cpu_ns = 0

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def taken(self, index: int) -> Values:
        """The oldest answer of a GPU that was not taken yet; empty if there is none."""
        answers = self._answers[index]
        return answers.popleft() if answers else {}

    def stop(self) -> int:
        """End; returns the CPU time used."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE_S / 2)
        return self._cpu_ns

    def is_busy(self) -> bool:
        """Whether a call of the driver has not returned."""
        return self._thread.is_alive()

    def _run(self) -> None:
        before_ns = time.thread_time_ns()
        left = [gpu.index for gpu in self._nvml.gpus]
        while left and not self._ending.is_set():
            begun_s = time.monotonic()
            left = [index for index in left if self._measure(index)]
            self._ending.wait(max(0.0, begun_s + PCIE_INTERVAL_S - time.monotonic()))
        self._cpu_ns = time.thread_time_ns() - before_ns

    def _measure(self, index: int) -> bool:
        """Whether the GPU is worth asking again."""
        values = Values()
        with suppress(GpuLost):
            for name in _PCIE:
                value = self._nvml.measure(index, name)
                if value is not None:
                    values[name] = value
            self._answers[index].append(values)
            return self._nvml.tells(index, _PCIE)
        return False
