"""Table `fetches`: for which file each object was fetched, once its download is known.

Fetches are numbered before downloads are paired with them and completed afterwards: the object's
kind, and for objects without a call even its name, stand only in the HTTP request.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...probes import fuse
from ..run.hashes import KIND_BY_SUFFIX
from ..tables import OBJECT_KIND, conform


@dataclass(frozen=True)
class CompletionEvidence:
    """What completes the fetches.

    ``attempts``: see `downloads.attempts`; ``sent``: see `downloads.wire_requests`; ``requests``:
    see `fuse_requests.fuse_requests`; ``files``, ``chunks``: the tables.
    """

    attempts: pl.DataFrame
    sent: pl.DataFrame
    requests: pl.DataFrame
    files: pl.DataFrame
    chunks: pl.DataFrame


def completed_fetches(fetches: pl.DataFrame, evidence: CompletionEvidence) -> pl.DataFrame:
    """The table, plus ``queued_ns``? and ``returned_ns``?.

    ``fetches``: see `fetches.numbered`. The file is that of the FUSE request for which the object
    was fetched.
    """
    sent = _with_downloads(fetches, evidence)
    places = _places(sent, evidence)
    with_place = sent.join(places, on="fetch_id", how="left", maintain_order="left")
    own_kind = _kind_by_name()
    by_place = (
        pl.when(pl.col("chunk_count") > 1)
        .then(pl.lit("chunk"))
        .when(pl.col("chunk_count") == 1)
        .then(pl.lit("file"))
    )
    with_kind = with_place.with_columns(kind=pl.coalesce(own_kind, by_place))
    joined_kind = with_kind.select(joined_fetch_id="fetch_id", joined_kind=own_kind)
    rows = with_kind.join(
        joined_kind, on="joined_fetch_id", how="left", maintain_order="left"
    ).with_columns(object_kind=pl.coalesce("joined_kind", "kind").cast(OBJECT_KIND))
    is_content = pl.col("object_kind").is_in(["chunk", "file"]).fill_null(value=True)
    cleared = rows.with_columns(
        pl.when(is_content).then(pl.col(name)).alias(name)
        for name in ("file_id", "offset_bytes", "unpacked_bytes")
    )
    return conform("fetches", cleared, "queued_ns", "returned_ns")


def _with_downloads(fetches: pl.DataFrame, evidence: CompletionEvidence) -> pl.DataFrame:
    """Add download_id? of the last attempt, suffix?, url_path?; the object's name where missing."""
    attempts = evidence.attempts.sort("attempt")
    last = attempts.group_by("fetch_id").agg(pl.col("download_id").last())
    names = evidence.sent.select("download_id", "suffix", "url_path", wire_hash="object_hash")
    return (
        fetches.join(last, on="fetch_id", how="left", maintain_order="left")
        .join(names, on="download_id", how="left", maintain_order="left")
        .with_columns(object_hash=pl.coalesce("object_hash", "wire_hash"))
    )


def _kind_by_name() -> pl.Expr:
    """The object's kind by the letter behind its hash, else by the path of the request."""
    letter = pl.when(pl.col("object_suffix") != "").then("object_suffix")
    by_suffix = pl.coalesce(letter, "suffix").replace_strict(
        KIND_BY_SUFFIX, default=None, return_dtype=pl.String
    )
    special = pl.col("url_path").str.extract(r"/\.cvmfs(published|whitelist)$")
    return pl.coalesce(by_suffix, special.replace({"published": "manifest"}))


def _places(rows: pl.DataFrame, evidence: CompletionEvidence) -> pl.DataFrame:
    """Where in which file: fetch_id, file_id, offset_bytes?, unpacked_bytes?, chunk_count?.

    Of several files with the same inode number, one after the other, the last counts.
    """
    requests = evidence.requests.select(
        "mount_id", "unique", "opcode", "node_id", at="offset_bytes", length="size_bytes"
    )
    requested = (
        rows.select("fetch_id", "mount_id", "unique", "object_hash")
        .join(requests, on=["mount_id", "unique"])
        .filter(pl.col("opcode").is_in([fuse.READ, fuse.OPEN]))
    )
    node = ["mount_id", "node_id"]
    inodes = evidence.files.select("mount_id", "file_id", node_id="inode").unique(
        node, keep="last", maintain_order=True
    )
    counted = evidence.chunks.select(
        "file_id",
        "object_hash",
        "offset_bytes",
        chunk_count=pl.len().over("file_id"),
        unpacked_bytes="size_bytes",
    )
    candidates = requested.join(inodes, on=node).join(
        counted, on=["file_id", "object_hash"], how="left"
    )
    covers = (pl.col("offset_bytes") < pl.col("at") + pl.col("length")) & (
        pl.col("offset_bytes") + pl.col("unpacked_bytes") > pl.col("at")
    )
    best = candidates.with_columns(covers=covers).sort(
        "fetch_id", "covers", "offset_bytes", descending=[False, True, False]
    )
    return best.unique("fetch_id", keep="first", maintain_order=True).select(
        "fetch_id", "file_id", "offset_bytes", "unpacked_bytes", "chunk_count"
    )
