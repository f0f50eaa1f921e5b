"""The header of a GGUF file: a walk over its metadata to the list of tensors.

The package ``gguf`` maps the file, and makes arrays of a whole vocabulary on the way. Layout and
types: ``docs/gguf.md`` of ggml.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .source import Order, Source, Unreadable
from .tensor import LIMIT, Tensor

MAGIC = b"GGUF"
#: ggml_type: name, elements in a block, bytes of a block
TENSOR_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
#: bytes of a metadata value by its type
_VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _STRING, _ARRAY = 4, 8, 9
_ALIGNMENT_KEY, _DEFAULT_ALIGNMENT = b"general.alignment", 32
_MAX_DIMENSIONS, _MAX_NESTING, _MAX_NAME_BYTES = 8, 4, 1 << 16
_VERSIONS = (2, 3)


@dataclass(frozen=True)
class _Entry:
    """A tensor's line in the header; ``offset`` is relative to the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Cursor:
    """A place in the header that moves on as it is read."""

    def __init__(self, source: Source, at: int, order: Order) -> None:
        self._source = source
        self._order: Order = order
        self.at = at

    def u32(self) -> int:
        self.at += 4
        return self._source.number(self.at - 4, "I", self._order)

    def u64(self) -> int:
        self.at += 8
        return self._source.number(self.at - 8, "Q", self._order)

    def text(self) -> bytes:
        """A string of at most 64 KiB; the rest of a longer one is skipped."""
        size = self.u64()
        found = self._source.piece(self.at, min(size, _MAX_NAME_BYTES))
        self.skip(size)
        return found

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > self._source.size_bytes:
            raise Unreadable(f"ends before byte {self.at:,}, which its header needs")

    def skip_value(self, kind: int, nesting: int = 0) -> None:
        if kind == _STRING:
            self.skip(self.u64())
        elif kind == _ARRAY and nesting < _MAX_NESTING:
            self._skip_array(self.u32(), self.u64(), nesting)
        elif kind in _VALUE_BYTES:
            self.skip(_VALUE_BYTES[kind])
        else:
            raise Unreadable(f"has metadata of an unknown type before byte {self.at:,}")

    def _skip_array(self, kind: int, count: int, nesting: int) -> None:
        if kind in _VALUE_BYTES:
            self.skip(_VALUE_BYTES[kind] * count)
            return
        for _ in range(count):
            self.skip_value(kind, nesting + 1)


def is_gguf(source: Source) -> bool:
    """Whether the file begins with GGUF's magic."""
    return source.size_bytes >= len(MAGIC) and source.piece(0, len(MAGIC)) == MAGIC


def gguf(source: Source) -> Iterator[Tensor | None]:
    """Yield the tensors; None for a damaged entry. Raises Unreadable.

    Shapes are as the file has them: the dimension that varies fastest comes first.
    """
    if not is_gguf(source):
        raise Unreadable("does not begin with GGUF")
    cursor = _Cursor(source, len(MAGIC) + 4, _byte_order(source))
    tensors, pairs = cursor.u64(), cursor.u64()
    alignment = _alignment(cursor, pairs)
    entries = [_entry(cursor) for _ in _counted(tensors)]
    data_start = -(-cursor.at // alignment) * alignment
    ends = sorted({entry.offset for entry in entries} | {source.size_bytes - data_start})
    following = dict(pairwise(ends))
    for entry in entries:
        yield _tensor(entry, data_start, following.get(entry.offset, -1))


def _counted(count: int) -> Iterator[int]:
    """Count to a number that may be too large for ``range`` to have a length."""
    number = 0
    while number < count:
        yield number
        number += 1


def _byte_order(source: Source) -> Order:
    for order in ("<", ">"):
        version = source.number(len(MAGIC), "I", order)
        if version in _VERSIONS:
            return order
    raise Unreadable(f"is of GGUF version {source.number(len(MAGIC), 'I')}, not 2 or 3")


def _alignment(cursor: _Cursor, pairs: int) -> int:
    """Read the metadata; return the data's alignment."""
    alignment = _DEFAULT_ALIGNMENT
    for _ in _counted(pairs):
        key, kind = cursor.text(), cursor.u32()
        if key == _ALIGNMENT_KEY and kind == _UINT32:
            alignment = cursor.u32()
        else:
            cursor.skip_value(kind)
    if not alignment:
        raise Unreadable("aligns its data to 0 bytes")
    return alignment


def _entry(cursor: _Cursor) -> _Entry:
    name, dimensions = cursor.text(), cursor.u32()
    if dimensions > _MAX_DIMENSIONS:
        raise Unreadable(f"has a tensor of {dimensions:,} dimensions")
    shape = tuple(cursor.u64() for _ in range(dimensions))
    text = name.decode("utf-8", "backslashreplace")
    return _Entry(text, shape, cursor.u32(), cursor.u64())


def _tensor(entry: _Entry, data_start: int, following: int) -> Tensor | None:
    """``following``: the offset at which the next tensor begins: where the type is unknown."""
    if not all(dimension < LIMIT for dimension in entry.shape):
        return None
    elements = math.prod(entry.shape)
    name, block, block_bytes = TENSOR_TYPES.get(entry.kind, (f"type {entry.kind}", 0, 0))
    size = elements // block * block_bytes if block else following - entry.offset
    return Tensor(entry.name, data_start + entry.offset, size, name, entry.shape)
