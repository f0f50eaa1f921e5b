"""Table `chunks`: what the client's extended attributes say of each file."""

from __future__ import annotations

from typing import Any

import polars as pl

from ..run.hashes import hash_of_text
from ..run.journal import Journal
from ..tables import conform, empty

_LIST, _HASH = "user.chunk_list", "user.hash"


def chunks(journal: Journal, known: pl.DataFrame, mounted: pl.DataFrame) -> pl.DataFrame:
    """Read chunk lists; a file without one is a single chunk, its ``user.hash``.

    ``user.chunk_list`` is CSV (hash, offset, size) whose header repeats at every page. ``known`` is
    the table `files`, ``mounted`` the table `mounts`. Files without either attribute have no rows.
    """
    said = _attributes(journal)
    if not said.height:
        return empty("chunks")
    devices = mounted.select("mount_id", "device")
    named = known.join(devices, on="mount_id").join(said, on=["device", "path"])
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
    """The files' attributes: device, path, chunk_list?, hash?; the last word per path counts."""
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
    fields = lines.drop_nulls().with_columns(pl.col("line").str.strip_chars().str.split(","))
    parsed = fields.filter(pl.col("line").list.len() >= 3).select(
        "file_id",
        object_hash=hash_of_text(pl.col("line").list.get(0)),
        offset_bytes=pl.col("line").list.get(1).cast(pl.Int64, strict=False),
        size_bytes=pl.col("line").list.get(2).cast(pl.Int64, strict=False),
    )
    return parsed.drop_nulls().unique(["file_id", "offset_bytes"], maintain_order=True)


def with_cache_state(
    chunked: pl.DataFrame, lookups: pl.DataFrame, known: pl.DataFrame
) -> pl.DataFrame:
    """Add ``cached_at_start``: whether the first lookup of the chunk's object hit its mount's
    cache.
    """
    first = (
        lookups.sort("start_ns")
        .group_by("mount_id", "object_hash", maintain_order=True)
        .agg(cached_at_start=pl.col("hit").first())
    )
    placed = chunked.drop("cached_at_start").join(
        known.select("file_id", "mount_id"), on="file_id", maintain_order="left"
    )
    joined = placed.join(first, on=["mount_id", "object_hash"], how="left", maintain_order="left")
    return conform("chunks", joined)


def chunk_at(requests: pl.DataFrame, chunked: pl.DataFrame) -> pl.DataFrame:
    """Which chunks READ requests need: request, object_hash; at most the first and the last of
    each.

    ``requests``: request, file_id, offset_bytes, size_bytes. A READ is far smaller than a chunk.
    """
    size = pl.max_horizontal(pl.col("size_bytes"), pl.lit(1))
    firsts = requests.select("request", "file_id", at="offset_bytes")
    lasts = requests.select("request", "file_id", at=pl.col("offset_bytes") + size - 1)
    starts = chunked.select(
        "file_id", "object_hash", "offset_bytes", end=pl.col("offset_bytes") + pl.col("size_bytes")
    ).sort("offset_bytes")
    found: Any = (
        pl.concat([firsts, lasts])
        .sort("at")
        .join_asof(
            starts, left_on="at", right_on="offset_bytes", by="file_id", check_sortedness=False
        )
    )
    inside = found.filter(pl.col("at") < pl.col("end")).select("request", "object_hash")
    result: pl.DataFrame = inside.unique()
    return result
