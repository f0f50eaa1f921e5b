"""Files that several processes read, and an open file that several threads read through."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...profiler.attribution.page_cache import answered_reads
from ..material import Material, file_names
from .contention import lock_kinds
from .fetching import fetch_summary
from .held import REQUEST, Held, Linked, chosen, held
from .sums import total

_HANDLE = ["mount_id", "node_id", "handle"]


@dataclass(frozen=True)
class SharedFiles:
    """Files for which more than one process of the command waited.

    ``processes``: that waited for the file with the most bytes read, which is ``path``.
    ``read_bytes`` by their read operations, ``asked_bytes`` by READs; ``chunks`` of them were
    fetched. ``held`` by operations on them that waited for requests.
    """

    files: int
    processes: int
    path: str | None
    read_bytes: int
    asked_bytes: int
    chunks: int
    held: Held


@dataclass(frozen=True)
class OneHandle:
    """The open file through which several threads read, that was waited for longest.

    ``fetches`` of chunks were made for it, ``mean_at_once`` in progress while there was any.
    ``held`` by its READs; ``locked_ns``: those of one thread waited while the
    lock of that open file was held for another's, summed.
    """

    path: str | None
    threads: int
    fetches: int
    mean_at_once: float
    held: Held
    locked_ns: int


def shared_files(material: Material, pieces: Linked) -> SharedFiles:
    """Return what is known of the files that several processes read."""
    shared = _shared(material)
    operations = material.frames["operations"].join(shared, on="file_id", how="semi")
    nodes = shared.join(material.frames["files"], on="file_id").select("mount_id", node_id="inode")
    reads = answered_reads(material.own["fuse_requests"])
    chunks = material.own["fetches"].filter(outcome="downloaded", object_kind="chunk")
    first = shared.row(0, named=True) if shared.height else None
    return SharedFiles(
        files=shared.height,
        processes=first["processes"] if first else 0,
        path=first["path"] if first else None,
        read_bytes=total(shared, "bytes"),
        asked_bytes=total(reads.join(nodes, on=["mount_id", "node_id"], how="semi"), "size_bytes"),
        chunks=chunks.join(shared, on="file_id", how="semi").height,
        held=held(chosen(pieces, pl.col("unique").is_not_null()), operations, "op_id"),
    )


def _shared(material: Material) -> pl.DataFrame:
    """The files that several processes waited for, the most bytes first: file_id, path, processes,
    bytes.

    Processes that read a file one after another do not wait for it together: the first one does.
    """
    is_access = pl.col("kind").is_in(["read", "splice", "fault", "populate"])
    is_call = pl.col("kind").is_in(["read", "splice"])
    operations = material.frames["operations"].filter(is_access & (pl.col("result") >= 0))
    by_operations = operations.select(
        "file_id", "pid", bytes=pl.when(is_call).then("result").otherwise(0)
    )
    hits = material.frames["hits"].filter(pl.col("count") > 0).select("file_id", "pid", "bytes")
    used = pl.concat([by_operations, hits]).drop_nulls("file_id").group_by("file_id")
    waited = material.frames["segments"].drop_nulls("unique").select("op_id")
    waiting = operations.join(waited, on="op_id", how="semi").group_by("file_id")
    return (
        used.agg(pl.col("bytes").sum())
        .join(waiting.agg(processes=pl.col("pid").n_unique()), on="file_id")
        .filter(pl.col("processes") > 1)
        .join(file_names(material.frames), on="file_id")
        .sort("bytes", "processes", "path", descending=[True, True, False])
    )


def one_handle(material: Material, pieces: Linked) -> OneHandle | None:
    """Return the open file that several threads waited for longest; None where there is none."""
    reads = answered_reads(material.own["fuse_requests"])
    readers = reads.group_by(_HANDLE).agg(threads=pl.col("tid").n_unique())
    several = reads.join(readers.filter(pl.col("threads") > 1), on=_HANDLE)
    waits = pieces.threads.join(several.select(*REQUEST, *_HANDLE[1:]), on=REQUEST)
    longest = waits.group_by(_HANDLE).agg(pl.col("ns").sum()).sort("ns", *_HANDLE).tail(1)
    if longest.is_empty():
        return None
    of_handle = several.join(longest, on=_HANDLE, how="semi")
    made = material.own["fetches"].filter(outcome="downloaded", object_kind="chunk")
    fetches = made.join(of_handle, on=REQUEST, how="semi")
    waits_for_locks = material.own["lock_waits"].join(of_handle, on=REQUEST, how="semi")
    return OneHandle(
        path=_path(material, longest),
        threads=of_handle["threads"][0],
        fetches=fetches.height,
        mean_at_once=fetch_summary(fetches, material.window).mean_at_once,
        held=held(pieces, of_handle, REQUEST),
        locked_ns=lock_kinds(waits_for_locks, of_handle).get("same_handle", 0),
    )


def _path(material: Material, handle: pl.DataFrame) -> str | None:
    files = material.frames["files"].join(
        handle, left_on=["mount_id", "inode"], right_on=["mount_id", "node_id"], how="semi"
    )
    paths = files.join(file_names(material.frames), on="file_id", suffix="_known")["path_known"]
    return paths[0] if paths.len() else None
