"""Times and sizes with their units, as options take them."""

from __future__ import annotations

import re

import click

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_UNITS_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def time_s(text: str) -> float:
    """Seconds of a time with its unit (20ms, 1.5s). Raises BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min)", text)
    if not match:
        fact = f"{text!r} is not a time: give a number with its unit, such as 20ms or 1.5s"
        raise click.BadParameter(fact)
    return float(match[1]) * _UNITS_S[match[2]]


def size_bytes(text: str) -> int:
    """Bytes of a size (256MB, 8MiB). Raises BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", text.lower())
    if not match:
        raise click.BadParameter(f"{text!r} is not a size: give bytes, such as 256MB or 8MiB")
    return int(float(match[1]) * _UNITS_BYTES[match[2] or ""])
