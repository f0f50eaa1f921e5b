"""The header of a safetensors file: 8 bytes of length, then JSON.

https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from .source import Source, Unreadable
from .tensor import Tensor

_LENGTH_BYTES = 8
_METADATA = "__metadata__"


class _Object(list[tuple[str, Any]]):
    """A JSON object as pairs: a name that occurs twice is kept twice."""


def is_safetensors(source: Source) -> bool:
    """Whether the first bytes are a possible length and the beginning of an object."""
    if source.size_bytes <= _LENGTH_BYTES:
        return False
    begins = source.piece(_LENGTH_BYTES, 1) == b"{"
    return begins and source.number(0, "Q") <= source.size_bytes - _LENGTH_BYTES


def safetensors(source: Source) -> Iterator[Tensor | None]:
    """Yield the tensors; None for a damaged entry. Raises Unreadable."""
    length = source.number(0, "Q")
    text = source.piece(_LENGTH_BYTES, length)
    try:
        header: object = json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise Unreadable("has a header that is not JSON") from error
    if not isinstance(header, _Object):
        raise Unreadable("has a header that is not a JSON object")
    for name, entry in header:
        if name != _METADATA:
            yield _tensor(name, entry, _LENGTH_BYTES + length)


def _tensor(name: str, entry: object, data_start: int) -> Tensor | None:
    if not isinstance(entry, _Object):
        return None
    values = dict(entry)
    dtype, shape = values.get("dtype"), _integers(values.get("shape"))
    offsets = _integers(values.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None or len(offsets) != 2:
        return None
    begin, end = offsets
    if begin < 0:
        return None
    return Tensor(name, data_start + begin, end - begin, dtype, shape)


def _integers(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list) or isinstance(value, _Object):
        return None
    values = cast("list[object]", value)
    numbers = tuple(each for each in values if type(each) is int)
    return numbers if len(numbers) == len(values) else None
