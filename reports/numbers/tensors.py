"""Tensors that were late: how long threads waited for each, and for how many chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ...profiler.attribution.tensors import TensorEvidence, tensor_waits
from ..material import Frames, Material, file_names
from .sums import total

LATEST_TENSORS = 50


@dataclass(frozen=True)
class LateTensor:
    """A tensor that threads waited for. ``chunks``: objects that hold it; ``chunks_waited_for``:
    those whose fetches were waited for; ``first_need_ns``: start of the first operation on its
    bytes; None: not seen.
    """

    name: str
    path: str | None
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int
    first_need_ns: int | None
    wait_ns: int
    chunks: int
    chunks_waited_for: int
    fetch_ids: tuple[int, ...]


@dataclass(frozen=True)
class Tensors:
    """Tensors known, those used by an operation, and those waited for, the latest first.

    ``wait_ns`` is the sum over the tensors: each wait counts for one of them.
    """

    known: int
    needed: int
    late: int
    wait_ns: int
    latest: tuple[LateTensor, ...]


def tensors(material: Material, count: int = LATEST_TENSORS) -> Tensors:
    """Return how many tensors were late, and the ``count`` waited for longest."""
    frames = material.frames
    waits = tensor_waits(
        TensorEvidence(
            tensors=frames["tensors"],
            operations=frames["operations"],
            segments=frames["segments"],
            fuse_requests=frames["fuse_requests"],
            chunks=frames["chunks"],
        )
    )
    late = waits.filter(pl.col("wait_ns") > 0)
    order = ["wait_ns", "file_id", "offset_bytes", "name"]
    latest = late.sort(order, descending=[True, False, False, False]).head(count)
    described = _with_objects(latest, frames).join(
        file_names(frames), on="file_id", how="left", maintain_order="left"
    )
    return Tensors(
        known=waits.height,
        needed=waits["first_need_ns"].count(),
        late=late.height,
        wait_ns=total(late, "wait_ns"),
        latest=tuple(map(_late, described.iter_rows(named=True))),
    )


def _with_objects(latest: pl.DataFrame, frames: Frames) -> pl.DataFrame:
    """Add ``waited_for``: how many objects the fetches waited for were of."""
    rows = latest.with_row_index("row")
    objects = frames["fetches"].select("fetch_id", "object_hash")
    counted = (
        rows.select("row", fetch_id="fetch_ids")
        .explode("fetch_id")
        .join(objects, on="fetch_id")
        .group_by("row")
        .agg(waited_for=pl.col("object_hash").n_unique())
    )
    return rows.join(counted, on="row", how="left", maintain_order="left").with_columns(
        pl.col("waited_for").fill_null(0)
    )


def _late(row: Mapping[str, Any]) -> LateTensor:
    return LateTensor(
        name=row["name"],
        path=row["path"],
        dtype=row["dtype"],
        shape=tuple(row["shape"]),
        offset_bytes=row["offset_bytes"],
        size_bytes=row["size_bytes"],
        first_need_ns=row["first_need_ns"],
        wait_ns=row["wait_ns"],
        chunks=len(row["chunks"]),
        chunks_waited_for=row["waited_for"],
        fetch_ids=tuple(row["fetch_ids"]),
    )
