"""Times in records: 0 means that something has not happened, and becomes null."""

from __future__ import annotations

import polars as pl


def happened(name: str) -> pl.Expr:
    """Return a time column, null where 0."""
    return pl.when(pl.col(name) != 0).then(pl.col(name)).alias(name)
