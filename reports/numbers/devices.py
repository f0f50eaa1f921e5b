"""Devices: how they are called, how they are known, and what they did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ...profiler.intervals import united
from ...profiler.tables import COMPUTING_KINDS
from ..material import Frames, Material
from .sums import by_cause, total

#: rows of `gpu_ops` whose times are the device's own, or those of what stands for it
ON_DEVICE = pl.col("source").cast(pl.String) != "cuda_api"
#: how a device is known, from the least to the best
SOURCES = ("runner", "cuda_api", "cupti")


@dataclass(frozen=True)
class Device:
    """A device that did or waited for anything.

    ``device`` is its name in the tables, ``source`` how it is known: cupti (the device itself),
    cuda_api (calls only: of the device's work nothing is known) or runner (inferences stand for
    it). ``runs`` counts kernels, graphs or inferences, and ``busy_ns`` is time with any of them.
    """

    device: str
    index: int | None
    model: str | None
    memory_bytes: int | None
    source: str
    runs: int
    busy_ns: int
    copied_in_bytes: int
    copied_out_bytes: int
    stalls: int
    stalled_ns: int
    causes_ns: dict[str, int]

    @property
    def name(self) -> str:
        """The name in a few characters: GPU 0; the beginning of ``device`` without an index."""
        if self.source == "runner":
            return "runner"
        return self.device[:12] if self.index is None else f"GPU {self.index}"

    @property
    def label(self) -> str:
        """The name, and the model where it is known."""
        return self.name if self.model is None else f"{self.name} · {self.model}"

    @property
    def identity(self) -> str:
        """The label, and what the driver calls the device."""
        return self.label if self.source == "runner" else f"{self.label} · {self.device}"


def least_known(devices: tuple[Device, ...]) -> str:
    """Return how the devices that have stalls are known: by the least of their sources."""
    found = {device.source for device in devices if device.stalls}
    return next((each for each in SOURCES if each in found), SOURCES[-1])


def devices(material: Material) -> tuple[Device, ...]:
    """Return the devices by index, those without one last, by name."""
    frames = material.frames
    rows = {row["device"]: row for row in frames["devices"].iter_rows(named=True)}
    known = _sources(frames)
    found = (
        _device({"device": name, "source": source, **rows.get(name, {})}, material)
        for name, source in known.items()
    )
    return tuple(sorted(found, key=lambda each: (each.index is None, each.index, each.device)))


def _sources(frames: Frames) -> dict[str, str]:
    """How each device is known that has an operation or a stall."""
    used = ("gpu_ops", "stalls")
    known = pl.concat(
        frames[name].select("device", pl.col("source").cast(pl.String)) for name in used
    )
    return dict(
        known.unique("device", keep="first", maintain_order=True).sort("device").iter_rows()
    )


def _device(row: Mapping[str, Any], material: Material) -> Device:
    """``row``: that of the table `devices`, with source."""
    frames, of_device = material.frames, pl.col("device") == row["device"]
    operations = frames["gpu_ops"].filter(of_device & ON_DEVICE)
    kind = pl.col("kind").cast(pl.String)
    computing = operations.filter(kind.is_in(COMPUTING_KINDS))
    stalls = (
        frames["stalls"].filter(of_device).with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    )
    spent = material.stall_causes.join(stalls.select("stall_id"), on="stall_id")
    return Device(
        device=row["device"],
        index=row.get("index"),
        model=row.get("name"),
        memory_bytes=row.get("memory_bytes"),
        source=row["source"],
        runs=computing.height,
        busy_ns=_covered(computing),
        copied_in_bytes=total(operations.filter(kind == "copy_in"), "bytes"),
        copied_out_bytes=total(operations.filter(kind == "copy_out"), "bytes"),
        stalls=stalls.height,
        stalled_ns=total(stalls, "ns"),
        causes_ns=by_cause(spent),
    )


def _covered(operations: pl.DataFrame) -> int:
    """The time covered by at least one of the operations of a device."""
    spans = united(operations, "device")
    return total(spans.select(ns=pl.col("end_ns") - pl.col("start_ns")), "ns")
