"""Table `chunks`, from the client's extended attributes of each file."""

from __future__ import annotations

import polars as pl

from ..intervals import latest_begun
from ..run.hashes import hash_of_text
from ..run.journal import Journal
from ..tables import conform, empty

_LIST, _HASH = "user.chunk_list", "user.hash"


def chunks(journal: Journal, files: pl.DataFrame, mounts: pl.DataFrame) -> pl.DataFrame:
    """Read chunk lists; a file without one is a single chunk, its ``user.hash``.

    ``user.chunk_list`` is CSV (hash, offset, size); its header repeats at every page. ``files``,
    ``mounts``: the tables. Files with neither attribute have no rows.
    """
    attributes = _attributes(journal)
    if not attributes.height:
        return empty("chunks")
    devices = mounts.select("mount_id", "device")
    named = files.join(devices, on="mount_id").join(attributes, on=["device", "path"])
    listed = _listed(named)
    single = (
        named.join(listed, on="file_id", how="anti")
        .select(
            "file_id",
            object_hash=hash_of_text(pl.col("hash")),
            offset_bytes=pl.lit(0, pl.Int64),
            size_bytes="size_bytes",
        )
        .drop_nulls()
    )
    both = (
        pl.concat([listed, single])
        .sort("file_id", "offset_bytes")
        .with_columns(index=pl.int_range(pl.len()).over("file_id"))
    )
    return conform("chunks", both)


def _attributes(journal: Journal) -> pl.DataFrame:
    """The files' attributes: device, path, chunk_list?, hash?; the last line of a path counts."""
    rows = [
        {
            "device": line.get("device"),
            "path": line.get("path"),
            "chunk_list": line["attributes"].get(_LIST),
            "hash": line["attributes"].get(_HASH),
        }
        for line in journal.of("attributes")
        if isinstance(line.get("attributes"), dict) and line.get("path")
    ]
    names = ("device", "path", "chunk_list", "hash")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String()), orient="row")
    return frame.unique(["device", "path"], keep="last", maintain_order=True)


def _listed(named: pl.DataFrame) -> pl.DataFrame:
    lines = named.select("file_id", line=pl.col("chunk_list").str.split("\n")).explode("line")
    fields = lines.with_columns(pl.col("line").str.strip_chars().str.split(","))
    parsed = fields.filter(pl.col("line").list.len() >= 3).select(
        "file_id",
        object_hash=hash_of_text(pl.col("line").list.get(0)),
        offset_bytes=pl.col("line").list.get(1).cast(pl.Int64, strict=False),
        size_bytes=pl.col("line").list.get(2).cast(pl.Int64, strict=False),
    )
    return parsed.drop_nulls().unique(["file_id", "offset_bytes"], maintain_order=True)


def with_cache_state(
    chunks: pl.DataFrame, lookups: pl.DataFrame, files: pl.DataFrame
) -> pl.DataFrame:
    """Add ``cached_at_start``: whether the first lookup of the object hit its mount's cache."""
    first = (
        lookups.sort("start_ns")
        .group_by("mount_id", "object_hash", maintain_order=True)
        .agg(cached_at_start=pl.col("hit").first())
    )
    with_mount = chunks.drop("cached_at_start").join(
        files.select("file_id", "mount_id"), on="file_id", maintain_order="left"
    )
    joined = with_mount.join(
        first, on=["mount_id", "object_hash"], how="left", maintain_order="left"
    )
    return conform("chunks", joined)


def chunk_at(requests: pl.DataFrame, chunks: pl.DataFrame) -> pl.DataFrame:
    """The chunks that READ requests need: request, object_hash.

    At most the first and the last of each request: a READ is far smaller than a chunk.
    ``requests``: request, file_id, offset_bytes, size_bytes.
    """
    size = pl.max_horizontal(pl.col("size_bytes"), pl.lit(1))
    firsts = requests.select("request", "file_id", at="offset_bytes")
    lasts = requests.select("request", "file_id", at=pl.col("offset_bytes") + size - 1)
    starts = chunks.select(
        "file_id", "object_hash", "offset_bytes", end=pl.col("offset_bytes") + pl.col("size_bytes")
    )
    bytes_needed = pl.concat([firsts, lasts])
    at_bytes = latest_begun(bytes_needed, starts, at="at", begin="offset_bytes", by="file_id")
    return at_bytes.filter(pl.col("at") < pl.col("end")).select("request", "object_hash").unique()
