"""Requests on the wire: their text, the fetches they were sent for, their commits."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.probes import events
from cvmprof.probes.events import DOWNLOAD, WORK
from cvmprof.profiler.wire.downloads import (
    attempts,
    download_work,
    downloads,
    manifests,
    named_by_fetches,
    wire_requests,
)
from cvmprof.tests.profiler.rows import frame, rows

A, B = "a1" * 20, "b2" * 20
MOUNT_ID = {"mount_id": pl.Int32}
DAEMONS = frame({"pid": pl.Int32, **MOUNT_ID}, (200, 3))
ATTRIBUTES = frame({**MOUNT_ID, "proxy": pl.String})
SENT = {
    "download_id": pl.Int32, "pid": pl.Int32, "tid": pl.Int32, "began_ns": pl.Int64,
    "object_hash": pl.String, "url_path": pl.String,
}  # fmt: skip
FETCHES = {
    "fetch_id": pl.Int32, "pid": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64,
    "object_hash": pl.String,
}  # fmt: skip
TLS = events.DOWNLOAD_TLS


def requests(make_raw: Any, *given: dict[str, Any]) -> pl.DataFrame:
    return wire_requests(
        make_raw(DOWNLOAD, *({"pid": 200, **each} for each in given)), DAEMONS, ATTRIBUTES
    )


def test_requests_are_numbered_by_time_process_and_descriptor(make_raw: Any) -> None:
    """Of a failed connection the time is that of its connect(2), else of its close(2)."""
    found = requests(
        make_raw,
        {"sent_ns": 30, "connect_ns": 5, "closed_ns": 40},
        {"connect_ns": 20, "closed_ns": 50},
        {"closed_ns": 10},
        {"sent_ns": 30, "fd": 2, "pid": 199},
        {"sent_ns": 30, "fd": 1, "pid": 199},
        {},
        {"sent_ns": 1, "flags": events.DOWNLOAD_ANNOUNCED},
    )
    assert found.select("download_id", "began_ns", "pid", "fd", "mount_id").rows() == [
        (0, 10, 200, 0, 3),
        (1, 20, 200, 0, 3),
        (2, 30, 199, 1, None),
        (3, 30, 199, 2, None),
        (4, 30, 200, 0, 3),
    ]
    assert found["connection_id"].min() == 0


def test_a_connection_is_reused_if_something_was_sent_before_or_nobody_saw_it_made(
    make_raw: Any,
) -> None:
    found = requests(
        make_raw,
        {"sent_ns": 1, "connect_ns": 1},
        {"sent_ns": 2, "connect_ns": 1, "sequence": 1},
        {"sent_ns": 3},
    )
    assert found["reused"].to_list() == [False, True, True]


@pytest.mark.parametrize(
    ("answer", "received", "length"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nbody", 30, 19),
        (b"HTTP/1.1 200 OK\r\n\r\n", 19, 19),
        (b"HTTP/1.1 200 OK\r\n\r\n", 18, None),
        (b"HTTP/1.1 200 OK\r\n", 99, None),
        (b"\x17\x03\r\n\r\n", 99, None),
    ],
)
def test_how_long_the_headers_are(
    make_raw: Any, answer: bytes, received: int, length: int | None
) -> None:
    found = requests(make_raw, {"sent_ns": 1, "answer": answer, "bytes": received})
    assert found["header_bytes"].to_list() == [length]


def test_an_encrypted_or_unsent_request_shows_no_target(make_raw: Any) -> None:
    text = b"GET /x HTTP/1.1\r\nHost: s1\r\n\r\n"
    found = requests(
        make_raw,
        {"sent_ns": 1, "request": text},
        {"sent_ns": 2, "request": text, "flags": TLS},
        {"connect_ns": 3, "request": text},
    )
    assert found.select("url_path", "encrypted").rows() == [
        ("/x", False), (None, True), (None, False),
    ]  # fmt: skip


MANIFESTS = {
    **MOUNT_ID, "last_byte_ns": pl.Int64, "url_path": pl.String, "answer": pl.String,
}  # fmt: skip
LINES = f"C{A}\nS12\nN"


@pytest.mark.parametrize(
    ("path", "answer", "last"),
    [
        ("/r/.cvmfspublished", "\r\n\r\n" + LINES, None),
        ("/r/.cvmfswhitelist", "\r\n\r\n" + LINES, 7),
        ("/r/.cvmfspublished", "\r\n\r\nS12\n", 7),
    ],
)
def test_what_is_no_whole_manifest(path: str, answer: str, last: int | None) -> None:
    whole = (1, 7, "/r/.cvmfspublished", "HTTP/1.1 200 OK\r\n\r\n" + LINES)
    found = manifests(frame(MANIFESTS, (2, last, path, "HTTP/1.1 200 OK" + answer), whole))
    assert found.rows() == [(1, 7, A, 12)]


def sent(*given: tuple[int, str | None, str | None]) -> pl.DataFrame:
    """Requests of one process: began, object, path."""
    return frame(
        SENT, *((n, 1, 9, began, name, path) for n, (began, name, path) in enumerate(given))
    )


def fetches(*given: tuple[int, int | None, str | None]) -> pl.DataFrame:
    """Fetches of the same process: start, end, object."""
    return frame(FETCHES, *((n, 1, *each) for n, each in enumerate(given)))


@pytest.mark.parametrize(
    ("began", "busy", "name"),
    [
        (10, [(10, 20, A)], A),
        (20, [(10, 20, A)], A),
        (9, [(10, 20, A)], None),
        (21, [(10, 20, A)], None),
        (99, [(10, None, A)], A),
        (9, [(10, None, A)], None),
        (15, [(10, 20, A), (12, 18, B)], None),
        (19, [(10, 20, A), (12, 18, B)], A),
    ],
)
def test_an_object_is_named_if_it_was_the_only_one(
    began: int, busy: list[tuple[int, int | None, str]], name: str | None
) -> None:
    named = named_by_fetches(sent((began, None, None)), fetches(*busy), rows("daemon_calls"))
    assert named["object_hash"].to_list() == [name]


def test_only_requests_without_a_path_are_named_and_only_by_their_own_process() -> None:
    other = fetches((0, 99, A)).with_columns(pid=pl.lit(2, pl.Int32))
    none = rows("daemon_calls")
    assert named_by_fetches(sent((5, None, None)), other, none)["object_hash"].to_list() == [None]
    seen = sent((5, None, "/manifest"), (6, B, "/b"), (7, None, None))
    named = named_by_fetches(seen, fetches((0, 99, A)), none)
    assert named["object_hash"].to_list() == [None, B, A]
    assert named.columns == seen.columns


def test_a_download_outside_any_fetch_may_be_the_one() -> None:
    call = {"pid": 1, "start_ns": 0, "end_ns": 9, "function": "DownloadManager::Fetch"}
    busy, asked = fetches((0, 99, A)), sent((5, None, None))
    for values, name in (
        ({}, None), ({"parent_id": 3}, A), ({"function": "Fetcher::Fetch"}, A), ({"pid": 2}, A),
    ):  # fmt: skip
        named = named_by_fetches(asked, busy, rows("daemon_calls", {**call, **values}))
        assert named["object_hash"].to_list() == [name]


def test_requests_begin_within_the_fetch_they_are_for() -> None:
    """Both ends inclusive; of two such fetches the later one; attempts in order of time."""
    asked = sent((9, A, ""), (20, A, ""), (10, A, ""), (21, A, ""), (15, B, ""), (31, A, ""))
    found = attempts(asked, fetches((10, 20, A), (30, None, A), (30, None, A)))
    assert found.rows() == [(0, 2, 1, 9), (0, 1, 2, 9), (2, 5, 1, 9)]
    later_first = fetches((30, None, A), (30, None, A)).reverse()
    assert attempts(sent((31, A, "")), later_first).rows() == [(1, 0, 1, 9)]
    other = asked.with_columns(pid=pl.lit(2, pl.Int32))
    assert attempts(other, fetches((10, 20, A))).is_empty()


@pytest.mark.parametrize(
    ("began", "within"),
    [(10, 0), (20, 0), (9, None), (21, None), (30, 1), (99, 1), (35, 2), (40, 2), (41, 1)],
)
def test_a_fetch_without_a_name_gets_what_belongs_to_no_other(
    began: int, within: int | None
) -> None:
    """The latest begun of several; not one that names its object."""
    unnamed = fetches((10, 20, None), (30, None, None), (35, 40, None), (0, None, B))
    found = attempts(sent((began, A, "")), unnamed)
    assert found["fetch_id"].to_list() == ([] if within is None else [within])
    assert attempts(sent((began, A, "")), unnamed.reverse()).equals(found)
    named = attempts(sent((began, B, "")), unnamed)
    assert named.rows() == [(3, 0, 1, 9)]
    stranger = sent((began, A, "")).with_columns(pid=pl.lit(2, pl.Int32))
    assert attempts(stranger, unnamed).is_empty()


def test_attempts_of_all_fetches_are_counted_in_order_of_time() -> None:
    asked = sent((12, B, ""), (32, A, ""), (11, B, ""), (31, A, ""))
    found = attempts(asked, fetches((10, 20, None), (30, 40, A)))
    assert found.rows() == [(0, 2, 1, 9), (0, 0, 2, 9), (1, 3, 1, 9), (1, 1, 2, 9)]
    found = attempts(asked, fetches((30, 40, A), (10, 20, None)))
    assert found.rows() == [(0, 3, 1, 9), (0, 1, 2, 9), (1, 2, 1, 9), (1, 0, 2, 9)]


COMMITS = {"pid": pl.Int32, "object_hash": pl.String, "end_ns": pl.Int64}
ATTEMPTS: dict[str, Any] = dict.fromkeys(
    ("fetch_id", "download_id", "attempt", "sender_tid"), pl.Int32
)
QUEUED = {"fetch_id": pl.Int32, "queued_ns": pl.Int64}


def test_the_last_attempt_of_a_fetch_is_committed_by_the_next_rename(make_raw: Any) -> None:
    """Of its object in its process; what is for no fetch is committed too."""
    path = f"GET /data/{A[:2]}/{A[2:]} HTTP/1.1\r\n\r\n".encode()
    asked = requests(
        make_raw, *({"sent_ns": at, "request": path} for at in (10, 20, 40, 60)), {"sent_ns": 5}
    )
    tried = frame(ATTEMPTS, (7, 2, 2, 9), (7, 1, 1, 9), (8, 4, 1, 9))
    commits = frame(
        COMMITS, (200, A, 65), (200, A, 50), (200, A, 30), (200, B, 22), (201, A, 21),
        (200, A, None), (200, A, 9),
    )  # fmt: skip
    table = downloads(asked, tried, frame(QUEUED, (8, 55), (7, 2)), commits)
    names = ("download_id", "attempt", "queued_ns", "committed_ns")
    assert table.select(names).rows() == [
        (0, 1, None, None),
        (1, 1, 2, None),
        (2, 2, 2, 30),
        (3, 1, None, 50),
        (4, 1, 55, 65),
    ]


def test_work_is_in_order_of_time_and_of_the_request_that_it_names(make_raw: Any) -> None:
    """By process, descriptor and time; once, although two requests may be of the same time."""
    asked = requests(
        make_raw, *({"sent_ns": at, "fd": fd} for at, fd in ((10, 4), (10, 5), (20, 5), (20, 5)))
    )
    work = {"pid": 200, "tid": 9, "end_ns": 60, "late_ns": 1, "write_ns": 2, "off_ns": 3}
    found = download_work(
        make_raw(
            WORK,
            {**work, "start_ns": 50, "sent_ns": 10, "fd": 5, "round": 2},
            {**work, "start_ns": 40, "sent_ns": 10, "fd": 4, "round": 1},
            {**work, "start_ns": 45, "sent_ns": 11, "fd": 4},
            {**work, "start_ns": 46, "sent_ns": 10, "fd": 4, "pid": 201},
            {**work, "start_ns": 55, "sent_ns": 20, "fd": 5},
        ),
        asked,
    )
    assert found["start_ns"].to_list() == [40, 45, 46, 50, 55]
    assert found["download_id"].to_list()[:4] == [0, None, None, 1]
    assert found["download_id"][4] in (2, 3)
    assert found.row(0)[1:] == (200, 9, 1, 40, 60, 1, 2, 3)


PATH = f"/cvmfs/r.ch/data/{A[:2]}/{A[2:]}"


def download(sent: int, request: str, **values: Any) -> dict[str, Any]:
    return {"sent_ns": sent, "pid": 200, "tid": 9, "fd": 5, "request": request.encode(), **values}


def test_what_a_request_on_the_wire_says(make_raw: Any) -> None:
    wire = wire_requests(
        make_raw(
            DOWNLOAD,
            download(
                50,
                f"GET {PATH}C HTTP/1.1\r\nUser-Agent: x\r\nHOST:  s1\r\n\r\n",
                sequence=1,
                answer=b"HTTP/1.1 200 OK\r\n",
                connect_ns=7,
                bytes=9,
            ),
            download(
                20,
                f"GET http://s2:80{PATH} HTTP/1.1\r\nHost: s2:80\r\n\r\n",
                fd=6,
                answer=b"HTTP/1.1 404 Not Found",
                connect_ns=8,
                first_byte_ns=30,
            ),
            download(90, "GET /cvmfs/r.ch/.cvmfspublished HTTP/1.1\r\n", connect_ns=7, sequence=2),
            download(0, ""),
            download(95, "\x16\x03\x01", fd=7, pid=201),
        ),
        DAEMONS,
        frame({**MOUNT_ID, "proxy": pl.String}, (3, "http://squid:3128")),
    )
    wanted = ("sent_ns", "object_hash", "suffix", "url_path", "host", "proxy", "status", "reused")
    assert wire.select(wanted).rows() == [
        (20, A, "", PATH, "s2:80", "http://squid:3128", 404, False),
        (50, A, "C", f"{PATH}C", "s1", None, 200, True),
        (90, None, None, "/cvmfs/r.ch/.cvmfspublished", "", None, None, True),
        (95, None, None, None, "", None, None, True),
    ]
    assert wire["mount_id"].to_list() == [3, 3, 3, None]
    ids = dict(wire.select("sent_ns", "connection_id").rows())
    assert ids[50] == ids[90] and len({ids[20], ids[50], ids[95]}) == 3


def test_of_a_manifest_that_is_cut_off_nothing_is_read() -> None:
    """Cut anywhere before the end of the line of its revision, the last one that is read."""
    body = f"C{A}\nB30720\nRd41d8cd98f00b204e9800998ecf8427e\nD240\nS12345\nGno\n"
    answer = f"HTTP/1.1 200 OK\r\nX: {'a' * 270}\r\n\r\n{body}"
    cut = [answer[:length] for length in range(1, len(answer) + 1)]
    wire = frame(MANIFESTS, *((n, 7, "/repo/.cvmfspublished", text) for n, text in enumerate(cut)))
    whole = [n for n, text in enumerate(cut) if "S12345\n" in text]
    assert len(whole) == len("Gno\n") + 1
    assert manifests(wire).rows() == [(n, 7, A, 12345) for n in whole]
