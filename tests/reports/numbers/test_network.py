"""Server, network or client: what samples of connections tell of downloads."""

from __future__ import annotations

from typing import Any

import pytest

from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.network import Network
from cvmprof.reports.numbers.statistics import Statistics, compute
from cvmprof.tests.reports.synthetic import MS, START, Rows, run_of, tiny_rows


def rows_with(*samples: dict[str, Any]) -> Rows:
    """A run whose connection was sampled. Its two downloads: first byte 20 ms after the request,
    last byte 15 ms after that.
    """
    rows = tiny_rows()
    for sample in samples:
        rows.add(
            "sockets",
            **{
                "connection_id": 0,
                "state": "established",
                "remote": "10.0.0.9:80",
                "rtt_us": 9_000,
                "min_rtt_us": 500,
                "receive_rtt_us": 0,
                "retransmits": 0,
                "congestion_window": 10,
                "bytes_received": 0,
                "segments_received": 0,
                "out_of_order": 0,
                "unread_bytes": 0,
                "delivery_rate_bytes_s": 0,
                **sample,
            },
        )
    return rows


def sent(rows: Rows) -> list[int]:
    return [download["sent_ns"] for download in rows.rows["downloads"]]


def in_transfers(count: int, **values: Any) -> list[dict[str, Any]]:
    """So many samples within the first transfer."""
    start = sent(tiny_rows())[0] + 21 * MS
    return [{"time_ns": start + n * MS, **values} for n in range(count)]


def statistics(rows: Rows) -> Statistics:
    return compute(gather(run_of(rows)))


def network(*samples: dict[str, Any]) -> Network:
    return statistics(rows_with(*samples)).network


def told(rows: Rows) -> list[tuple[str, str]]:
    """The findings about the network."""
    words = ("network", "connection", "round trip", "line or the server")
    return [
        (finding.headline, finding.meaning)
        for finding in findings(statistics(rows))
        if any(word in finding.headline for word in words)
        and finding.tone in ("note", "warning")
        and not finding.headline.startswith("Each chunk")
    ]


def test_without_samples_nothing_is_said() -> None:
    assert network().round_trip_ns is None
    assert network().downloads == 0
    assert told(tiny_rows()) == []


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
    rows = rows_with({"time_ns": START})
    for download in rows.rows["downloads"]:
        download["encrypted"] = True
    assert statistics(rows).network.downloads == 1
    assert statistics(rows).network.answer_ns == 20 * MS - 500_000


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


SLOW_SERVER = (
    "The server or proxy, not the network, was slow: 19.5 ms on average until it answered, beyond "
    "a round trip of 500 µs."
)


def test_a_slow_server() -> None:
    ((headline, _),) = told(rows_with({"time_ns": START}))
    assert headline == SLOW_SERVER


@pytest.mark.parametrize("shortest_us", [4_500, 19_000])
def test_a_server_is_not_blamed_for_a_long_way(shortest_us: int) -> None:
    rows = rows_with({"time_ns": START, "min_rtt_us": shortest_us})
    headlines = [headline for headline, _ in told(rows)]
    far = (
        "The network path to the server is long: of 70.0 ms in requests, 38.0 ms were round trips "
        "of 19.0 ms each."
    )
    assert headlines == ([far] if shortest_us == 19_000 else [])


def test_lost_packets_come_first() -> None:
    rows = rows_with(
        {"time_ns": START},
        {"time_ns": START + 1, "segments_received": 400, "out_of_order": 4, "retransmits": 1},
    )
    ((headline, meaning),) = told(rows)
    assert headline == (
        "The network lost packets: 4 of 400 segments came out of order, and this end sent 1 again."
    )
    assert meaning.startswith("The round trip is 500 µs")


@pytest.mark.parametrize("lost", [(401, 3), (600, 4), (0, 0)])
def test_few_losses_are_not_worth_telling(lost: tuple[int, int]) -> None:
    segments, disordered = lost
    rows = rows_with(
        {"time_ns": START},
        {
            "time_ns": START + 1,
            "segments_received": segments,
            "out_of_order": disordered,
            "retransmits": 1,
        },
    )
    assert [headline for headline, _ in told(rows)] == [SLOW_SERVER]


def quick_answers(rows: Rows) -> Rows:
    """The same with first bytes after 1 ms, so that transfers take nearly all."""
    for download in rows.rows["downloads"]:
        download["first_byte_ns"] = download["sent_ns"] + 1 * MS
    return rows


def test_a_client_that_does_not_keep_up() -> None:
    rows = rows_with(*in_transfers(4, unread_bytes=70_000), *in_transfers(2))
    ((headline, meaning),) = told(quick_answers(rows))
    assert headline == (
        "The client, not the network, set the pace of transfers: in 67 % of 6 samples bytes that "
        "had arrived waited to be read."
    )
    assert meaning.startswith("The median is 68.4 KiB unread:")


def test_no_advice_is_given_against_what_the_samples_say() -> None:
    def meaning(rows: Rows) -> str:
        found = findings(statistics(rows))
        return next(each.meaning for each in found if each.headline.startswith("Each chunk took"))

    plain = quick_answers(rows_with(*in_transfers(1)))
    assert "a faster line or server" in meaning(plain)
    assert meaning(quick_answers(rows_with(*in_transfers(6, unread_bytes=70_000)))) == ""


def test_a_line_that_is_slower_than_the_client() -> None:
    ((headline, meaning),) = told(quick_answers(rows_with(*in_transfers(6))))
    assert headline == (
        "The line or the server, not the client, set the pace of transfers: in 100 % of 6 samples "
        "nothing that had arrived waited to be read."
    )
    assert meaning == "The round trip is 500 µs."


def test_what_samples_do_not_say_clearly_is_not_said() -> None:
    some = (*in_transfers(2, unread_bytes=70_000), *in_transfers(4))
    assert told(quick_answers(rows_with(*some))) == []
    assert told(quick_answers(rows_with(*in_transfers(4)))) == []


def test_failed_connections_and_what_they_cost() -> None:
    rows = tiny_rows()
    first, second = rows.rows["downloads"]
    sent_ns = first["sent_ns"]
    failed = {
        "mount_id": 0,
        "object_hash": first["object_hash"],
        "host": "10.0.0.7:3128",
        "remote": "10.0.0.7:3128",
        "encrypted": False,
        "reused": False,
        "wire_bytes": 0,
    }
    first |= {"download_id": 2, "attempt": 3}
    second |= {"download_id": 4}
    for fetch, number in zip(rows.rows["fetches"], (2, 4), strict=True):
        fetch["download_id"] = number
    rows.add(
        "downloads",
        **failed,
        download_id=0,
        connection_id=7,
        attempt=1,
        connect_ns=sent_ns - 9 * MS,
        closed_ns=sent_ns - 8 * MS,
    )
    rows.add(
        "downloads",
        **failed,
        download_id=1,
        connection_id=8,
        attempt=2,
        connect_ns=sent_ns - 4 * MS,
        closed_ns=sent_ns - 3 * MS,
    )
    rows.add(
        "downloads",
        **{**failed, "object_hash": None},
        download_id=3,
        connection_id=9,
        attempt=1,
        connect_ns=sent_ns,
        closed_ns=sent_ns + 2 * MS,
    )
    ((headline, meaning),) = told(rows)
    assert headline == "3 connections failed, to 10.0.0.7:3128."
    assert meaning.startswith("It took 11.0 ms until the next attempt:")
