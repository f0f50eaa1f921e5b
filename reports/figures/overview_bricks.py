"""Bricks of the overview: one palette and one set of details for phases, devices and stalls."""

from __future__ import annotations

import polars as pl

from .. import palette
from .lanes import Palette

OVERVIEW_PALETTE: Palette = (
    *((f"stall: {cause}", style.colour) for cause, style in palette.STYLES.items()),
    *palette.DEVICE_STYLES.values(),
    *((cause, palette.STYLES[cause].colour) for cause in ("driver", "device")),
    ("sample", palette.SAMPLED_COLOUR),
    *((f"phase {n}", colour) for n, colour in enumerate(palette.PHASE_COLOURS)),
)
_WORDS = [name for name, _ in OVERVIEW_PALETTE]
_TEXT, _NUMBER, _SIZE, _VALUE = (
    pl.lit(None, dtype=dtype) for dtype in (pl.String, pl.Int32, pl.Int64, pl.Float64)
)
#: what is said of a brick, and its value on lanes that do not have it
_DETAILS: dict[str, pl.Expr] = {
    "what": _TEXT, "because": _TEXT, "device": _TEXT, "stall": _NUMBER, "moved_bytes": _SIZE,
    "memory of the host": _TEXT, "submitted by thread": _NUMBER, "utilisation_percent": _VALUE,
    "memory_bytes": _SIZE, "power_w": _VALUE, "clock_mhz": _VALUE, "PCIe in_bytes_s": _SIZE,
    "PCIe out_bytes_s": _SIZE, "caption": _TEXT,
}  # fmt: skip


def plain(frame: pl.DataFrame, code: pl.Expr, details: dict[str, pl.Expr]) -> pl.DataFrame:
    """Return bricks for one interval each, without a fetch; absent details are null."""
    named = {name: details.get(name, absent) for name, absent in _DETAILS.items()}
    return frame.select(
        "start_ns",
        "end_ns",
        code.cast(pl.UInt8).alias("code"),
        pl.lit(1, dtype=pl.Int32).alias("merged"),
        _NUMBER.alias("fetch_id"),
        *(expression.alias(name) for name, expression in named.items()),
    )


def code_of(word: str) -> int:
    """Return the place in the palette of the entry called so."""
    return _WORDS.index(word)


def code_by(words: pl.Expr) -> pl.Expr:
    """Return the places in the palette of the entries called so."""
    return words.replace_strict(_WORDS, list(range(len(_WORDS))), return_dtype=pl.UInt8)
