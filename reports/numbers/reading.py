"""READs of the command: of which size, in which order, from where, and which of them again."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...profiler.attribution.page_cache import answered_reads
from ..material import Frames, Material, file_names
from .held import REQUEST, Held, Linked, held, held_by, without_fetches
from .sums import count_of, total

PAGE_BYTES = 4096
#: the file of a request, as the kernel names it to the client
NODE = ["mount_id", "node_id"]
#: a request up to this size is small: the kernel reads ahead 128 KiB unless it is set otherwise
SMALL_BYTES = 4 * PAGE_BYTES


@dataclass(frozen=True)
class RequestSize:
    """READs that asked for up to so many bytes, a power of two, and for more than half of that.

    ``waited``: for these requests, fetches included.
    """

    up_to_bytes: int
    count: int
    bytes: int
    waited: Held


@dataclass(frozen=True)
class SmallRequests:
    """READs of at most ``SMALL_BYTES`` of files that are larger.

    ``ordered``: how many begin where the thread's last READ of the file ended; ``by_fault``: how
    many a page fault queued. ``held``: by the operations that queued them, without fetches.
    """

    count: int
    bytes: int
    ordered: int
    by_fault: int
    held: Held


@dataclass(frozen=True)
class Answered:
    """READs that the client answered from its cache: no fetch was made for them.

    ``held``: by these requests, without fetches of others that they waited for.
    """

    count: int
    bytes: int
    held: Held


@dataclass(frozen=True)
class ReadAgain:
    """READs of bytes that another READ brought as well.

    ``asked_bytes`` of all READs, ``again_bytes`` of these beyond the first time. ``held`` by the
    operations that queued requests of which at least half was read again. ``path``: the file with
    the most, whose bytes were read ``times``, ``path_asked_bytes`` in all; ``inserted_bytes`` of
    its pages were put into the page cache.
    """

    asked_bytes: int
    again_bytes: int
    held: Held
    path: str | None
    times: float
    path_asked_bytes: int
    inserted_bytes: int


@dataclass(frozen=True)
class Reading:
    """The READs of the command that were answered, by size, the smallest first."""

    sizes: tuple[RequestSize, ...]
    small: SmallRequests
    answered: Answered
    again: ReadAgain


def reading(material: Material, pieces: Linked) -> Reading:
    """Return how the command's READs looked, and how long they held it."""
    reads = answered_reads(material.own["fuse_requests"])
    local = without_fetches(pieces)
    return Reading(
        sizes=_sizes(reads, pieces),
        small=_small(material, reads, local),
        answered=_answered(material, reads, local),
        again=_again(material, reads, local),
    )


def _sizes(reads: pl.DataFrame, pieces: Linked) -> tuple[RequestSize, ...]:
    powers = pl.lit(2).pow(pl.col("size_bytes").log(2).ceil()).cast(pl.Int64)
    sized = reads.with_columns(up_to_bytes=powers)
    waited = held_by(pieces, sized, "up_to_bytes")
    sums = sized.group_by("up_to_bytes").agg(count=pl.len(), bytes=pl.col("size_bytes").sum())
    rows = sums.sort("up_to_bytes").iter_rows()
    return tuple(
        RequestSize(size, count, asked, waited.get(size, Held(0, 0))) for size, count, asked in rows
    )


def _small(material: Material, reads: pl.DataFrame, pieces: Linked) -> SmallRequests:
    end = pl.col("offset_bytes") + pl.col("size_bytes")
    follows = pl.col("offset_bytes") == end.shift().over(*NODE, "tid")
    files = material.frames["files"].filter(pl.col("size_bytes") <= SMALL_BYTES)
    of_size = reads.with_columns(follows=follows).filter(pl.col("size_bytes") <= SMALL_BYTES)
    small = of_size.join(files, left_on=NODE, right_on=["mount_id", "inode"], how="anti")
    faults = material.frames["operations"].filter(kind="fault")
    return SmallRequests(
        count=small.height,
        bytes=total(small, "size_bytes"),
        ordered=count_of(small, pl.col("follows").fill_null(value=False)),
        by_fault=small.join(faults, on="op_id", how="semi").height,
        held=held(pieces, small, "op_id"),
    )


def _answered(material: Material, reads: pl.DataFrame, pieces: Linked) -> Answered:
    from_cache = reads.join(material.own["fetches"], on=REQUEST, how="anti")
    return Answered(
        count=from_cache.height,
        bytes=total(from_cache, "size_bytes"),
        held=held(pieces, from_cache, REQUEST),
    )


def _again(material: Material, reads: pl.DataFrame, pieces: Linked) -> ReadAgain:
    repeated = repeated_reads(reads)
    by_file = _by_file(material.frames, repeated)
    worst = by_file.row(0, named=True) if by_file.height else None
    mostly = repeated.filter(pl.col("again_bytes") * 2 >= pl.col("size_bytes"))
    return ReadAgain(
        asked_bytes=total(reads, "size_bytes"),
        again_bytes=total(repeated, "again_bytes"),
        held=held(pieces, mostly.filter(pl.col("again_bytes") > 0), "op_id"),
        path=worst["path"] if worst else None,
        times=worst["times"] if worst else 0.0,
        path_asked_bytes=worst["asked"] if worst else 0,
        inserted_bytes=worst["inserted_bytes"] if worst else 0,
    )


def repeated_reads(reads: pl.DataFrame) -> pl.DataFrame:
    """Return READs with ``again_bytes``, those that a READ before them in the file brought too."""
    end = pl.col("offset_bytes") + pl.col("size_bytes")
    reached = end.cum_max().shift(1, fill_value=0).over(NODE)
    again = (pl.min_horizontal(end, reached) - pl.col("offset_bytes")).clip(lower_bound=0)
    return reads.sort(*NODE, "offset_bytes", "queued_ns").with_columns(again_bytes=again)


def _by_file(frames: Frames, repeated: pl.DataFrame) -> pl.DataFrame:
    """The files read again: path, asked, times, inserted_bytes; the one with the most first."""
    asked, again = pl.col("size_bytes").sum(), pl.col("again_bytes").sum()
    sums = repeated.group_by(NODE).agg(asked=asked, again=again, times=asked / (asked - again))
    touched = frames["touches"].group_by("file_id")
    inserted = touched.agg(inserted_bytes=pl.col("pages_inserted").sum() * PAGE_BYTES)
    files = frames["files"].select("mount_id", "file_id", node_id="inode")
    return (
        sums.filter(pl.col("again") > 0)
        .join(files.unique(NODE), on=NODE)
        .join(file_names(frames), on="file_id")
        .join(inserted, on="file_id", how="left")
        .with_columns(pl.col("inserted_bytes").fill_null(0))
        .sort("again", "path", descending=[True, False])
    )
