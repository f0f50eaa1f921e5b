"""Samples of GPUs by NVML, and the devices that it knows."""

from __future__ import annotations

import polars as pl

from ...probes import events
from ..run.journal import Journal
from ..tables import conform

_MILLI = 1000


def nvml_devices(journal: Journal) -> pl.DataFrame:
    """The GPUs of the machine, as the session found them: table `devices`."""
    rows = [
        {
            "device": str(row.get("uuid")),
            "index": row.get("index"),
            "name": row.get("name"),
            "memory_bytes": row.get("memory_bytes"),
        }
        for row in journal.rows("gpus")
    ]
    schema = {"device": pl.String, "index": pl.Int32, "name": pl.String, "memory_bytes": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def gpu_samples(samples: pl.DataFrame, devices: pl.DataFrame) -> pl.DataFrame:
    """Table `gpu_samples` from GPU_SAMPLE records and `nvml_devices`."""

    def where(bit: int, value: pl.Expr) -> pl.Expr:
        return pl.when((pl.col("held") & bit) != 0).then(value)

    known = samples.rename({"device": "index"}).join(
        devices.select("index", "device"), on="index", maintain_order="left"
    )
    pcie = events.GPU_SAMPLE_PCIE
    return conform(
        "gpu_samples",
        known.select(
            "time_ns",
            "device",
            utilisation_percent=where(
                events.GPU_SAMPLE_UTILISATION, pl.col("utilisation_percent").cast(pl.Float64)
            ),
            memory_bytes=where(events.GPU_SAMPLE_MEMORY, pl.col("memory_bytes")),
            power_w=where(events.GPU_SAMPLE_POWER, pl.col("power_mw") / _MILLI),
            clock_mhz=where(events.GPU_SAMPLE_CLOCK, pl.col("clock_mhz").cast(pl.Float64)),
            pcie_rx_bytes_s=where(pcie, pl.col("pcie_rx_bytes_s")),
            pcie_tx_bytes_s=where(pcie, pl.col("pcie_tx_bytes_s")),
        ).sort("time_ns", "device", maintain_order=True),
    )
