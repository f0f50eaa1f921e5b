"""Bytes of the kernel as text: bytes that are not UTF-8 are shown as escapes, never an error."""

from __future__ import annotations

import polars as pl


def visible(raw: bytes) -> str:
    r"""Decode; bytes that are not UTF-8 become ``\xNN``."""
    return raw.decode("utf-8", "backslashreplace")


def c_string(raw: bytes) -> str:
    """Decode up to the first NUL."""
    return visible(raw.split(b"\0", 1)[0])


def c_strings(column: pl.Series) -> pl.Series:
    """Decode a Binary column, each value up to its first NUL."""
    return pl.Series(column.name, [c_string(raw) for raw in column], dtype=pl.String)
