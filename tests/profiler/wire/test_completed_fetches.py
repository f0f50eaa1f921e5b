"""What fetches were for: the place in a file, the kind of object, the download."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.probes import fuse
from cvmprof.profiler.wire.completed_fetches import CompletionEvidence, completed_fetches
from cvmprof.tests.profiler.rows import frame, rows

A, B = "a1" * 20, "b2" * 20
ATTEMPTS: dict[str, Any] = dict.fromkeys(("fetch_id", "download_id", "attempt"), pl.Int32)
SENT = {
    "download_id": pl.Int32, "suffix": pl.String, "url_path": pl.String, "object_hash": pl.String,
}  # fmt: skip
UNNUMBERED = {"object_suffix": pl.String, "queued_ns": pl.Int64, "returned_ns": pl.Int64}
FILES = rows(
    "files",
    *({"file_id": n, "mount_id": 3, "inode": inode} for n, inode in enumerate((7, 8, 9, 17, 17))),
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


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/r/.cvmfspublished", "manifest"), ("/r/.cvmfswhitelist", "whitelist"),
        ("/r/.cvmfspublished/x", None), ("/r/x.cvmfspublished", None), (None, None),
    ],
)  # fmt: skip
def test_what_has_no_hash_is_known_by_its_path(path: str | None, kind: str | None) -> None:
    """Also for a fetch that joined it."""
    found = completed(
        [{"fetch_id": 0, "object_hash": None}, {"fetch_id": 1, "joined_fetch_id": 0}],
        attempts=frame(ATTEMPTS, (0, 4, 1)),
        sent=frame(SENT, (4, None, path, None)),
    )
    assert found.select("object_hash", "object_kind").rows() == [(None, kind), (A, kind)]


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
        {"file_id": 3, "object_hash": A, "size_bytes": 20},
        {"file_id": 4, "object_hash": A, "size_bytes": 10},
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
        ({"node_id": 9}, (2, None, None, None)),  # its chunk list is not known
        ({"node_id": 10}, (None, None, None, None)),
        ({"node_id": 17}, (4, 0, 10, "file")),  # the later one of the inode's two files
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
