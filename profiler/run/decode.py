"""Raw records to polars frames, column by column, never record by record.

A frame's columns have the names of the layout's fields. Times, sizes and results become Int64, task
ids Int32; request numbers, inodes, devices and generations stay unsigned; ``text[N]`` and
``raw[N]`` become Binary, without trailing NULs for text; an ``object`` (a content hash) becomes
integer columns, see ``OBJECT_COLUMNS``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...probes.events import Field, Layout

Records = NDArray[Any]

#: the parts of a content hash: 8 + 8 + 4 bytes of digest, the algorithm's number, the suffix
#: character
OBJECT_COLUMNS = ("object_a", "object_b", "object_c", "object_algorithm", "object_suffix")

_UNSIGNED = {
    "unique",
    "ending_unique",
    "ino",
    "node_id",
    "dev",
    "ending_dev",
    "generation",
    "magic",
}
_OBJECT = np.dtype(
    [
        ("object_a", "<u8"),
        ("object_b", "<u8"),
        ("object_c", "<u4"),
        ("object_algorithm", "<u4"),
        ("object_suffix", "u1"),
    ]
)
_HEADER: list[tuple[str, Any]] = [("_length", "<u4"), ("_page", "<u4")]
_BLOCK_RECORDS = 1 << 15
_NUMBER_TYPES = {
    "u64": "<u8", "i64": "<i8", "u32": "<u4", "i32": "<i4", "u16": "<u2", "i16": "<i2", "u8": "u1",
}  # fmt: skip


def ring_frame(handle: FileIO | None, layout: Layout) -> pl.DataFrame:
    """Decode a ring's spool file: records, each behind a header of 8 bytes.

    Ignores a torn tail and records whose header does not hold the layout's size, since a crash may
    leave either, and what a recorder appends meanwhile. Needs the memory of the result and one
    block.
    """
    dtype = np.dtype(_HEADER + list(layout.dtype()))
    if handle is None:
        return _Columns(layout, 0).frame()
    count = os.fstat(handle.fileno()).st_size // dtype.itemsize
    columns = _Columns(layout, count)
    for block in _blocks(handle, dtype, count):
        good = block["_length"] == layout.size
        columns.add(block if good.all() else block[good])
    return columns.frame()


def plain_frame(data: bytes, layout: Layout) -> pl.DataFrame:
    """Decode payload records without headers; a torn tail is ignored."""
    return records_frame(plain_records(data, layout), layout)


def plain_records(data: bytes, layout: Layout) -> Records:
    """Payload records without headers as a NumPy array; a torn tail is ignored."""
    dtype = np.dtype(list(layout.dtype()))
    return np.frombuffer(data, dtype, count=len(data) // dtype.itemsize)


def records_frame(records: Records, layout: Layout) -> pl.DataFrame:
    """Turn a structured array into a frame."""
    columns = _Columns(layout, len(records))
    columns.add(records)
    return columns.frame()


def _blocks(handle: FileIO, dtype: np.dtype[Any], records: int) -> Iterator[Records]:
    """Yield arrays of whole records: ``records`` in all, fewer where the file ends before."""
    buffer = bytearray(dtype.itemsize * min(records, _BLOCK_RECORDS))
    while filled := handle.readinto(window := memoryview(buffer)[: records * dtype.itemsize]):
        while filled % dtype.itemsize:
            more = handle.readinto(window[filled:])
            if not more:
                break
            filled += more
        records -= filled // dtype.itemsize
        yield np.frombuffer(buffer, dtype, count=filled // dtype.itemsize)


class _Columns:
    """Arrays to fill, one per field."""

    def __init__(self, layout: Layout, capacity: int) -> None:
        self._numbers: dict[str, Records] = {}
        self._texts: dict[str, list[bytes]] = {}
        self._length = 0
        for field in layout.fields:
            self._prepare(field, capacity)

    def _prepare(self, field: Field, capacity: int) -> None:
        if isinstance(field.type, Layout):
            return
        if field.name == "object":
            for name in OBJECT_COLUMNS:
                self._numbers[name] = np.empty(capacity, _OBJECT[name])
        elif field.type.startswith(("text", "raw")):
            self._texts[field.name] = []
        else:
            self._numbers[field.name] = np.empty(capacity, _number_type(field))

    def add(self, records: Records) -> None:
        """Append the fields of structured records."""
        end = self._length + len(records)
        for name, column in self._numbers.items():
            column[self._length : end] = _field_values(records, name)
        for name, texts in self._texts.items():
            texts += records[name].tolist()
        self._length = end

    def frame(self) -> pl.DataFrame:
        """Everything added, as a frame."""
        numbers = {
            name: pl.Series(name, column[: self._length]) for name, column in self._numbers.items()
        }
        texts = {name: pl.Series(name, rows, dtype=pl.Binary) for name, rows in self._texts.items()}
        return pl.DataFrame(numbers | texts)


def _field_values(records: Records, name: str) -> Records:
    if name not in OBJECT_COLUMNS:
        values: Records = records[name]
        return values
    fields, parts = records.dtype.fields, _OBJECT.fields
    assert fields is not None and parts is not None
    offset = fields["object"][1] + parts[name][1]
    itemsize = records.dtype.itemsize
    view = np.dtype(
        {"names": ["part"], "formats": [parts[name][0]], "offsets": [offset], "itemsize": itemsize}
    )
    return records.view(view)["part"]


def _number_type(field: Field) -> str:
    kind = str(field.type)
    if kind in ("u64", "u32") and field.name not in _UNSIGNED:
        kind = "i" + kind[1:]
    return _NUMBER_TYPES[kind]
