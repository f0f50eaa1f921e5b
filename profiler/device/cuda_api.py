"""Calls of the CUDA driver that uprobes saw: what threads asked for, not what devices did."""

from __future__ import annotations

import polars as pl

from ...probes.events import GPU_FUNCTIONS
from ...probes.gpu import DRIVER_FUNCTIONS
from ..run.times import happened
from ..tables import GPU_CALL_KIND

_KINDS = {
    number: DRIVER_FUNCTIONS[GPU_FUNCTIONS[number]] for number in range(1, len(GPU_FUNCTIONS))
}
_NAMES = dict(enumerate(GPU_FUNCTIONS))


def driver_calls(calls: pl.DataFrame, launches: pl.DataFrame) -> pl.DataFrame:
    """Table `gpu_calls` without gpu_call_id from GPU_CALL and GPU_LAUNCHES records."""
    kind = pl.col("function").replace_strict(_KINDS, return_dtype=GPU_CALL_KIND)
    function = pl.col("function").replace_strict(_NAMES, return_dtype=pl.String)
    known = pl.col("function").is_between(1, len(GPU_FUNCTIONS) - 1)
    single = calls.filter(known).select(
        "pid",
        "tid",
        "start_ns",
        end_ns=happened("end_ns"),
        kind=kind,
        function=function,
        count=pl.lit(1, pl.Int64),
        bytes=pl.when(pl.col("bytes") > 0).then("bytes"),
        result=_result(),
    )
    counted = launches.filter(known).select(
        "pid",
        "tid",
        start_ns="first_ns",
        end_ns="last_ns",
        kind=kind,
        function=function,
        count=pl.col("count").cast(pl.Int64),
        bytes=pl.lit(None, pl.Int64),
        result=pl.lit(None, pl.Int32),
    )
    both = pl.concat([single, counted])
    return both.with_columns(
        correlation=pl.lit(None, pl.Int64), source=pl.lit("cuda_api"), process=pl.lit(-1, pl.Int32)
    )


def _result() -> pl.Expr:
    """A CUresult: the lower half of the register."""
    return pl.when(pl.col("end_ns") > 0).then(pl.col("result").cast(pl.Int32, wrap_numerical=True))
