"""View of tensors: when each was first needed, and how long threads waited for it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..intervals import next_begun, overlaps

_NEEDS = ("op_id", "file_id", "offset_bytes", "size_bytes", "start_ns")


@dataclass(frozen=True)
class TensorEvidence:
    """The tables of a run in which tensors are found."""

    tensors: pl.DataFrame
    operations: pl.DataFrame
    segments: pl.DataFrame
    fuse_requests: pl.DataFrame
    chunks: pl.DataFrame


def tensor_waits(evidence: TensorEvidence) -> pl.DataFrame:
    """The table `tensors` with first_need_ns?, wait_ns, chunks, fetch_ids.

    ``first_need_ns``: the start of the first operation whose range meets the tensor; null: none
    did, so that the tensor was never used, or came from the page cache alone. ``wait_ns``: time in
    which at least one thread slept until a FUSE request ended, or was about to run after it, for a
    byte of the tensor. That byte is the first of any tensor among those that both the operation and
    the request asked for, so each wait counts for one tensor: a read that spans several waits for
    one of them after the other. ``chunks``: hashes of the objects that hold it, in their order in
    the file; ``fetch_ids``: the fetches waited for. Bytes that several tensors hold belong to the
    one that begins last, and of those that share all their bytes to the first.
    """
    numbered = evidence.tensors.with_row_index("tensor")
    ranges = owned_ranges(numbered)
    return (
        numbered.join(
            _first_needs(evidence, ranges), on="tensor", how="left", maintain_order="left"
        )
        .join(_waits(evidence, ranges), on="tensor", how="left", maintain_order="left")
        .join(_chunks(evidence.chunks, numbered), on="tensor", how="left", maintain_order="left")
        .with_columns(
            pl.col("wait_ns").fill_null(0),
            pl.col("chunks").fill_null(pl.lit([], pl.List(pl.String))),
            pl.col("fetch_ids").fill_null(pl.lit([], pl.List(pl.Int32))),
        )
        .drop("tensor")
    )


def owned_ranges(numbered: pl.DataFrame) -> pl.DataFrame:
    """The bytes that belong to each tensor: tensor, file_id, begin, end; none is in two rows.

    ``numbered``: the table `tensors` with its rows' numbers as tensor.
    """
    ranges = numbered.filter(pl.col("size_bytes") > 0).select(
        "tensor",
        "file_id",
        begin="offset_bytes",
        end=pl.col("offset_bytes") + pl.col("size_bytes"),
    )
    # of those that begin together, the shortest; of equal ones, the first
    once = ranges.sort("file_id", "begin", "end", "tensor").unique(
        ["file_id", "begin"], keep="first", maintain_order=True
    )
    following = pl.col("begin").shift(-1).over("file_id")
    return once.with_columns(end=pl.min_horizontal("end", following))


def _first_needs(evidence: TensorEvidence, ranges: pl.DataFrame) -> pl.DataFrame:
    """tensor, first_need_ns."""
    needs = _needs(evidence.operations, ranges).filter(pl.col("size_bytes") > 0)
    asked = needs.select(
        interval="op_id",
        tid="file_id",
        start_ns="offset_bytes",
        end_ns=pl.col("offset_bytes") + pl.col("size_bytes"),
    )
    tiles = ranges.select("tensor", tid="file_id", start_ns="begin", end_ns="end")
    met = overlaps(asked, tiles).select("tensor", op_id="interval")
    begun = met.join(needs.select("op_id", "start_ns"), on="op_id")
    return begun.group_by("tensor").agg(first_need_ns=pl.col("start_ns").min())


def _needs(operations: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Operations with a range in a file that holds tensors."""
    ranged = operations.select(_NEEDS).drop_nulls()
    return ranged.join(ranges, on="file_id", how="semi")


def _waits(evidence: TensorEvidence, ranges: pl.DataFrame) -> pl.DataFrame:
    """tensor, wait_ns, fetch_ids."""
    waited = _located(evidence, ranges).drop_nulls("tensor")
    fetched = waited.drop_nulls("fetch_id").sort("start_ns")
    fetches = fetched.group_by("tensor", maintain_order=True).agg(
        fetch_ids=pl.col("fetch_id").unique(maintain_order=True)
    )
    ends = pl.col("end_ns").cum_max().shift(1).over("tensor").fill_null(0)
    alone = waited.sort("tensor", "start_ns").select(
        "tensor", ns=pl.col("end_ns") - pl.max_horizontal("start_ns", ends)
    )
    summed = alone.group_by("tensor").agg(wait_ns=pl.col("ns").clip(lower_bound=0).sum())
    return summed.join(fetches, on="tensor", how="left")


def _located(evidence: TensorEvidence, ranges: pl.DataFrame) -> pl.DataFrame:
    """Segments that wait for requests, with the tensor waited for: null where it is none."""
    request = ["mount_id", "unique"]
    needs = _needs(evidence.operations, ranges).drop("start_ns")
    for_request = pl.col("unique").is_not_null() | pl.col("fetch_id").is_not_null()
    waiting = evidence.segments.filter(for_request).join(needs, on="op_id")
    asked = evidence.fuse_requests.unique(request).select(
        *request, asked="offset_bytes", asked_end=pl.col("offset_bytes") + pl.col("size_bytes")
    )
    end = pl.col("offset_bytes") + pl.max_horizontal("size_bytes", 1)
    shared = waiting.join(asked, on=request, how="left").with_columns(
        first=pl.max_horizontal(
            "offset_bytes", pl.min_horizontal(pl.coalesce("asked", "offset_bytes"), end - 1)
        ),
        until=pl.min_horizontal("asked_end", end),
    )
    bytes_asked = shared.with_columns(after=pl.col("first") + 1)
    found = next_begun(bytes_asked, ranges, at="after", begin="end", by="file_id")
    meets = pl.col("begin") < pl.max_horizontal("until", "after")
    return found.with_columns(pl.when(meets).then("tensor"))


def _chunks(chunks: pl.DataFrame, numbered: pl.DataFrame) -> pl.DataFrame:
    """tensor, chunks."""
    asked = numbered.filter(pl.col("size_bytes") > 0).select(
        interval="tensor",
        tid="file_id",
        start_ns="offset_bytes",
        end_ns=pl.col("offset_bytes") + pl.col("size_bytes"),
    )
    tiles = chunks.select(
        "object_hash",
        tid="file_id",
        start_ns="offset_bytes",
        end_ns=pl.col("offset_bytes") + pl.col("size_bytes"),
    )
    met = overlaps(asked, tiles)
    return met.group_by(tensor="interval", maintain_order=True).agg(chunks="object_hash")
