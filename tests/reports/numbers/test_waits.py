"""How long the command waited for downloads, of frames made by hand. Times in ms."""

from __future__ import annotations

from typing import Any

import pytest

from cvmprof.reports.material import Window
from cvmprof.reports.numbers.servers import Server
from cvmprof.reports.numbers.waits import Waits, waits
from cvmprof.tests.reports.rows import NO_WAITS, stopped, tile
from cvmprof.tests.reports.synthetic import DAEMON, WORKERS, Rows

END = 1000


def fetched(rows: Rows, number: int, start: int, end: int | None, **row: Any) -> None:
    """A fetch, that downloaded if it ended."""
    plain = {"object_kind": "chunk", "outcome": None if end is None else "downloaded"}
    rows.add("fetches", fetch_id=number, pid=DAEMON, tid=DAEMON, start_ns=start, end_ns=end,
             **{**plain, "object_hash": f"{number}", **row})  # fmt: skip


def tried(rows: Rows, fetch: int | None, *times: int | None, **row: Any) -> None:
    """An attempt of a fetch with its times sent, first byte, last byte."""
    names = ("sent_ns", "first_byte_ns", "last_byte_ns")
    number = len(rows.rows.get("downloads", []))
    plain = {"host": "h:80", "attempt": 1, "wire_bytes": 77, "download_id": number}
    made = {**dict(zip(names, times, strict=True)), **plain, **row}
    rows.add("downloads", fetch_id=fetch, **made)


def of(rows: Rows) -> Waits:
    return waits(rows.frames(), Window(0, END))


def test_of_nothing() -> None:
    assert of(Rows()) == NO_WAITS


def test_the_parts_of_what_was_answered() -> None:
    rows = Rows()
    fetched(rows, 0, 10, 100)
    tried(rows, 0, 20, 50, 90, status=200)
    for start, end, cause in ((10, 20, "fetch_queue"), (20, 50, "first_byte"),
                              (50, 80, "transfer"), (80, 100, "runqueue")):  # fmt: skip
        tile(rows, start, end, cause, fetch_id=0)
    tile(rows, 100, 200, "cpu")
    found = of(rows)
    assert (found.total_ns, found.kinds_ns) == (90, {"answered": 80})
    assert (found.first_byte_ns, found.transfer_ns, found.answered) == (30, 30, 1)
    assert (found.pending, found.in_flight_ns, found.useless_ns) == (None, 0, 0)
    assert found.slowest is not None
    assert (found.slowest.waited_ns, found.slowest.first_byte_ns) == (80, 30)
    assert (found.slowest.transfer_ns, found.slowest.wire_bytes) == (40, 77)
    assert [server.name for server in found.slowest.servers] == ["h:80"]


def test_threads_that_wait_at_once_count_once_and_joined_fetches_as_their_download() -> None:
    rows = Rows()
    fetched(rows, 0, 0, 100)
    fetched(rows, 1, 40, 100, outcome="joined", joined_fetch_id=0)
    tried(rows, 0, 0, 60, 100)
    tile(rows, 0, 50, "first_byte", fetch_id=0)
    tile(rows, 40, 80, "fetch_joined", tid=WORKERS[0], fetch_id=1)
    found = of(rows)
    assert (found.total_ns, found.kinds_ns, found.first_byte_ns) == (80, {"answered": 80}, 50)


def test_what_never_came_is_in_flight_until_the_end() -> None:
    rows = Rows()
    rows.add("files", file_id=3, mount_id=0, inode=1, generation=0, path="/m/file")
    fetched(rows, 0, 100, None, file_id=3, download_id=1)
    fetched(rows, 1, 200, None, object_hash="0")  # the same object
    fetched(rows, 2, 0, 50)
    tried(rows, 0, 110, None, None, wire_bytes=5)
    tried(rows, 0, 300, 310, 320, wire_bytes=20, remote="127.0.0.1:80")
    tried(rows, 2, 10, 20, 40)
    tile(rows, 100, 1000, "first_byte", fetch_id=0)
    found = of(rows)
    assert found.kinds_ns == {"in_flight": 900, "unanswered": 190}
    pending = found.pending
    assert pending is not None
    assert (pending.count, pending.longest_ns, pending.silent_ns) == (1, 900, 680)
    assert (pending.received_bytes, pending.path) == (20, "/m/file")
    assert pending.servers == (Server("h:80", is_proxy=False, is_local=True, requests=1, ns=20),)
    assert found.answered == 1


def test_a_fetch_that_was_never_sent_is_silent_since_it_began() -> None:
    rows = Rows()
    fetched(rows, 0, 100, None)
    pending = of(rows).pending
    assert pending is not None
    assert (pending.longest_ns, pending.silent_ns, pending.received_bytes) == (900, 900, 0)
    assert (pending.path, pending.servers) == (None, ())


@pytest.mark.parametrize(("kind", "first"), [
    ("unanswered", {}), ("error", {"status": 400}), ("rejected", {"status": 399}),
    ("refused", {"sent_ns": None, "connect_ns": 10, "closed_ns": 15}),
])  # fmt: skip
def test_an_attempt_in_vain_lasts_until_the_next_or_the_end_of_its_fetch(
    kind: str, first: dict[str, Any]
) -> None:
    rows = Rows()
    fetched(rows, 0, 0, 100)
    tried(rows, 0, 70, 80, 90, attempt=2, status=200)
    tried(rows, 0, 10, None, None, remote="10.0.0.1:1", **{**first, "host": "bad"})
    tile(rows, 0, 100, "fetch", fetch_id=0)
    found = of(rows)
    assert found.kinds_ns == {"answered": 30, kind: 60}
    assert (found.useless_ns, found.answered) == (60, 1)
    assert [server.name for server in found.failed_at] == ["bad"]
    rows.rows["fetches"][0] |= {"outcome": "failed"}
    rows.rows["downloads"][0] |= {"status": 503}
    expected = {kind: 60, "error": 30} if kind != "error" else {"error": 90}
    assert of(rows).kinds_ns == expected


def test_the_attempt_that_a_fetch_names_is_its_own() -> None:
    """Though it does not name the fetch; an attempt of no known fetch is left out."""
    rows = Rows()
    fetched(rows, 0, 0, 100, download_id=0)
    tried(rows, None, 10, 20, 90)
    tried(rows, None, 10, 20, 90)
    tile(rows, 0, 100, "fetch", fetch_id=0)
    assert (of(rows).answered, of(rows).kinds_ns) == (1, {"answered": 90})


def test_the_slowest_is_the_one_waited_for_longest() -> None:
    rows = Rows()
    for number, (start, end) in enumerate(((0, 400), (500, 600), (600, 1000))):
        fetched(rows, number, start, end)
        tried(rows, number, start, start + 10, end, wire_bytes=number)
    for number, (start, end) in enumerate(((0, 50), (500, 600), (990, 1000))):
        tile(rows, start, end, "transfer", fetch_id=number)
    slowest = of(rows).slowest
    assert slowest is not None
    assert (slowest.wire_bytes, slowest.waited_ns) == (1, 100)


def test_a_client_that_is_stopped_is_no_wait_for_a_download() -> None:
    """Neither of the one waited for longest, nor of its parts; the fetch takes it all the same."""
    rows = Rows()
    fetched(rows, 0, 0, 100)
    tried(rows, 0, 0, 60, 90, mount_id=0)
    stopped(rows, 10, 70)
    for start, end, cause in ((0, 10, "first_byte"), (10, 70, "stopped"), (70, 90, "transfer")):
        tile(rows, start, end, cause, fetch_id=0)
    found = of(rows)
    assert (found.total_ns, found.kinds_ns) == (90, {"answered": 30})
    assert (found.first_byte_ns, found.transfer_ns) == (10, 20)
    assert found.slowest is not None
    assert (found.slowest.waited_ns, found.slowest.first_byte_ns) == (30, 10)
    assert found.slowest.transfer_ns == 20


def test_a_server_is_not_silent_while_the_client_is_stopped() -> None:
    rows = Rows()
    fetched(rows, 0, 100, None, download_id=0, mount_id=0)
    tried(rows, 0, 110, None, None, mount_id=0)
    stopped(rows, 50, 400)
    stopped(rows, 900, END + 50)
    tile(rows, 100, 400, "stopped", fetch_id=0)
    tile(rows, 400, END, "first_byte", fetch_id=0)
    found = of(rows)
    assert found.pending is not None
    assert (found.pending.silent_ns, found.in_flight_ns) == (900 - 400, 600)
