"""The initializers of an ONNX model, by a walk over its protobuf fields that skips their values.

The package ``onnx`` reads the whole file and does not say where in it a value lies. Field numbers
are those of ``onnx/onnx.proto``; values of nodes' attributes and of subgraphs are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from .source import Source, Unreadable
from .tensor import LIMIT, Tensor

#: TensorProto.DataType: names and bits of an element, 0 where that is not fixed
DATA_TYPES = (
    ("UNDEFINED", 0), ("FLOAT", 32), ("UINT8", 8), ("INT8", 8), ("UINT16", 16), ("INT16", 16),
    ("INT32", 32), ("INT64", 64), ("STRING", 0), ("BOOL", 8), ("FLOAT16", 16), ("DOUBLE", 64),
    ("UINT32", 32), ("UINT64", 64), ("COMPLEX64", 64), ("COMPLEX128", 128), ("BFLOAT16", 16),
    ("FLOAT8E4M3FN", 8), ("FLOAT8E4M3FNUZ", 8), ("FLOAT8E5M2", 8), ("FLOAT8E5M2FNUZ", 8),
    ("UINT4", 4), ("INT4", 4), ("FLOAT4E2M1", 4), ("FLOAT8E8M0", 8), ("UINT2", 2), ("INT2", 2),
    ("FLOAT6E2M3", 6), ("FLOAT6E3M2", 6),
)  # fmt: skip
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 13, 14
#: raw_data, or else a packed list of numbers
_VALUES = {4, 5, 7, 9, 10, 11}
_KEY, _VALUE = 1, 2
_EXTERNAL = 1
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_TEXT_BYTES = 4096
_MAX_DIMS_BYTES = 1 << 10


@dataclass(frozen=True)
class _Field:
    """A field of a message: its value, or where its bytes begin and end."""

    number: int
    wire: int
    value: int = 0
    start: int = 0
    end: int = 0


def is_onnx(source: Source) -> bool:
    """Whether the first bytes are ``ir_version`` and the tag of a field that follows it."""
    if source.size_bytes < 4:
        return False
    tag, version, following = source.piece(0, 3)
    return tag == 0x08 and 0 < version < 0x20 and following in b"\x12\x1a\x22\x28\x32\x3a\x42"


def onnx(source: Source) -> Iterator[Tensor | None]:
    """Yield the initializers; None for a damaged one. Raises Unreadable."""
    found_graph = False
    for model in _fields(source, 0, source.size_bytes):
        if model.number == _MODEL_GRAPH and model.wire == _LENGTH:
            found_graph = True
            for graph in _fields(source, model.start, model.end):
                if graph.number == _GRAPH_INITIALIZER and graph.wire == _LENGTH:
                    yield _tensor(source, graph)
    if not found_graph:
        raise Unreadable("has no graph")


@dataclass
class _Draft:
    """What is read of a tensor so far."""

    name: str = ""
    dims: list[int] = field(default_factory=list[int])
    data_type: int = 0
    value: tuple[int, int] = (0, 0)
    external: dict[str, str] = field(default_factory=dict[str, str])
    is_external: bool = False


def _tensor(source: Source, initializer: _Field) -> Tensor | None:
    draft = _Draft()
    try:
        for each in _fields(source, initializer.start, initializer.end):
            _read_into(draft, source, each)
        return _finished(draft)
    except ValueError:
        return None


def _read_into(draft: _Draft, source: Source, each: _Field) -> None:
    if each.number == _DIMS:
        draft.dims += _dims(source, each)
    elif each.number == _DATA_TYPE:
        draft.data_type = each.value
    elif each.number == _NAME:
        draft.name = _text(source, each)
    elif each.number in _VALUES and each.wire == _LENGTH:
        draft.value = (each.start, each.end - each.start)
    elif each.number == _EXTERNAL_DATA:
        entry = {part.number: _text(source, part) for part in _fields(source, each.start, each.end)}
        draft.external[entry.get(_KEY, "")] = entry.get(_VALUE, "")
    elif each.number == _DATA_LOCATION:
        draft.is_external = each.value == _EXTERNAL


def _finished(draft: _Draft) -> Tensor:
    """Raises ValueError where an external offset or length is no number."""
    known = draft.data_type < len(DATA_TYPES)
    dtype, bits = DATA_TYPES[draft.data_type] if known else (f"type {draft.data_type}", 0)
    shape = tuple(draft.dims)
    if not draft.is_external:
        return Tensor(draft.name, *draft.value, dtype, shape)
    offset = int(draft.external.get("offset") or 0)
    length = draft.external.get("length")
    sound = all(0 <= each < LIMIT for each in shape)
    size = int(length) if length else (math.prod(shape) * bits + 7) // 8 if sound else -1
    return Tensor(draft.name, offset, size, dtype, shape, draft.external.get("location", ""))


def _dims(source: Source, each: _Field) -> list[int]:
    if each.wire == _VARINT:
        return [each.value]
    if each.end - each.start > _MAX_DIMS_BYTES:
        raise ValueError("dimensions")
    dims, at = list[int](), each.start
    while at < each.end:
        value, at = _varint(source, at, each.end)
        dims.append(value)
    return dims


def _text(source: Source, each: _Field) -> str:
    size = min(each.end - each.start, _MAX_TEXT_BYTES)
    return source.piece(each.start, size).decode("utf-8", "backslashreplace")


def _fields(source: Source, at: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message between two offsets."""
    while at < end:
        begin = at
        tag, at = _varint(source, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(source, at, end)
            yield _Field(number, wire, value)
            continue
        if wire == _LENGTH:
            size, at = _varint(source, at, end)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise Unreadable(f"is not protobuf at byte {begin:,}")
        if at + size > end:
            raise Unreadable(f"has a field that ends at byte {at + size:,}, beyond its message")
        yield _Field(number, wire, start=at, end=at + size)
        at += size


def _varint(source: Source, at: int, end: int) -> tuple[int, int]:
    """Return a variable-length number of at most 64 bits and the offset after it."""
    data = source.piece(at, min(_MAX_VARINT_BYTES, end - at))
    value = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & ((1 << 64) - 1), at + place + 1
    raise Unreadable(f"is not protobuf at byte {at:,}")
