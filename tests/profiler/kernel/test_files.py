from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import FILE
from cvmprof.profiler.client.chunks import chunk_at, chunks, with_cache_state
from cvmprof.profiler.kernel.files import file_ids, files, with_cached_bytes
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.run.places import file_places
from cvmprof.profiler.tables import conform
from cvmprof.tests.profiler.rows import frame, rows

MOUNTED = pl.DataFrame(
    {"dev": [50], "mount_id": [3], "device": ["0:50"], "start_ns": [None]},
    schema={"dev": pl.UInt32, "mount_id": pl.Int32, "device": pl.String, "start_ns": pl.Int64},
)
PLACE = b"m.onnx\0dir\0repo\0cvmfs\0"


def shown(make_raw: Any) -> pl.DataFrame:
    return file_places(
        make_raw(
            FILE,
            {
                "time_ns": 1,
                "ino": 7,
                "dev": 50,
                "size": 9,
                "components": PLACE,
                "text": 22,
                "mount_text": 11,
                "complete": 1,
                "magic": 0x65735546,
                "filesystem": b"cvmfs2",
            },
            {
                "time_ns": 2,
                "ino": 8,
                "dev": 50,
                "size": 4,
                "components": PLACE,
                "text": 22,
                "mount_text": 11,
                "complete": 0,
                "magic": 0xEF53,
            },
            {
                "time_ns": 3,
                "ino": 1,
                "dev": 50,
                "components": b"repo\0cvmfs\0",
                "text": 11,
                "mount_text": 0,
                "complete": 1,
                "magic": 0x65735546,
            },
            {
                "time_ns": 4,
                "ino": 9,
                "dev": 50,
                "components": b"\xff\0",
                "text": 2,
                "mount_text": 2,
                "complete": 1,
                "filesystem": b"x",
            },
        )
    )


def test_paths_run_from_the_root(make_raw: Any) -> None:
    places = shown(make_raw)
    assert places.select("path", "mountpoint", "filesystem").rows() == [
        ("/cvmfs/repo/dir/m.onnx", "/cvmfs/repo", "fuse.cvmfs2"),
        (None, None, None),
        ("/cvmfs/repo", "/cvmfs/repo", "fuse"),
        ("/\\xff", "/", "x"),
    ]
    assert places["is_superblock"].to_list() == [False, False, True, False]


def test_files_shown_or_named(make_raw: Any) -> None:
    named = pl.DataFrame(
        {"ino": [7, 12], "generation": [0, 5], "mount_id": [3, 3]},
        schema={"ino": pl.UInt64, "generation": pl.UInt32, "mount_id": pl.Int32},
    )
    known = files(shown(make_raw), MOUNTED, [named])
    assert known.select(
        "file_id", "mount_id", "inode", "generation", "path", "size_bytes"
    ).rows() == [
        (0, 3, 7, 0, "/cvmfs/repo/dir/m.onnx", 9),
        (1, 3, 8, 0, None, 4),
        (2, 3, 9, 0, "/\\xff", 0),
        (3, 3, 12, 5, None, None),
    ]
    events = pl.DataFrame(
        {
            "dev": [50, 50, 50, 51],
            "ino": [12, 12, 7, 7],
            "generation": [5, 6, 0, 0],
            "at": [1, 1, 1, 1],
        },
        schema={"dev": pl.UInt32, "ino": pl.UInt64, "generation": pl.UInt32, "at": pl.Int64},
    )
    assert file_ids(events, MOUNTED, known, "at").to_list() == [3, None, 0, None]


def test_a_file_has_its_first_time_and_path_and_its_last_size(make_raw: Any) -> None:
    """Whatever the order of the records; each file once, and none of an unknown mount."""
    at = {"ino": 7, "dev": 50, "text": 2, "mount_text": 2, "complete": 1}
    recorded = file_places(
        make_raw(
            FILE,
            {**at, "time_ns": 9, "size": 3, "components": b"c\0"},
            {**at, "time_ns": 2, "ino": 8, "size": 4, "components": b"d\0"},
            {**at, "time_ns": 1, "size": 1, "components": b"a\0", "complete": 0},
            {**at, "time_ns": 5, "size": 2, "components": b"b\0"},
            {**at, "time_ns": 3, "dev": 51},
        )
    )
    named = frame(
        {"ino": pl.UInt64, "generation": pl.UInt32, "mount_id": pl.Int32},
        (7, 0, 3), (6, 0, 3), (5, 1, 3), (5, 0, 3), (9, 0, None), (7, 0, 3),
    )  # fmt: skip
    known = files(recorded, MOUNTED, [named, named])
    assert known.select("file_id", "inode", "generation", "path", "size_bytes").rows() == [
        (0, 7, 0, "/b", 3),
        (1, 8, 0, "/d", 4),
        (2, 5, 0, None, None),
        (3, 5, 1, None, None),
        (4, 6, 0, None, None),
    ]


A, B, C = "aa" * 20, "bb" * 20, "cc" * 20
FILES = conform(
    "files",
    pl.DataFrame(
        {
            "file_id": [0, 1, 2],
            "mount_id": [3, 3, 3],
            "inode": [7, 8, 9],
            "generation": [0, 0, 0],
            "path": ["/a", "/b", "/c"],
            "size_bytes": [25, 5, 1],
        }
    ),
)


def attributes(path: str, **values: str) -> dict[str, Any]:
    return {
        "kind": "attributes",
        "device": "0:50",
        "path": path,
        "attributes": {f"user.{key}": value for key, value in values.items()},
    }


JOURNAL = Journal(
    (
        attributes(
            "/a", chunk_list=f"hash,offset,size\n{B}P,10,15\n\nhash,offset,size\n{A}-rmd160P,0,10\n"
        ),
        attributes("/b", hash=C),
        attributes("/c", hash="none"),
        {**attributes("/a", chunk_list=f"{C},0,9"), "device": "0:99"},
        {
            "kind": "attributes",
            "device": "0:50",
            "path": "/d",
            "attributes": None,
            "reason": "gone",
        },
    )
)


def test_chunk_lists_and_files_of_one_object() -> None:
    found = chunks(JOURNAL, FILES, MOUNTED)
    assert found.drop("cached_at_start").rows() == [
        (0, 0, f"{A}-rmd160", 0, 10),
        (0, 1, B, 10, 15),
        (1, 0, C, 0, 5),
    ]


def test_the_first_lookup_tells_what_was_cached() -> None:
    lookups = conform(
        "cache_lookups",
        pl.DataFrame(
            {
                "mount_id": [3, 3, 3, 4],
                "start_ns": [9, 5, 6, 1],
                "pid": [1] * 4,
                "tid": [1] * 4,
                "object_hash": [B, B, C, C],
                "hit": [True, False, True, False],
            }
        ),
    )
    found = with_cache_state(chunks(JOURNAL, FILES, MOUNTED), lookups, FILES)
    assert found["cached_at_start"].to_list() == [None, False, True]


def test_cached_bytes_are_those_of_chunks_whose_state_is_known() -> None:
    """Unknown for a file without chunks, and for one of which no chunk's state is known."""
    states = [(2, 1, None), (0, 5, True), (0, 7, False), (1, 3, False), (0, 2, True), (0, 9, None)]
    known = rows(
        "chunks",
        *(
            {"file_id": file, "index": index, "size_bytes": size, "cached_at_start": state}
            for index, (file, size, state) in enumerate(states)
        ),
    )
    four = rows("files", *({"file_id": number} for number in (3, 1, 0, 2)))
    found = with_cached_bytes(four, known).select("file_id", "cached_bytes_at_start")
    assert found.rows() == [(3, None), (1, 0), (0, 7), (2, None)]


def test_which_chunks_a_read_needs() -> None:
    reads = pl.DataFrame(
        {
            "request": [0, 1, 2, 3, 4],
            "file_id": [0, 0, 0, 1, 2],
            "offset_bytes": [0, 8, 10, 4, 0],
            "size_bytes": [10, 4, 999, 1, 1],
        },
        schema={
            "request": pl.UInt32,
            "file_id": pl.Int32,
            "offset_bytes": pl.Int64,
            "size_bytes": pl.Int64,
        },
    )
    found = chunk_at(reads, chunks(JOURNAL, FILES, MOUNTED)).sort("request", "object_hash")
    assert found.rows() == [(0, f"{A}-rmd160"), (1, f"{A}-rmd160"), (1, B), (2, B), (3, C)]
