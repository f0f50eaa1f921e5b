"""Table `gpu_ops`: inferences that a program named stand for the device without a GPU."""

from __future__ import annotations

import polars as pl

from ..tables import conform

#: the runner's name for one inference: without a GPU these calls stand in for the device
RUN_PHASE = "run"
RUNNER_DEVICE = "runner"


def runner_operations(phases: pl.DataFrame) -> pl.DataFrame:
    """Table `gpu_ops` without a GPU: each ended phase ``run`` is one device operation.

    Only of a program that named it. What cvmprof marked for a framework may be any model of any
    thread, and not what the program calls its device: other work may go on in the gaps.
    """
    named = (pl.col("name") == RUN_PHASE) & pl.col("framework").is_null()
    rows = phases.filter(named & pl.col("end_ns").is_not_null())
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
