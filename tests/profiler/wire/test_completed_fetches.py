"""What fetches were for: the place in a file, the kind of object, the download."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.probes import fuse
from cvmprof.probes.events import CACHE_FILE, CALL, DOWNLOAD
from cvmprof.profiler.client import daemon_calls as work
from cvmprof.profiler.client.fetches import fetches_by_call, numbered
from cvmprof.profiler.tables import conform, empty
from cvmprof.profiler.wire.completed_fetches import CompletionEvidence, completed_fetches
from cvmprof.profiler.wire.downloads import attempts, downloads, wire_requests
from cvmprof.tests.profiler.conftest import digest
from cvmprof.tests.profiler.daemon_records import (
    CACHED,
    DAEMONS,
    DOWNLOADING,
    PATH,
    PROXIES,
    A,
    B,
    cache_file,
    download,
    fetching,
    served_requests,
)
from cvmprof.tests.profiler.rows import frame, rows

ATTEMPTS: dict[str, Any] = dict.fromkeys(("fetch_id", "download_id", "attempt"), pl.Int32)
SENT = {
    "download_id": pl.Int32, "suffix": pl.String, "url_path": pl.String, "object_hash": pl.String,
}  # fmt: skip
UNNUMBERED = {"object_suffix": pl.String, "queued_ns": pl.Int64, "returned_ns": pl.Int64}
FILES = rows(
    "files", {"file_id": 0, "mount_id": 3, "inode": 7}, {"file_id": 1, "mount_id": 3, "inode": 8}
)
READ = {"mount_id": 3, "unique": 2, "opcode": fuse.READ, "node_id": 7}


def completed(fetches: list[dict[str, Any]], **given: pl.DataFrame) -> pl.DataFrame:
    whole = [{"mount_id": 3, "unique": 2, "object_hash": A, **each} for each in fetches]
    made = rows("fetches", *whole, **UNNUMBERED).drop("download_id", "file_id")
    made = made.drop("offset_bytes", "unpacked_bytes", "object_kind")
    return completed_fetches(
        made,
        CompletionEvidence(
            attempts=given.get("attempts", frame(ATTEMPTS)),
            sent=given.get("sent", frame(SENT)),
            requests=given.get("requests", rows("fuse_requests")),
            files=FILES,
            chunks=given.get("chunks", rows("chunks")),
        ),
    )


def test_the_last_attempt_is_the_download_and_names_what_has_no_name() -> None:
    sent = frame(SENT, (4, "P", f"/{B}P", B), (5, "C", "/x", A), (6, "", "/y", None))
    tried = frame(ATTEMPTS, (0, 4, 2), (0, 5, 1), (1, 6, 1), (2, 4, 1))
    fetches: list[dict[str, Any]] = [
        {"fetch_id": 0, "object_hash": None},
        {"fetch_id": 1},
        {"fetch_id": 2},
        {"fetch_id": 3},
    ]
    found = completed(fetches, attempts=tried, sent=sent)
    assert found.select("download_id", "object_hash", "object_kind").rows() == [
        (4, B, "chunk"), (6, A, "file"), (4, A, "chunk"), (None, A, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "sent", "kind"),
    [
        ("C", "P", "catalog"), ("", "P", "chunk"), (None, "H", "history"), (None, "?", None),
        (None, None, None),
    ],
)  # fmt: skip
def test_the_letter_of_the_call_outranks_that_of_the_request(
    suffix: str | None, sent: str | None, kind: str | None
) -> None:
    found = completed(
        [{"fetch_id": 0, "object_suffix": suffix}],
        attempts=frame(ATTEMPTS, (0, 4, 1)),
        sent=frame(SENT, (4, sent, "/x", None)),
    )
    assert found["object_kind"].to_list() == [kind]


def test_a_joined_fetch_is_of_the_kind_of_the_one_it_joined() -> None:
    """Where that is known by name; content keeps its place in the file, the rest has none."""
    chunked = rows(
        "chunks",
        {"file_id": 0, "object_hash": A, "size_bytes": 10},
        {"file_id": 0, "object_hash": B, "offset_bytes": 10, "size_bytes": 10, "index": 1},
    )
    fetches: list[dict[str, Any]] = [
        {"fetch_id": 0, "object_suffix": "C"},
        {"fetch_id": 1, "joined_fetch_id": 0},
        {"fetch_id": 2, "joined_fetch_id": 3},
        {"fetch_id": 3},
    ]
    found = completed(fetches, requests=rows("fuse_requests", READ), chunks=chunked)
    names = ("object_kind", "file_id", "offset_bytes", "unpacked_bytes")
    assert found.select(names).rows() == [
        ("catalog", None, None, None),
        ("catalog", None, None, None),
        ("chunk", 0, 0, 10),
        ("chunk", 0, 0, 10),
    ]


def test_the_place_is_the_one_that_the_request_needs_else_the_first() -> None:
    """The same object lies three times in file 0, alone in file 1, and in a file elsewhere."""
    chunked = rows(
        "chunks",
        *({"file_id": 0, "object_hash": A, "offset_bytes": at, "size_bytes": 10}
          for at in (20, 0, 40)),
        {"file_id": 1, "object_hash": A, "offset_bytes": 0, "size_bytes": 5},
        {"file_id": 0, "object_hash": B, "offset_bytes": 10, "size_bytes": 10},
    )  # fmt: skip
    for values, place in (
        ({"offset_bytes": 29, "size_bytes": 1}, (0, 20, 10, "chunk")),
        ({"offset_bytes": 20, "size_bytes": 1}, (0, 20, 10, "chunk")),
        ({"offset_bytes": 19, "size_bytes": 2}, (0, 20, 10, "chunk")),
        ({"offset_bytes": 10, "size_bytes": 10}, (0, 0, 10, "chunk")),
        ({"offset_bytes": 30, "size_bytes": 10}, (0, 0, 10, "chunk")),
        ({"offset_bytes": 10, "size_bytes": 11}, (0, 20, 10, "chunk")),
        ({"offset_bytes": 0, "size_bytes": 99}, (0, 0, 10, "chunk")),
        ({"opcode": fuse.OPEN}, (0, 0, 10, "chunk")),
        ({"opcode": 1}, (None, None, None, None)),
        ({"node_id": 8, "opcode": fuse.OPEN}, (1, 0, 5, "file")),
        ({"node_id": 9}, (None, None, None, None)),
        ({"mount_id": 4}, (None, None, None, None)),
        ({"unique": 4}, (None, None, None, None)),
    ):
        asked = rows("fuse_requests", {**READ, **values})
        found = completed([{"fetch_id": 0}], requests=asked, chunks=chunked)
        names = ("file_id", "offset_bytes", "unpacked_bytes", "object_kind")
        assert found.select(names).row(0) == place, values


def test_every_fetch_stays_in_order_with_its_times() -> None:
    made = [{"fetch_id": n, "queued_ns": 10 - n, "returned_ns": n} for n in range(5)]
    found = completed(made, requests=rows("fuse_requests", READ, READ))
    assert found.select("fetch_id", "queued_ns", "returned_ns", "file_id").rows() == [
        (n, 10 - n, n, 0) for n in range(5)
    ]


def test_attempts_commits_and_kinds(make_raw: Any) -> None:
    records = [
        *fetching(1, 100, 200, -2, (110, 190), unique=2),
        *fetching(2, 120, 195, -2, None),
        *fetching(1, 700, 800, -2, (710, 790)),
    ]
    calls = work.daemon_calls(make_raw(CALL, *records), DAEMONS)
    found = numbered(fetches_by_call(calls))
    wire = wire_requests(
        make_raw(
            DOWNLOAD,
            *(
                download(at, f"GET {PATH}P HTTP/1.1\r\n", sequence=n)
                for n, at in enumerate((90, 115, 150, 720))
            ),
        ),
        DAEMONS,
        PROXIES,
    )
    tried = attempts(wire, found.filter(pl.col("outcome") != "joined"))
    assert tried.rows() == [(0, 1, 1, 9), (0, 2, 2, 9), (2, 3, 1, 9)]
    committed = work.commits(
        work.with_hashes(
            make_raw(CACHE_FILE, cache_file(195, 1, "rename", "/t", new=CACHED)), DAEMONS
        )
    )
    loads = downloads(wire, tried, found.select("fetch_id", "queued_ns"), committed)
    assert loads.select("attempt", "queued_ns", "committed_ns").rows() == [
        (1, None, 197),
        (1, 110, None),
        (2, 110, 197),
        (1, 710, None),
    ]
    none = served_requests().with_columns(
        opcode=pl.lit(15, pl.Int32),
        node_id=pl.lit(7, pl.UInt64),
        offset_bytes=pl.lit(0, pl.Int64),
        size_bytes=pl.lit(0, pl.Int64),
    )
    table = completed_fetches(
        found, CompletionEvidence(tried, wire, none, empty("files"), empty("chunks"))
    )
    assert table.select("download_id", "object_kind", "file_id").rows() == [
        (2, "chunk", None),
        (None, "chunk", None),
        (3, "chunk", None),
    ]


def places(
    make_raw: Any, unique: int, requests: list[tuple[int, int, int, int, int]]
) -> tuple[Any, ...]:
    """Where the fetch of A made for ``unique`` is placed: A lies twice in file 0, and alone in file
    1.
    """
    calls = work.daemon_calls(
        make_raw(CALL, *fetching(1, 100, 200, -2, (110, 190), unique=unique)), DAEMONS
    )
    asked = pl.DataFrame(
        requests,
        orient="row",
        schema={
            "unique": pl.UInt64,
            "opcode": pl.Int32,
            "node_id": pl.UInt64,
            "offset_bytes": pl.Int64,
            "size_bytes": pl.Int64,
        },
    ).with_columns(mount_id=pl.lit(3, pl.Int32))
    known = conform(
        "files",
        pl.DataFrame(
            {"file_id": [0, 1, 2], "mount_id": [3] * 3, "inode": [7, 8, 9], "generation": [0] * 3}
        ),
    )
    chunked = conform(
        "chunks",
        pl.DataFrame(
            {
                "file_id": [0, 0, 0, 1],
                "index": [0, 1, 2, 0],
                "object_hash": [A, B, A, A],
                "offset_bytes": [0, 10, 20, 0],
                "size_bytes": [10, 10, 10, 10],
            }
        ),
    )
    wire = wire_requests(make_raw(DOWNLOAD), DAEMONS, PROXIES)
    made = numbered(fetches_by_call(calls))
    table = completed_fetches(
        made, CompletionEvidence(attempts(wire, made), wire, asked, known, chunked)
    )
    return table.select("file_id", "offset_bytes", "unpacked_bytes", "object_kind").row(0)


def test_a_fetch_is_placed_by_the_request_that_caused_it(make_raw: Any) -> None:
    reads = [
        (2, 15, 7, 22, 4),
        (4, 15, 7, 0, 4),
        (6, 14, 8, 0, 0),
        (8, 1, 8, 0, 0),
        (10, 15, 9, 0, 4),
    ]
    assert places(make_raw, 2, reads) == (0, 20, 10, "chunk")
    assert places(make_raw, 4, reads) == (0, 0, 10, "chunk")
    assert places(make_raw, 6, reads) == (1, 0, 10, "file")
    assert places(make_raw, 8, reads) == (
        None,
        None,
        None,
        None,
    )  # a lookup: its node is a directory
    assert places(make_raw, 10, reads) == (2, None, None, None)  # its chunk list is not known
    assert places(make_raw, 99, reads) == (None, None, None, None)


def test_a_catalog_that_an_open_fetches_is_no_part_of_the_file(make_raw: Any) -> None:
    row = fetching(1, 100, 200, -2, (110, 190), unique=2, object=digest(A, suffix=b"C"))
    made = numbered(fetches_by_call(work.daemon_calls(make_raw(CALL, *row), DAEMONS)))
    wire = wire_requests(make_raw(DOWNLOAD), DAEMONS, PROXIES)
    asked = pl.DataFrame(
        [(2, 14, 7, None, None)],
        orient="row",
        schema={
            "unique": pl.UInt64,
            "opcode": pl.Int32,
            "node_id": pl.UInt64,
            "offset_bytes": pl.Int64,
            "size_bytes": pl.Int64,
        },
    ).with_columns(mount_id=pl.lit(3, pl.Int32))
    known = conform(
        "files", pl.DataFrame({"file_id": [0], "mount_id": [3], "inode": [7], "generation": [0]})
    )
    table = completed_fetches(
        made, CompletionEvidence(attempts(wire, made), wire, asked, known, empty("chunks"))
    )
    assert table.select("object_kind", "file_id").rows() == [("catalog", None)]


def test_what_is_loaded_past_the_fetcher_is_named_by_the_wire(make_raw: Any) -> None:
    direct = {"pid": 200, "tid": 1, "function": DOWNLOADING, "result": 0}
    records = [
        {**direct, "start_ns": 10, "end_ns": 20},
        {**direct, "start_ns": 30, "end_ns": 40},
        {**direct, "start_ns": 50, "end_ns": 60, "result": 8},
        *fetching(2, 100, 200, -2, (110, 190)),
    ]
    found = numbered(fetches_by_call(work.daemon_calls(make_raw(CALL, *records), DAEMONS)))
    paths = ("/cvmfs/r.ch/.cvmfspublished", f"{PATH}X", "/cvmfs/r.ch/.cvmfswhitelist", f"{PATH}P")
    wire = wire_requests(
        make_raw(
            DOWNLOAD,
            *(
                download(at, f"GET {path} HTTP/1.1\r\n")
                for at, path in zip((12, 32, 52, 150), paths, strict=True)
            ),
        ),
        DAEMONS,
        PROXIES,
    )
    none = served_requests().with_columns(
        opcode=pl.lit(15, pl.Int32),
        node_id=pl.lit(7, pl.UInt64),
        offset_bytes=pl.lit(0, pl.Int64),
        size_bytes=pl.lit(0, pl.Int64),
    )
    table = completed_fetches(
        found,
        CompletionEvidence(attempts(wire, found), wire, none, empty("files"), empty("chunks")),
    )
    names = ("object_kind", "object_hash", "outcome", "download_id", "queued_ns", "returned_ns")
    assert table.select(names).rows() == [
        ("manifest", None, "downloaded", 0, 10, 20),
        ("certificate", A, "downloaded", 1, 30, 40),
        ("whitelist", None, "failed", 2, 50, 60),
        ("chunk", A, "downloaded", 3, 110, 190),
    ]
