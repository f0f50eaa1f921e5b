from __future__ import annotations

import pytest

from cvmprof.reports.material import Window
from cvmprof.reports.numbers.fetching import Fetches, fetch_summary, latency, slowest_chunks
from cvmprof.tests.reports.rows import (
    asked,
    download,
    fetch,
    fetches,
    statistics_of,
    stopped,
)
from cvmprof.tests.reports.synthetic import (
    DAEMON,
    MIB,
    MODEL,
    MS,
    START,
    Rows,
    sha1,
    tiny_rows,
)


def test_fetches_one_after_another() -> None:
    fetches = statistics_of(tiny_rows()).fetches
    assert (fetches.downloaded, fetches.chunks_downloaded, fetches.joined) == (2, 2, 0)
    assert (fetches.summed_ns, fetches.busy_ns, fetches.most_at_once) == (70 * MS, 70 * MS, 1)
    assert fetches.mean_at_once == 1.0
    assert fetches.unpacked_bytes == 2 * MIB


def test_overlapping_fetches() -> None:
    rows = tiny_rows()
    asked(rows, 2)
    # A third, from 20 to 55 ms: with the first for 25 ms, alone for 10 ms.
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        unique=2,
        start_ns=START + 20 * MS,
        end_ns=START + 55 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("other"),
        object_kind="chunk",
        outcome="downloaded",
        unpacked_bytes=MIB,
    )
    fetches = statistics_of(rows).fetches
    assert (fetches.summed_ns, fetches.busy_ns, fetches.most_at_once) == (105 * MS, 80 * MS, 2)


def test_a_fetch_that_begins_as_another_ends_does_not_overlap_it() -> None:
    rows = tiny_rows()
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        unique=2,
        start_ns=START + 45 * MS,
        end_ns=START + 60 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("other"),
        object_kind="chunk",
        outcome="downloaded",
    )
    assert statistics_of(rows).fetches.most_at_once == 1


def test_joined_and_catalogue_fetches_are_not_downloaded_chunks() -> None:
    rows = tiny_rows()
    asked(rows, 2)
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        unique=2,
        start_ns=START,
        end_ns=START + MS,
        pid=DAEMON,
        tid=DAEMON,
        object_hash=sha1("c"),
        object_kind="catalog",
        outcome="downloaded",
    )
    rows.add(
        "fetches",
        fetch_id=3,
        mount_id=0,
        unique=2,
        start_ns=START + 10 * MS,
        end_ns=START + 40 * MS,
        pid=DAEMON,
        tid=DAEMON,
        object_hash=sha1("chunk 0"),
        object_kind="chunk",
        outcome="joined",
        joined_fetch_id=0,
    )
    rows.add(
        "fetches",
        fetch_id=4,
        mount_id=0,
        unique=2,
        start_ns=START + 99 * MS,
        pid=DAEMON,
        tid=DAEMON,
        object_hash=sha1("chunk 9"),
        object_kind="chunk",
    )
    fetches = statistics_of(rows).fetches
    assert (fetches.downloaded, fetches.chunks_downloaded, fetches.unsized) == (3, 2, 0)
    rows.rows["fetches"][1]["unpacked_bytes"] = None
    assert statistics_of(rows).fetches.unsized == 1
    assert (fetches.joined, fetches.unfinished, fetches.failed) == (1, 1, 0)
    assert fetches.most_at_once == 1


def test_slowest_chunks_have_their_parts() -> None:
    rows = tiny_rows()
    rows.rows["fetches"][1]["end_ns"] += 2 * MS
    first, second = statistics_of(rows).slowest_chunks
    assert (first.fetch_id, second.fetch_id) == (1, 0)
    assert (first.path, first.offset_bytes, first.size_bytes) == (MODEL, MIB, MIB)
    assert first.object_hash == sha1("chunk 1")
    assert first.duration_ns == 37 * MS
    assert first.parts_ns == {"before_request": 0, "first_byte": 20 * MS, "transfer": 15 * MS}
    assert first.wire_bytes == 600_000


def test_latency_medians() -> None:
    latency = statistics_of(tiny_rows()).latency
    assert (latency.first_byte_ns, latency.transfer_ns) == (20 * MS, 15 * MS)
    assert latency.bytes_per_s == 40_000_000
    assert (latency.downloads, latency.reused_connections) == (2, 1)


def test_a_download_without_times_leaves_the_rate_unsaid() -> None:
    rows = tiny_rows()
    for row in rows.rows["downloads"]:
        row["last_byte_ns"] = row["first_byte_ns"]
    latency = statistics_of(rows).latency
    assert (latency.transfer_ns, latency.bytes_per_s) == (0, None)


def summary(rows: Rows, end: int = 1000) -> Fetches:
    return fetch_summary(rows.frames()["fetches"], Window(0, end))


def test_no_fetch() -> None:
    assert summary(Rows()) == fetches()
    assert fetches().mean_at_once == 0.0
    assert fetches(summed_ns=30, busy_ns=20).mean_at_once == 1.5


def test_fetches_that_overlap_meet_or_lie_apart() -> None:
    rows = Rows()
    for start, end in ((40, 50), (0, 10), (10, 20), (12, 15), (41, 49), (42, 48)):
        fetch(rows, start, end)
    found = summary(rows)
    assert (found.summed_ns, found.busy_ns, found.most_at_once) == (47, 30, 3)


def test_only_downloaded_chunks_and_files_overlap() -> None:
    rows = Rows()
    fetch(rows, 0, 10, unpacked_bytes=100)
    fetch(rows, 20, 30, object_kind="file", unpacked_bytes=20)
    fetch(rows, 0, 90, object_kind="catalog", unpacked_bytes=3)
    fetch(rows, 0, 90, object_kind=None)
    fetch(rows, 0, 90, outcome="joined", unpacked_bytes=3)
    fetch(rows, 0, 90, outcome="failed")
    fetch(rows, 0, 90, outcome="failed", object_kind="catalog")
    fetch(rows, 0, None, outcome=None)
    assert summary(rows) == Fetches(
        downloaded=4, joined=1, failed=2, unfinished=1, chunks_downloaded=2, unpacked_bytes=120,
        summed_ns=20, busy_ns=20, most_at_once=1, files_downloaded=1,
    )  # fmt: skip


def test_a_fetch_without_an_end_lasts_as_long_as_the_window() -> None:
    rows = Rows()
    fetch(rows, 10, None)
    found = summary(rows, 40)
    assert (found.summed_ns, found.busy_ns, found.most_at_once) == (30, 30, 1)


def slowest(rows: Rows, count: int = 30, end: int = 1000) -> list[tuple[int, int]]:
    found = slowest_chunks(rows.frames(), Window(0, end), count)
    return [(chunk.fetch_id, chunk.duration_ns) for chunk in found]


def test_the_slowest_chunks_the_longest_first() -> None:
    rows = Rows()
    for start, end in ((0, 10), (50, 90), (0, 40), (0, None), (5, 5)):
        fetch(rows, start, end)
    rows.rows["fetches"].reverse()
    assert slowest(rows, end=30) == [(1, 40), (2, 40), (3, 30), (0, 10), (4, 0)]
    assert slowest(rows, 2, end=30) == [(1, 40), (2, 40)]


def test_by_itself_the_list_has_thirty_chunks() -> None:
    rows = Rows()
    for number in range(32):
        fetch(rows, 0, number)
    assert len(slowest_chunks(rows.frames(), Window(0, 1))) == 30


def test_slow_are_chunks_files_and_objects_of_unknown_kind() -> None:
    rows = Rows()
    for kind in ("chunk", "file", None, "catalog", "manifest"):
        fetch(rows, 0, 10, object_kind=kind)
    fetch(rows, 0, 10, object_kind=None, object_hash=None)
    fetch(rows, 0, 10, outcome="failed")
    assert slowest(rows) == [(0, 10), (1, 10), (2, 10), (6, 10)]


def test_the_parts_of_a_download() -> None:
    rows = Rows()
    download(rows, 7, 11, 13, 17, 23)
    fetch(rows, 10, 30, download_id=7)
    (chunk,) = slowest_chunks(rows.frames(), Window(0, 1))
    assert list(chunk.parts_ns.items()) == [
        ("before_request", 1), ("first_byte", 2), ("transfer", 4), ("commit", 6),
    ]  # fmt: skip
    assert (chunk.path, chunk.wire_bytes) == (None, 77)


@pytest.mark.parametrize(("times", "parts"), [
    ((10, 10, 10, 10), {"before_request": 0, "first_byte": 0, "transfer": 0, "commit": 0}),
    ((9, 13, 17, 23), {"first_byte": 4, "transfer": 4, "commit": 6}),
    ((11, None, 17, 23), {"before_request": 1, "commit": 6}),
    ((None, 13, 17, 16), {"transfer": 4}),
    ((None, None, None, None), {}),
])  # fmt: skip
def test_parts_that_are_not_known_or_not_possible_are_absent(
    times: tuple[int | None, ...], parts: dict[str, int]
) -> None:
    rows = Rows()
    download(rows, 0, *times)
    fetch(rows, 10, 30, download_id=0)
    assert slowest_chunks(rows.frames(), Window(0, 1))[0].parts_ns == parts


def test_a_fetch_that_joined_has_no_parts_of_its_own() -> None:
    rows = Rows()
    download(rows, 0, 11, 13, 17, 23)
    fetch(rows, 10, 30, download_id=0, outcome="joined")
    (chunk,) = slowest_chunks(rows.frames(), Window(0, 1))
    assert (chunk.parts_ns, chunk.wire_bytes, chunk.outcome) == ({}, None, "joined")


def test_latency_is_of_the_downloads_of_chunks_and_files() -> None:
    rows = Rows()
    times = ((0, 10, 110), (0, 20, 40), (0, 60, 61), (0, 9999, 99999), (0, 8888, 99999))
    for number, (sent, first, last) in enumerate(times):
        download(rows, number, sent, first, last, None, reused=number > 0)
    for number, kind in enumerate(("chunk", "file", "chunk", "catalog")):
        fetch(rows, 0, 1, download_id=number, object_kind=kind)
    fetch(rows, 0, 1, download_id=0)
    fetch(rows, 0, 1, download_id=None)
    found = latency(rows.frames())
    assert (found.first_byte_ns, found.transfer_ns) == (20, 20)
    assert found.bytes_per_s == 77e9 / 20
    assert (found.downloads, found.reused_connections) == (3, 2)


def test_latency_by_server_and_means() -> None:
    rows = Rows()
    times = ((10, 10), (10, 100), (40, 41), (40, 42), (40, 49))
    for number, (first, last) in enumerate(times):
        server = {"proxy": "p:3128"} if number < 2 else {}
        download(rows, number, 0, first, last, None, **server)
        fetch(rows, 0, 1, download_id=number)
    found = latency(rows.frames())
    assert (found.first_byte_ns, found.mean_first_byte_ns, found.mean_transfer_ns) == (40, 28, 20)
    assert [
        (each.server.name, each.downloads, each.first_byte_ns, each.transfer_ns,
         each.mean_transfer_ns)
        for each in found.servers
    ] == [("h", 3, 40, 2, 4), ("p:3128", 2, 10, 45, 45)]  # fmt: skip


def test_latency_has_the_size_of_the_same_objects_on_the_wire_and_unpacked() -> None:
    rows = Rows()
    for number, header in enumerate((7, None, 7)):
        download(rows, number, 0, 10, 20, None, header_bytes=header)
        kind = "chunk" if number < 2 else "catalog"
        fetch(rows, 0, 1, download_id=number, object_kind=kind, unpacked_bytes=1000 + number)
    fetch(rows, 0, 1, download_id=None, unpacked_bytes=5000)
    fetch(rows, 0, 1, download_id=0, unpacked_bytes=1000)
    found = latency(rows.frames())
    assert (found.body_bytes, found.unpacked_bytes) == (70 + 77, 2001)


def test_latency_leaves_out_what_was_not_seen() -> None:
    rows = Rows()
    assert latency(rows.frames()).downloads == 0
    download(rows, 0, 0, 10, 10, None)  # at once: no rate
    download(rows, 1, 0, 20, 21, None)
    download(rows, 2, None, None, None, None)
    download(rows, 3, 0, 9999, 99999, None)  # of a fetch that failed
    download(rows, 4, 0, 9999, 99999, None)  # and of one that goes on
    for number in range(3):
        fetch(rows, 0, 1, download_id=number)
    fetch(rows, 0, 1, download_id=3, outcome="failed")
    fetch(rows, 0, None, download_id=4, outcome=None)
    found = latency(rows.frames())
    assert (found.first_byte_ns, found.transfer_ns) == (15, 0)  # half is rounded to even
    assert found.bytes_per_s == 77e9
    assert (found.downloads, found.reused_connections) == (2, 0)


def test_latency_is_without_the_time_in_which_the_client_is_stopped() -> None:
    rows = Rows()
    download(rows, 0, 0, 50, 80, None, mount_id=0)
    fetch(rows, 0, 1, download_id=0)
    stopped(rows, 10, 60)
    found = latency(rows.frames())
    assert (found.first_byte_ns, found.transfer_ns) == (10, 20)
    rows.rows["fetches"][0] |= {"object_hash": "a", "end_ns": 80}
    (chunk,) = slowest_chunks(rows.frames(), Window(0, 100))
    assert chunk.duration_ns == 80
    assert (chunk.parts_ns["first_byte"], chunk.parts_ns["transfer"]) == (10, 20)
