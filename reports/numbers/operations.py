"""File operations, requests and downloads: how many of each kind, and which never ended."""

from __future__ import annotations

import polars as pl

from ...probes import fuse
from ..material import Frames, file_names
from .sums import count_of, total


def counts(frames: Frames) -> dict[str, int]:
    """Return the number of operations by kind, threads, hits and the hits' ns, and what
    `counts_of_mounts` returns; ``frames``: only what is the command's own.
    """
    operations = frames["operations"]
    by_kind = operations.group_by(pl.col("kind").cast(pl.String)).len().sort("kind")
    return {
        "operations": operations.height,
        **{f"operations_{kind}": number for kind, number in by_kind.iter_rows()},
        "page_cache_hits": total(frames["hits"], "count"),
        "page_cache_ns": total(frames["hits"], "ns"),
        **counts_of_mounts(frames),
        "target_threads": count_of(frames["tasks"], pl.col("role").cast(pl.String) == "target"),
    }


def counts_of_mounts(frames: Frames) -> dict[str, int]:
    """Return the number of requests, lookups in the client's cache and downloads."""
    requests = frames["fuse_requests"]
    return {
        "fuse_requests": requests.height,
        "fuse_reads": count_of(requests, pl.col("opcode") == fuse.READ),
        "fuse_reads_of_no_operation": count_of(
            requests, (pl.col("opcode") == fuse.READ) & pl.col("op_id").is_null()
        ),
        "cache_lookups": frames["cache_lookups"].height,
        "downloads": frames["downloads"].height,
        "download_errors": count_of(frames["downloads"], pl.col("status") >= 400),
    }


def unfinished_operations(frames: Frames, count: int = 20) -> tuple[str, ...]:
    """Describe the operations that never ended, the oldest first."""
    unfinished = (
        frames["operations"]
        .filter(pl.col("end_ns").is_null())
        .sort("start_ns")
        .head(count)
        .join(file_names(frames), on="file_id", how="left", maintain_order="left")
    )
    return tuple(
        f"{row['kind']} of {row['path'] or 'an unknown file'} by thread {row['tid']}"
        + ("" if row["offset_bytes"] is None else f" at offset {row['offset_bytes']}")
        for row in unfinished.iter_rows(named=True)
    )
