"""READs of the command: of which size, in which order, from where, and which of them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from ...profiler.attribution.page_cache import answered_reads
from ...profiler.intervals import latest_begun
from ..material import IS_FILE_DATA, Frames, Material, file_names
from .held import REQUEST, Held, Linked, held, held_by, without_fetches
from .sums import count_of, total

PAGE_BYTES = 4096
#: the file of a request, as the kernel names it to the client
NODE = ["mount_id", "node_id"]
#: a request up to this size is small: the kernel reads ahead 128 KiB unless it is set otherwise
SMALL_BYTES = 4 * PAGE_BYTES
#: stands for the size of a file where it is not known
_ANY_SIZE = 1 << 62


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
    """READs of at most ``SMALL_BYTES`` of ``files`` that are larger, unless they are the rest of a
    file of which a larger one brought what lies before.

    ``ordered``: how many begin where the thread's last READ of the file ended; ``backwards``: how
    many end where that one began; ``by_fault``: how many a page fault queued. ``inserted_bytes`` of
    these files were put into the page cache. ``held``: by the operations that queued them, without
    fetches.
    """

    count: int
    bytes: int
    files: int
    ordered: int
    backwards: int
    by_fault: int
    inserted_bytes: int
    held: Held


@dataclass(frozen=True)
class Answered:
    """READs that the client answered from its cache: no fetch was made for them.

    ``bytes``: of their files, as far as these reach. ``held``: by these requests, without fetches
    of others that they waited for. ``fetched_before``: how many began in an object that had been
    downloaded before during the run, for an earlier request of the command;
    ``fetched_for_others``: for a request of another process, which the command did not wait for.
    """

    count: int
    bytes: int
    held: Held
    fetched_before: int = 0
    fetched_for_others: int = 0


@dataclass(frozen=True)
class ReadAgain:
    """READs of bytes that another READ brought as well.

    ``asked_bytes`` of all READs, ``again_bytes`` of these beyond the first time. ``held`` by the
    operations that queued requests of which at least half was read again. ``path``: the file with
    the most, whose bytes were read ``times``, ``path_asked_bytes`` in all; ``inserted_bytes`` of
    its pages were put into the page cache; ``renewed``: its mount was remounted, or its client
    reloaded, between these READs.
    """

    asked_bytes: int
    again_bytes: int
    held: Held
    path: str | None
    times: float
    path_asked_bytes: int
    inserted_bytes: int
    renewed: bool = False


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
    small = _small_reads(material.frames["files"], reads)
    faults = material.frames["operations"].filter(kind="fault")
    files = material.frames["files"].select("mount_id", "file_id", node_id="inode")
    inserted = _inserted(material.frames).join(files, on="file_id").join(small, on=NODE, how="semi")
    return SmallRequests(
        count=small.height,
        bytes=total(small, "size_bytes"),
        files=small.select(NODE).n_unique(),
        ordered=count_of(small, pl.col("follows")),
        backwards=count_of(small, pl.col("precedes")),
        by_fault=small.join(faults, on="op_id", how="semi").height,
        inserted_bytes=total(inserted, "inserted_bytes"),
        held=held(pieces, small, "op_id"),
    )


def _small_reads(files: pl.DataFrame, reads: pl.DataFrame) -> pl.DataFrame:
    """The small READs, with ``follows`` and ``precedes``: whether one begins where the thread's
    last READ of the file ended, or ends where that one began.
    """
    size, begin = pl.col("size_bytes"), pl.col("offset_bytes")
    end, of_thread = begin + size, [*NODE, "tid"]
    placed = reads.with_columns(
        follows=(begin == end.shift().over(of_thread)).fill_null(value=False),
        precedes=(end == begin.shift().over(of_thread)).fill_null(value=False),
        after_large=(size.shift().over(of_thread) > SMALL_BYTES).fill_null(value=False),
    )
    sizes = files.select("mount_id", node_id="inode", file_bytes="size_bytes").unique(NODE)
    of_files = placed.filter(size <= SMALL_BYTES).join(sizes, on=NODE, how="left")
    file_bytes = pl.col("file_bytes").fill_null(_ANY_SIZE)
    is_rest = pl.col("after_large") & pl.col("follows") & (end >= file_bytes)
    return of_files.filter((file_bytes > SMALL_BYTES) & ~is_rest)


def _answered(material: Material, reads: pl.DataFrame, pieces: Linked) -> Answered:
    from_cache = reads.join(material.own["fetches"], on=REQUEST, how="anti")
    ends = material.frames["files"].select("mount_id", node_id="inode", end="size_bytes")
    within = from_cache.join(ends.unique(NODE), on=NODE, how="left").select(
        bytes=pl.min_horizontal("size_bytes", pl.col("end") - pl.col("offset_bytes"))
    )
    return Answered(
        count=from_cache.height,
        bytes=total(within, "bytes"),
        held=held(pieces, from_cache, REQUEST),
        fetched_before=_needed(material.frames, from_cache, material.own["fetches"]),
        fetched_for_others=_needed(material.frames, from_cache, _for_others(material)),
    )


def _for_others(material: Material) -> pl.DataFrame:
    """Fetches for requests of other processes that the command did not wait for."""
    others = material.frames["fetches"].join(material.own["fetches"], on="fetch_id", how="anti")
    asked = material.frames["fuse_requests"].filter(pl.col("pid") > 0)
    return others.join(asked, on=REQUEST, how="semi")


def _needed(frames: Frames, reads: pl.DataFrame, fetches: pl.DataFrame) -> int:
    """How many of the READs began in an object that one of these fetches had downloaded before."""
    files = frames["files"].select("mount_id", "file_id", node_id="inode").unique(NODE)
    placed = reads.join(files, on=NODE).select("mount_id", "file_id", "queued_ns", "offset_bytes")
    end = pl.col("offset_bytes") + pl.col("size_bytes")
    chunks = frames["chunks"].select("file_id", "object_hash", begin="offset_bytes", end=end)
    needed = latest_begun(placed, chunks, at="offset_bytes", begin="begin", by="file_id")
    downloaded = fetches.filter(IS_FILE_DATA & (pl.col("outcome") == "downloaded"))
    came = downloaded.group_by("mount_id", "object_hash").agg(came_ns=pl.col("end_ns").min())
    found = needed.join(came, on=["mount_id", "object_hash"])
    is_before = pl.col("came_ns") <= pl.col("queued_ns")
    return count_of(found, is_before & (pl.col("offset_bytes") < pl.col("end")))


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
        renewed=worst is not None and _renewed(material.frames["incidents"], worst),
    )


def _renewed(incidents: pl.DataFrame, file: dict[str, Any]) -> bool:
    """Whether a mount, or its client, was renewed between the READs of a file."""
    of_mount = pl.col("mount_id").is_null() | (pl.col("mount_id") == file["mount_id"])
    between = pl.col("time_ns").is_between(file["first_ns"], file["last_ns"])
    is_renewal = pl.col("kind").cast(pl.String).is_in(["remount", "reload"])
    return not incidents.filter(is_renewal & of_mount & between).is_empty()


def _inserted(frames: Frames) -> pl.DataFrame:
    """What of each file was put into the page cache: file_id, inserted_bytes."""
    pages = pl.col("pages_inserted").sum()
    return frames["touches"].group_by("file_id").agg(inserted_bytes=pages * PAGE_BYTES)


def repeated_reads(reads: pl.DataFrame) -> pl.DataFrame:
    """Return READs with ``again_bytes``, those that a READ before them in the file brought too."""
    end = pl.col("offset_bytes") + pl.col("size_bytes")
    reached = end.cum_max().shift(1, fill_value=0).over(NODE)
    again = (pl.min_horizontal(end, reached) - pl.col("offset_bytes")).clip(lower_bound=0)
    return reads.sort(*NODE, "offset_bytes", "queued_ns").with_columns(again_bytes=again)


def _by_file(frames: Frames, repeated: pl.DataFrame) -> pl.DataFrame:
    """The files read again, the one with the most first: mount_id, path, asked, times,
    inserted_bytes, and first_ns, last_ns: when the first and the last READ was queued.
    """
    asked, again = pl.col("size_bytes").sum(), pl.col("again_bytes").sum()
    sums = repeated.group_by(NODE).agg(
        asked=asked,
        again=again,
        times=asked / (asked - again),
        first_ns=pl.col("queued_ns").min(),
        last_ns=pl.col("queued_ns").max(),
    )
    files = frames["files"].select("mount_id", "file_id", node_id="inode")
    return (
        sums.filter(pl.col("again") > 0)
        .join(files.unique(NODE), on=NODE)
        .join(file_names(frames), on="file_id")
        .join(_inserted(frames), on="file_id", how="left")
        .with_columns(pl.col("inserted_bytes").fill_null(0))
        .sort("again", "path", descending=[True, False])
    )
