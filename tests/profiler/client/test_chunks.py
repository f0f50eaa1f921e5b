"""Chunk lists with faults, the first lookup of each object, and the chunks that a READ needs."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.profiler.client.chunks import chunk_at, chunks, with_cache_state
from cvmprof.profiler.run.journal import Journal
from cvmprof.tests.profiler.rows import frame, rows

A, B, C = "aa" * 20, "bb" * 20, "cc" * 20
MOUNTS = rows("mounts", {"mount_id": 3, "device": "0:50"}, {"mount_id": 4, "device": "0:51"})
FILES = rows(
    "files",
    {"file_id": 0, "mount_id": 3, "path": "/a", "size_bytes": 25},
    {"file_id": 1, "mount_id": 3, "path": "/b", "size_bytes": 5},
    {"file_id": 2, "mount_id": 4, "path": "/a", "size_bytes": 7},
    {"file_id": 3, "mount_id": 4, "path": "/unsized"},
)
READS = {
    "request": pl.UInt32, "file_id": pl.Int32, "offset_bytes": pl.Int64, "size_bytes": pl.Int64,
}  # fmt: skip


def line(path: str | None, device: str = "0:50", **values: str) -> dict[str, Any]:
    attributes = {f"user.{key}": value for key, value in values.items()}
    return {"kind": "attributes", "device": device, "path": path, "attributes": attributes}


def read(*lines: dict[str, Any]) -> list[tuple[Any, ...]]:
    found = chunks(Journal(lines), FILES, MOUNTS)
    return found.select("file_id", "index", "object_hash", "offset_bytes", "size_bytes").rows()


def test_a_list_is_in_order_of_offsets_and_numbered_per_file() -> None:
    assert read(
        line("/b", hash=C),
        line("/a", chunk_list=f"{B},10,15\n{A},0,10"),
        line("/a", device="0:51", chunk_list=f"{C},0,7"),
    ) == [(0, 0, A, 0, 10), (0, 1, B, 10, 15), (1, 0, C, 0, 5), (2, 0, C, 0, 7)]


def test_the_last_line_of_a_path_counts() -> None:
    assert read(line("/b", hash=A), line("/b", hash=C)) == [(1, 0, C, 0, 5)]


def test_lines_that_are_no_chunk_are_skipped_and_each_offset_counts_once() -> None:
    """A page of the list may repeat what the page before ended with."""
    listed = f"hash,offset,size\n{A},0,10\n{A},0,10\n{B},x,5\n{B},10\nno hash,10,15\n{B},10,\n"
    assert read(line("/a", chunk_list=listed)) == [(0, 0, A, 0, 10)]


def test_a_list_outranks_the_hash_and_a_file_of_unknown_size_has_no_chunk() -> None:
    assert read(line("/a", chunk_list=f"{A},0,10", hash=C)) == [(0, 0, A, 0, 10)]
    assert read(line("/unsized", device="0:51", hash=C), line(None, hash=C)) == []
    assert read({"kind": "attributes", "path": "/a", "attributes": None}) == []
    assert read() == []


def test_the_first_lookup_of_an_object_by_its_own_mount_counts() -> None:
    known = rows(
        "chunks",
        {"file_id": 0, "object_hash": A},
        {"file_id": 2, "object_hash": A},
        {"file_id": 1, "object_hash": B},
        {"file_id": 0, "object_hash": C, "cached_at_start": True},
    )
    lookups = rows(
        "cache_lookups",
        {"mount_id": 3, "object_hash": A, "start_ns": 9, "hit": True},
        {"mount_id": 3, "object_hash": A, "start_ns": 5, "hit": False},
        {"mount_id": 4, "object_hash": A, "start_ns": 7, "hit": True},
        {"mount_id": 4, "object_hash": B, "start_ns": 7, "hit": True},
    )
    found = with_cache_state(known, lookups, FILES)
    assert found.select("file_id", "object_hash", "cached_at_start").rows() == [
        (0, A, False), (2, A, True), (1, B, None), (0, C, None),
    ]  # fmt: skip


def test_a_read_needs_the_chunks_of_its_first_and_its_last_byte() -> None:
    """Each once; none where a gap or another file's chunk lies."""
    known = rows(
        "chunks",
        {"file_id": 0, "object_hash": B, "offset_bytes": 10, "size_bytes": 10},
        {"file_id": 0, "object_hash": A, "offset_bytes": 0, "size_bytes": 10},
        {"file_id": 0, "object_hash": C, "offset_bytes": 30, "size_bytes": 10},
        {"file_id": 1, "object_hash": C, "offset_bytes": 0, "size_bytes": 99},
    )
    reads = frame(
        READS, (0, 0, 0, 10), (1, 0, 9, 2), (2, 0, 10, 0), (3, 0, 19, 1), (4, 0, 20, 10),
        (5, 0, 20, 11), (6, 0, 40, 1), (7, 9, 0, 1),
    )  # fmt: skip
    found = chunk_at(reads, known).sort("request", "object_hash")
    assert found.rows() == [(0, A), (1, A), (1, B), (2, B), (3, B), (5, C)]
