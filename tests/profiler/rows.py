"""Builders of frames: rows of a table, of which only the columns that matter are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from cvmprof.profiler.tables import conform, table

Schema = Mapping[str, Any]


def rows(name: str, *given: dict[str, Any], **extra: Any) -> pl.DataFrame:
    """Rows of a table. Columns not given are null, or zero, empty or false where that is not
    allowed. ``extra``: types of columns that are kept behind the table's own.
    """
    schema = {**table(name).schema(), **extra}
    solid = [column for column in table(name).columns if not column.nullable]
    defaults = {column.name: _zero(column.dtype) for column in solid}
    unknown = {key for row in given for key in row} - set(schema)
    if unknown:
        raise KeyError(f"{name} has no {', '.join(sorted(unknown))}")
    filled = [{**defaults, **row} for row in given]
    return conform(name, pl.DataFrame(filled, schema=pl.Schema(schema), orient="row"), *extra)


def frame(schema: Schema, *given: tuple[Any, ...]) -> pl.DataFrame:
    """Rows of any columns."""
    return pl.DataFrame(given, schema=pl.Schema(schema), orient="row")


def _zero(dtype: Any) -> Any:
    if isinstance(dtype, pl.Enum):
        return dtype.categories[0]
    if dtype == pl.String:
        return ""
    return False if dtype == pl.Boolean else 0
