"""Table `gpu_ops`: the runner's inferences stand for the device while no GPU is recorded."""

from __future__ import annotations

import polars as pl

from ..tables import conform

#: the runner's name for one inference: without a GPU these calls stand in for the device
RUN_PHASE = "run"
RUNNER_DEVICE = "runner"


def runner_operations(phases: pl.DataFrame) -> pl.DataFrame:
    """Table `gpu_ops` without a GPU: each ended phase ``run`` is one device operation."""
    rows = phases.filter((pl.col("name") == RUN_PHASE) & pl.col("end_ns").is_not_null())
    return conform(
        "gpu_ops",
        rows.select(
            "start_ns",
            "end_ns",
            "pid",
            "tid",
            device=pl.lit(RUNNER_DEVICE),
            kind=pl.lit(RUN_PHASE),
            pageable=pl.lit(value=False),
            source=pl.lit("runner"),
        ),
    )
