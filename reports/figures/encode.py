"""Columns as they are stored in the page: typed arrays in base64, each distinct string once.

plotly.js itself reads ``{"dtype": …, "bdata": …}``; our own script decodes the same form, so all
arrays of the page are written in one way.
"""

from __future__ import annotations

import base64
from array import array
from typing import Any, Literal

import polars as pl

Json = dict[str, Any]

_CODES: dict[str, Literal["B", "i", "f", "d"]] = {"u1": "B", "i4": "i", "f4": "f", "f8": "d"}
_LONGEST_TEXT = 300
#: how the page's script writes the values of a column whose name ends so
_UNITS = {
    "_ns": "time", "_bytes": "bytes", "_bytes_s": "rate", "_percent": "%", "_w": "W",
    "_mhz": "MHz",
}  # fmt: skip


def typed(values: pl.Series, dtype: str, rows: int | None = None) -> Json:
    """Return ``values`` as an array of ``dtype`` (u1, i4, f4, f8), null as −1 or NaN.

    With ``rows`` it is a matrix of that many rows, in row-major order.
    """
    is_integer = dtype in ("u1", "i4")
    packed = (
        array(_CODES[dtype], values.cast(pl.Int64).fill_null(-1).to_list())
        if is_integer
        else array(_CODES[dtype], values.cast(pl.Float64).fill_null(float("nan")).to_list())
    )
    encoded: Json = {"dtype": dtype, "bdata": base64.b64encode(packed.tobytes()).decode()}
    if rows:
        encoded["shape"] = f"{rows}, {len(packed) // rows}"
    return encoded


def seconds(values: pl.Series, origin_ns: int) -> pl.Series:
    """Return times in seconds since ``origin_ns``; float64 keeps every nanosecond of a year."""
    return (values - origin_ns).cast(pl.Float64) / 1e9


def column(values: pl.Series) -> Json:
    """Return one detail column: its name, its unit by the name's ending, its values.

    Strings are numbered: ``words`` holds each once, ``data`` the numbers. They go into the page
    unchanged; the page's script makes them visible and never treats them as markup.
    """
    name = values.name
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            label = name.removesuffix(suffix).replace("_", " ")
            return {"name": label, "unit": unit, "data": typed(values, "f8")}
    label = name.replace("_", " ")
    if values.dtype == pl.String:
        return {"name": label, "unit": "text", **_words(values)}
    if values.dtype == pl.Boolean:
        return {"name": label, "unit": "flag", "data": typed(values, "i4")}
    dtype = "i4" if values.dtype == pl.Int32 else "f8"
    return {"name": label, "unit": "number", "data": typed(values, dtype)}


def _words(values: pl.Series) -> Json:
    distinct = values.drop_nulls().unique(maintain_order=True)
    numbers = pl.DataFrame(
        {"word": distinct, "number": pl.Series(range(len(distinct)), dtype=pl.Int32)}
    )
    numbered = values.to_frame("word").join(numbers, on="word", how="left", maintain_order="left")
    return {
        "words": [word[:_LONGEST_TEXT] for word in distinct],
        "data": typed(numbered["number"], "i4"),
    }
