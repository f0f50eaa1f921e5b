"""Bytes of the kernel as text: bytes that are not UTF-8 are shown as escapes, never an error."""

from __future__ import annotations

import re

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


def whole_number(text: object, most: int = 10**15) -> int | None:
    """The number that a client's attribute begins with; None where it is none, or above ``most``.

    ``most``: by default what is above any count of objects or KiB.
    """
    digits = re.match(r"\s*(\d{1,16})(?!\d)", str(text), re.ASCII) if text is not None else None
    return int(digits[1]) if digits and int(digits[1]) <= most else None
