"""Table `tensors`, from the headers of the model files that the command used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import polars as pl

from ..run.journal import Line
from ..tables import Dtype, conform, empty

_ROW: dict[str, Dtype] = {
    "device": pl.String,
    "path": pl.String,
    "name": pl.String,
    "offset_bytes": pl.Int64,
    "size_bytes": pl.Int64,
    "dtype": pl.String,
    "shape": pl.List(pl.Int64),
}
_TYPES = (str, int, int, str, list)


def tensors(lines: Iterable[Line], files: pl.DataFrame, mounts: pl.DataFrame) -> pl.DataFrame:
    """Name the tensors of the files that were used, by file and offset.

    ``lines``: device, path, and tensors of a file, as `profiler.model.reader` answers; files that
    the command did not use are left out. ``files``, ``mounts``: the tables. A tensor that two
    models name alike, in data that they share, is one row.
    """
    rows = [row for line in lines for row in _rows(line)]
    if not rows:
        return empty("tensors")
    named = pl.DataFrame(rows, schema=_ROW, orient="row", strict=False)
    places = files.join(mounts.select("mount_id", "device"), on="mount_id")
    joined = places.select("file_id", "device", "path").join(named, on=["device", "path"])
    once = joined.drop_nulls().unique(["file_id", "name", "offset_bytes", "size_bytes"])
    return conform("tensors", once.sort("file_id", "offset_bytes", "size_bytes", "name"))


def _rows(line: Line) -> list[list[object]]:
    listed: object = line.get("tensors")
    if not isinstance(listed, list):
        return []
    place = [line.get("device"), line.get("path")]
    return [[*place, *row] for row in map(_whole, cast("list[object]", listed)) if row]


def _whole(row: object) -> list[object]:
    """The values of a row that is as it was written, else none."""
    values = cast("list[object]", row) if isinstance(row, list) else []
    if tuple(map(type, values)) != _TYPES:
        return []
    shape = cast("list[object]", values[-1])
    return values if all(type(dimension) is int for dimension in shape) else []
