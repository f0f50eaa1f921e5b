"""A model in the format of safetensors, of any size, written without that package."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path


def write_model(path: Path, layers: int, side: int) -> None:
    """Tensors layer.0, layer.1 … of side × side elements of two bytes, all different.

    Finite numbers, small enough that products of many of them stay so.
    """
    size = 2 * side * side
    header = {
        f"layer.{number}": {
            "dtype": "BF16",
            "shape": [side, side],
            "data_offsets": [number * size, (number + 1) * size],
        }
        for number in range(layers)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _ in range(layers):
            file.write(_elements(size))


def tensor_ranges(path: Path) -> dict[str, tuple[int, int]]:
    """(offset in the file, bytes) of each tensor, in the order of the file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    ends = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (8 + length + start, end - start) for name, (start, end) in ends.items()}


def _elements(size: int) -> bytes:
    """Random BF16 numbers between 2**-9 and 2**-7: the high byte of each is the same."""
    data = bytearray(os.urandom(size))
    data[1::2] = b"\x3b" * (size // 2)
    return bytes(data)
