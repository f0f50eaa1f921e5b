"""Runs of older schema versions, read as if they had been written today."""

from __future__ import annotations

import polars as pl

from ..tables import table
from .directory import SCHEMA_VERSION

#: tables that a version brought
_TABLES = {
    2: frozenset(("devices", "gpu_calls", "tensors")),
    3: frozenset(("failed_operations", "cpu_waits", "cgroups", "machine_cpu")),
}
#: columns that came later and are never null, with their values in older runs: the runner stood
#: for the device, and an inference was submitted as it began
_COLUMNS: dict[str, dict[str, pl.Expr]] = {
    "gpu_ops": {"pageable": pl.lit(value=False)},
    "reconciliation": {"in_flight": pl.lit(0)},
    "stalls": {
        "submitted_ns": pl.col("end_ns"),
        "copying_in_ns": pl.lit(0),
        "copying_out_ns": pl.lit(0),
        "source": pl.lit("runner"),
    },
}


def is_newer(name: str, version: int) -> bool:
    """Whether a table is newer than a schema version."""
    later = range(version + 1, SCHEMA_VERSION + 1)
    return any(name in _TABLES.get(each, ()) for each in later)


def upgraded(name: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    """A table of an older version with the columns of today."""
    schema, present = table(name).schema(), rows.collect_schema().names()
    values = _COLUMNS.get(name, {})
    return rows.select(
        (pl.col(key) if key in present else values.get(key, pl.lit(None))).cast(dtype).alias(key)
        for key, dtype in schema.items()
    )
