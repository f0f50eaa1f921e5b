"""What the kernel's page cache supplied that no request of this run had brought."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ...probes import fuse
from ...probes.events import TOUCH_GRANULE_BYTES

_PAGE_BYTES = 4096


def page_cache_bytes(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """What the command used of each granule, and what came to it during the run.

    Returns file_id, granule, read_bytes by read operations, mapped_bytes around page faults,
    fetched_bytes that requests brought or that were put into the page cache, in order of file_id
    and granule. What was used beyond ``fetched_bytes`` was in the page cache already. Files that
    are read through another file (FUSE passthrough) are left out.
    """
    used = _used(tables["touches"])
    brought = _brought(tables["fuse_requests"], tables["files"])
    passed = tables["operations"].filter("passthrough")
    return (
        used.join(brought, on=["file_id", "granule"], how="left")
        .join(passed, on="file_id", how="anti")
        .select(
            "file_id",
            "granule",
            "read_bytes",
            "mapped_bytes",
            fetched_bytes=pl.max_horizontal("inserted_bytes", pl.col("brought_bytes").fill_null(0)),
        )
        .sort("file_id", "granule")
    )


def _used(touches: pl.DataFrame) -> pl.DataFrame:
    """Touches of each granule: file_id, granule, read_bytes, mapped_bytes, inserted_bytes.

    Pages are mapped around every fault, so most are mapped several times: here once.
    """
    sums = touches.group_by("file_id", "granule").agg(
        read_bytes=pl.col("bytes_read").sum(),
        mapped_bytes=pl.col("pages_mapped").sum() * _PAGE_BYTES,
        inserted_bytes=pl.col("pages_inserted").sum() * _PAGE_BYTES,
    )
    return sums.with_columns(pl.col("mapped_bytes").clip(upper_bound=TOUCH_GRANULE_BYTES))


def _brought(requests: pl.DataFrame, files: pl.DataFrame) -> pl.DataFrame:
    """Bytes asked for by READs that were answered: file_id, granule, brought_bytes."""
    inodes = files.select("mount_id", "file_id", node_id="inode").unique(["mount_id", "node_id"])
    reads = answered_reads(requests).join(inodes, on=["mount_id", "node_id"])
    begin, end = pl.col("offset_bytes"), pl.col("offset_bytes") + pl.col("size_bytes")
    first, last = begin // TOUCH_GRANULE_BYTES, (end - 1) // TOUCH_GRANULE_BYTES
    spread = reads.with_columns(granule=pl.int_ranges(first, last + 1)).explode("granule")
    here = pl.col("granule") * TOUCH_GRANULE_BYTES
    inside = pl.min_horizontal(end, here + TOUCH_GRANULE_BYTES) - pl.max_horizontal(begin, here)
    return spread.group_by("file_id", pl.col("granule").cast(pl.Int32)).agg(
        brought_bytes=inside.sum()
    )


def answered_reads(requests: pl.DataFrame) -> pl.DataFrame:
    """Return the READs that brought something: rows of `fuse_requests` by ``queued_ns``."""
    answered = (pl.col("error") == 0) & pl.col("end_ns").is_not_null() & (pl.col("size_bytes") > 0)
    is_read = pl.col("opcode") == fuse.READ
    return requests.filter(is_read & answered).sort("queued_ns", "unique")
