"""Tables `gpu_samples` and `devices`: what NVML reported of the machine's GPUs."""

from __future__ import annotations

from typing import Any

import polars as pl

from ...probes.events import GPU_MEASURES
from ..run.journal import Journal
from ..run.spool import Spool
from ..tables import conform

_DEVICE = pl.Schema({
    "device": pl.String(), "index": pl.Int32(), "name": pl.String(), "memory_bytes": pl.Int64(),
})  # fmt: skip


def sampled_devices(journal: Journal) -> pl.DataFrame:
    """Table `devices`, of every GPU that NVML showed, used or not, in its order."""
    listed = journal.of("gpu")[-1:]
    devices: list[dict[str, Any]] = [each for line in listed for each in line["devices"]]
    rows = [_device(each) for each in devices]
    return conform("devices", pl.DataFrame(rows, schema=_DEVICE, orient="row"))


def gpu_samples(spool: Spool, journal: Journal) -> pl.DataFrame:
    """Table `gpu_samples`. A GPU that the journal does not list is called by its number."""
    devices = sampled_devices(journal).select("device", pl.col("index").alias("number"))
    samples = spool.gpu_samples().rename({"device": "number"})
    named = samples.with_columns(
        pl.col("number").cast(pl.Int32),
        *(_if_known(bit, name) for bit, name in enumerate(GPU_MEASURES)),
    ).join(devices, on="number", how="left", maintain_order="left")
    numbered = pl.format("gpu{}", "number")
    return conform(
        "gpu_samples",
        named.with_columns(
            pl.col("device").fill_null(numbered), power_w=(pl.col("power_mw") / 1000).round(3)
        ).sort("time_ns", "number"),
    )


def _if_known(bit: int, name: str) -> pl.Expr:
    is_known = (pl.col("known") // (1 << bit)) % 2 == 1
    return pl.when(is_known).then(name).alias(name)


def _device(listed: dict[str, Any]) -> dict[str, Any]:
    """A row for a device of the journal."""
    index = int(listed["index"])
    return {
        "device": str(listed.get("uuid") or f"gpu{index}"),
        "index": index,
        "name": listed.get("name"),
        "memory_bytes": listed.get("memory_bytes"),
    }
