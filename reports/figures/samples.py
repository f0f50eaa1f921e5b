"""Samples of devices over time: a lane with thin lines, and the values for the pointer."""

from __future__ import annotations

import polars as pl

from .. import palette
from ..material import Window
from ..numbers.devices import Device
from ..words import size
from .lanes import Lane, Line
from .overview_bricks import code_of, plain

#: samples of a device that are drawn; more are averaged
MAX_SAMPLES = 1_500

#: the sampled columns that are drawn as lines, and their names
LINES = {
    "utilisation_percent": "utilisation",
    "memory_bytes": "memory",
    "power_w": "power",
    "pcie_rx_bytes_s": "PCIe in",
}
_VALUES = (*LINES, "clock_mhz", "pcie_tx_bytes_s")


def sampled_lane(device: Device, samples: pl.DataFrame, window: Window) -> Lane:
    """Return the lane of a device's samples: a brick for each, a line for each column it gave."""
    averaged = _averaged(samples, window)
    details = {
        **{name: pl.col(name) for name in ("utilisation_percent", "power_w", "clock_mhz")},
        "device": pl.lit(device.identity),
        "memory_bytes": pl.col("memory_bytes").cast(pl.Int64),
        "PCIe in_bytes_s": pl.col("pcie_rx_bytes_s").cast(pl.Int64),
        "PCIe out_bytes_s": pl.col("pcie_tx_bytes_s").cast(pl.Int64),
    }
    bricks = plain(averaged, pl.lit(code_of("sample")), details)
    tops = {name: _top(name, averaged, device) for name in LINES}
    lines = (_line(name, averaged, top) for name, top in tops.items() if top)
    return Lane(device.label.replace(" · ", "\n"), bricks, tuple(lines))


def scales(samples: pl.DataFrame, devices: tuple[Device, ...]) -> str:
    """Say what the top of each line stands for; nothing without samples."""
    said: list[str] = []
    for device in devices:
        of_device = samples.filter(pl.col("device") == device.device)
        tops = {name: _top(name, of_device, device) for name in LINES}
        named = ", ".join(f"{LINES[name]} {_value(name, top)}" for name, top in tops.items() if top)
        if named:
            said.append(f"{device.name}: {named}")
    return f"The top of the thin lines stands for: {'; '.join(said)}." if said else ""


def _averaged(samples: pl.DataFrame, window: Window) -> pl.DataFrame:
    """The samples in the window, at most `MAX_SAMPLES`, each from the time of the one before."""
    inside = samples.filter(pl.col("time_ns").is_between(window.start_ns, window.end_ns))
    step = max(window.duration_ns // MAX_SAMPLES, 1)
    means = inside.group_by((pl.col("time_ns") // step).alias("bucket")).agg(
        pl.col("time_ns").max(), pl.col(_VALUES).mean()
    )
    before = pl.col("end_ns").shift(1).fill_null(window.start_ns)
    ordered = means.rename({"time_ns": "end_ns"}).sort("end_ns").with_columns(start_ns=before)
    return ordered.filter(pl.col("end_ns") > pl.col("start_ns"))


def _top(column: str, samples: pl.DataFrame, device: Device) -> float | None:
    """What the top of the lane stands for; None where the device never gave this value."""
    highest: float | None = samples.select(pl.col(column).max().cast(pl.Float64)).item()
    if highest is None:
        return None
    if column == "utilisation_percent":
        return 100
    return float(device.memory_bytes or highest) if column == "memory_bytes" else highest


def _value(column: str, value: float) -> str:
    if column == "utilisation_percent":
        return f"{value:.0f} %"
    if column == "power_w":
        return f"{value:.0f} W"
    return size(value) if column == "memory_bytes" else f"{size(value)}/s"


def _line(column: str, averaged: pl.DataFrame, top: float) -> Line:
    points = averaged.select(time_ns="end_ns", height=(pl.col(column) / top).clip(0, 1))
    return Line(palette.SAMPLE_COLOURS[column], points)
