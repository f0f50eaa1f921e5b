"""Server, network or client: what samples of connections show of downloads."""

from __future__ import annotations

from typing import Any

from cvmprof.reports.numbers.network import READ_BYTES, Network
from cvmprof.reports.numbers.network import network as network_of
from cvmprof.tests.reports.rows import (
    sampled_rows,
    sent,
    statistics_of,
    stopped,
)
from cvmprof.tests.reports.synthetic import MS, START, Rows, tiny_rows


def network(*samples: dict[str, Any]) -> Network:
    return statistics_of(sampled_rows(*samples)).network


def test_without_samples_nothing_is_known() -> None:
    assert network().round_trip_ns is None
    assert network().downloads == 0


def test_the_first_byte_is_divided_by_the_shortest_round_trip() -> None:
    found = network(
        {"time_ns": START, "min_rtt_us": 4_000},
        {"time_ns": START + 1},
        {"time_ns": START + 2, "min_rtt_us": 0},
    )
    assert found.downloads == 2
    assert found.round_trip_ns == 500_000
    assert (found.travel_ns, found.answer_ns) == (2 * 500_000, 2 * (20 * MS - 500_000))
    assert found.transfer_ns == 2 * 15 * MS
    assert found.transfer_samples == 0


def test_the_first_byte_behind_a_handshake_is_not_trusted() -> None:
    rows = sampled_rows({"time_ns": START})
    for download in rows.rows["downloads"]:
        download["encrypted"] = True
    assert statistics_of(rows).network.downloads == 1
    assert statistics_of(rows).network.answer_ns == 20 * MS - 500_000


def test_a_round_trip_longer_than_the_wait_is_no_answer_time() -> None:
    found = network({"time_ns": START, "min_rtt_us": 50_000})
    assert (found.travel_ns, found.answer_ns) == (2 * 20 * MS, 0)


def test_samples_belong_to_the_transfers_that_they_were_taken_in() -> None:
    first, second = sent(tiny_rows())
    times = (first + 19 * MS, first + 20 * MS, first + 35 * MS, first + 36 * MS, second + 20 * MS)
    unread = (99_000, 20_000, 16 << 10, 99_000, 40_000)
    found = network(
        *({"time_ns": time, "unread_bytes": size} for time, size in zip(times, unread, strict=True))
    )
    assert (found.transfer_samples, found.unread_samples, found.unread_bytes) == (3, 2, 30_000)


def test_counters_are_counted_from_the_first_sample() -> None:
    found = network(
        {"time_ns": START, "segments_received": 100, "out_of_order": 7, "retransmits": 1},
        {"time_ns": START + 1, "segments_received": 350, "out_of_order": 18, "retransmits": 3},
        {"time_ns": START, "connection_id": 1, "out_of_order": 900},
    )
    assert (found.segments, found.disordered, found.retransmits) == (250, 11, 2)


def sample(time_ns: int, connection: int = 0, **values: Any) -> dict[str, Any]:
    """A row of sockets."""
    plain = {"state": "established", "remote": "10.0.0.9:80", "rtt_us": 9_000, "min_rtt_us": 500,
             "receive_rtt_us": 0, "retransmits": 0, "congestion_window": 10, "bytes_received": 0,
             "segments_received": 0, "out_of_order": 0, "unread_bytes": 0,
             "delivery_rate_bytes_s": 0}  # fmt: skip
    return {"time_ns": time_ns, "connection_id": connection, **plain, **values}


def download(rows: Rows, number: int, at: int, **values: Any) -> None:
    """A download for a chunk on connection 0: sent, first byte 10 later, last 20 later."""
    plain = {"object_hash": f"{number}", "connection_id": 0, "reused": True, "encrypted": False,
             "attempt": 1, "host": "h", "sent_ns": at, "first_byte_ns": at + 10,
             "last_byte_ns": at + 20}  # fmt: skip
    rows.add("downloads", download_id=number, **{**plain, **values})


def fetch(rows: Rows, number: int | None, kind: str | None = "chunk") -> None:
    rows.add("fetches", fetch_id=len(rows.rows.get("fetches", [])), pid=1, tid=1, start_ns=0,
             download_id=number, object_kind=kind, outcome="downloaded")  # fmt: skip


def summed(*samples: dict[str, Any], rows: Rows) -> Network:
    for each in samples:
        rows.add("sockets", **each)
    return network_of(rows.frames())


def test_only_whole_downloads_of_chunks_and_files_count() -> None:
    rows = Rows()
    for number, kind in enumerate(("chunk", "file", "catalog", None)):
        download(rows, number, 100 * number)
        fetch(rows, number, kind)
    fetch(rows, 0)  # and so does one that two fetches waited for, once
    fetch(rows, None)
    download(rows, 4, 400)  # for no fetch
    for number, missing in enumerate(("sent_ns", "first_byte_ns", "last_byte_ns"), start=5):
        download(rows, number, 100 * number, **{missing: None})
        fetch(rows, number)
    assert summed(sample(0), rows=rows).downloads == 2


def test_a_first_answer_by_https_does_not_count() -> None:
    rows = Rows()
    for number, (reused, encrypted) in enumerate(((False, True), (True, True), (False, False))):
        download(rows, number, 100 * number, reused=reused, encrypted=encrypted)
        fetch(rows, number)
    found = summed(sample(0), rows=rows)
    assert (found.downloads, found.travel_ns, found.transfer_ns) == (2, 20, 20)


def test_the_round_trip_is_the_median_of_the_downloads() -> None:
    rows = Rows()
    for number, connection in enumerate((0, 0, 1, 2)):
        download(rows, number, 100 * number, connection_id=connection)
        fetch(rows, number)
    trips = ((0, 900), (0, 300), (1, 500), (2, 700), (2, 0))
    found = summed(*(sample(0, each, min_rtt_us=us) for each, us in trips), rows=rows)
    assert found.round_trip_ns == 400_000  # of 300, 300, 500, 700


def test_a_round_trip_of_one_microsecond_is_one() -> None:
    rows = Rows()
    download(rows, 0, 0)
    fetch(rows, 0)
    assert summed(sample(0, min_rtt_us=1), rows=rows).round_trip_ns == 1000


def test_samples_in_any_order_fall_into_the_transfers_of_their_connection() -> None:
    rows = Rows()
    for number, (at, connection) in enumerate(((300, 0), (100, 0), (200, 1))):
        download(rows, number, at, connection_id=connection)
        fetch(rows, number)
    times = (321, 315, 215, 115, 320, 110, 109)  # within: 315, 320, 115, 110
    unread = READ_BYTES + 1
    found = summed(*(sample(time, unread_bytes=unread) for time in times), rows=rows)
    assert (found.transfer_samples, found.unread_samples) == (4, 4)
    assert found.unread_bytes == unread


def test_what_a_client_takes_at_once_is_not_unread() -> None:
    rows = Rows()
    download(rows, 0, 0)
    fetch(rows, 0)
    samples = [sample(15, unread_bytes=READ_BYTES) for _ in range(3)]
    found = summed(*samples, rows=rows)
    assert READ_BYTES == 16_384
    assert (found.transfer_samples, found.unread_samples, found.unread_bytes) == (3, 0, 0)


def connection(rows: Rows, number: int, began: int | None, **values: Any) -> None:
    """A connection that carried no request, to where ``remote`` says; closed after 5."""
    at = 0 if began is None else began
    plain = {"sent_ns": None, "first_byte_ns": None, "last_byte_ns": None, "connect_ns": began,
             "closed_ns": at + 5}  # fmt: skip
    download(rows, number, at, **{**plain, **values})


def test_a_failed_connection_costs_the_time_to_the_next_attempt_at_its_object() -> None:
    rows = Rows()
    download(rows, 3, 70, object_hash="a", attempt=2, closed_ns=500)
    connection(rows, 2, 60, object_hash="b", attempt=2)
    connection(rows, 0, 0, object_hash="a", attempt=1, remote="a:80")
    connection(rows, 1, 20, object_hash="b", attempt=1)
    found = summed(rows=rows)
    assert found.failed_connections == 3
    assert found.failed_ns == 70 + 40 + 5
    assert found.failed_to == ("a:80",)


def test_a_failed_connection_costs_its_own_time_where_no_attempt_follows() -> None:
    rows = Rows()
    connection(rows, 0, 0, object_hash="a", attempt=1)
    connection(rows, 1, None, object_hash="a", attempt=3, closed_ns=900)  # connected before
    connection(rows, 2, 50, object_hash="a", attempt=1, closed_ns=None)  # still open
    found = summed(rows=rows)
    assert (found.failed_connections, found.failed_ns) == (2, 5)


def test_places_are_named_once_in_the_order_of_their_failures() -> None:
    rows = Rows()
    places = ("d", "b", "d", None, "a", "c", "b")
    for number, place in enumerate(places):
        connection(rows, number, 10 * number, remote=place)
    assert summed(rows=rows).failed_to == ("d", "b", "a", "c")


def test_while_the_client_is_stopped_neither_server_nor_network_nor_client_is_slow() -> None:
    """The other mount's is another client."""
    rows = Rows()
    for number, mount in enumerate((0, 1)):
        download(rows, number, 100 + 50 * number, mount_id=mount)
        fetch(rows, number)
    stopped(rows, 105, 118)
    unread = {"unread_bytes": READ_BYTES + 1, "min_rtt_us": 0}
    times = (111, 117, 118, 161)
    measured = sample(0, min_rtt_us=1)
    found = summed(measured, *(sample(time, **unread) for time in times), rows=rows)
    assert found.travel_ns + found.answer_ns == 5 + 10
    assert found.transfer_ns == 2 + 10
    assert (found.transfer_samples, found.unread_samples) == (2, 2)
