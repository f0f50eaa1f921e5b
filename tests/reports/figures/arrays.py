"""Reads the arrays of figures back."""

from __future__ import annotations

import base64
import struct
from typing import Any

FORMATS = {"f8": "d", "i4": "i", "u1": "B", "f4": "f"}


def numbers(encoded: dict[str, Any]) -> list[float]:
    """The numbers of an encoded array."""
    raw = base64.b64decode(encoded["bdata"])
    code = FORMATS[encoded["dtype"]]
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))
