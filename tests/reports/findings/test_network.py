from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.numbers.failures import Failures
from cvmprof.reports.numbers.fetching import Latency
from cvmprof.reports.numbers.network import Network
from cvmprof.tests.reports.rows import (
    NO_FAILURES,
    NO_NETWORK,
    fetches,
    figures,
    findings_of,
    in_transfers,
    sampled_rows,
    spoken,
    statistics_of,
)
from cvmprof.tests.reports.synthetic import (
    MIB,
    MS,
    START,
    Rows,
    tiny_rows,
)


def test_latency_and_bandwidth_are_told_apart() -> None:
    latency = (
        "Each chunk took 20.0 ms to its first byte and 15.0 ms to transfer (medians of 2), "
        "at 38.1 MiB/s."
    )
    (finding,) = [f for f in findings_of(tiny_rows()) if f.headline == latency]
    assert finding.meaning == "Latency and bandwidth matter about equally."
    rows = tiny_rows()
    for download in rows.rows["downloads"]:
        download["last_byte_ns"] -= 10 * MS
    (finding,) = [f for f in findings_of(rows) if "and 5.00 ms to transfer" in f.headline]
    assert finding.meaning.startswith("Latency, not bandwidth")
    rows = tiny_rows()
    for download in rows.rows["downloads"]:
        download["first_byte_ns"] -= 15 * MS
    (finding,) = [f for f in findings_of(rows) if f.headline.startswith("Each chunk took 5.00 ms")]
    assert finding.meaning.startswith("Bandwidth more than latency")


def chunk_took(first_ns: int | None, transfer_ns: int | None, rate: float | None = None) -> Latency:
    return Latency(first_ns, transfer_ns, rate, 3, 0)


def test_what_a_chunk_took() -> None:
    (finding,) = spoken(latency=chunk_took(20 * MS, 15 * MS, 2.0 * MIB))
    assert finding.tone == "note"
    assert figures(finding.headline) == ["20.0 ms", "15.0 ms", "3", "2.00 MiB"]
    (finding,) = spoken(latency=chunk_took(20 * MS, 15 * MS))
    assert figures(finding.headline) == ["20.0 ms", "15.0 ms", "3"]
    assert spoken(latency=chunk_took(None, 15 * MS)) == []
    assert spoken(latency=chunk_took(20 * MS, None)) == []


def test_latency_or_bandwidth_is_named_beyond_twice_the_other() -> None:
    def meaning(first_ns: int, transfer_ns: int) -> str:
        (finding,) = spoken(latency=chunk_took(first_ns, transfer_ns))
        return finding.meaning

    alike = meaning(10, 10)
    assert meaning(20, 10) == meaning(10, 20) == alike
    assert len({meaning(21, 10), meaning(10, 21), alike}) == 3


@pytest.mark.parametrize("failed", [0, 1])
def test_requests_that_brought_nothing(failed: int) -> None:
    broken = Failures({}, {404: 2, 502: 3}, unanswered=4, rejected=5, downloaded_again=0)
    (finding,) = spoken(failures=broken, fetches=fetches(failed=failed))
    assert (finding.tone, figures(finding.headline)) == ("warning", ["1"] * failed + ["14"])
    assert figures(finding.meaning) == ["2", "404", "3", "502", "4", "5"]


def test_fetches_that_failed_by_their_errors() -> None:
    broken = replace(NO_FAILURES, fetches={"EIO": 2, "ENOSPC": 1})
    (finding,) = spoken(failures=broken, fetches=fetches(failed=3))
    assert (finding.tone, figures(finding.headline)) == ("warning", ["3", "2", "1", "0"])
    assert "EIO" in finding.headline and "ENOSPC" in finding.headline
    assert finding.meaning.startswith("ENOSPC")
    (finding,) = spoken(failures=replace(broken, fetches={"EIO": 3}), fetches=fetches(failed=3))
    assert finding.meaning == ""


@pytest.mark.parametrize(("part", "words"), [
    ({"unanswered": 1}, "1 not answered"), ({"rejected": 1}, "1 answered with"),
])  # fmt: skip
def test_one_way_to_bring_nothing(part: dict[str, Any], words: str) -> None:
    (finding,) = spoken(failures=replace(NO_FAILURES, **part))
    assert figures(finding.headline) == ["1"]
    assert finding.meaning.startswith(words) and figures(finding.meaning) == ["1"]


def about_the_network(rows: Rows) -> list[tuple[str, str]]:
    """The findings about the network."""
    words = ("network", "connection", "round trip", "line or the server")
    return [
        (finding.headline, finding.meaning)
        for finding in findings(statistics_of(rows))
        if any(word in finding.headline for word in words)
        and finding.tone in ("note", "warning")
        and not finding.headline.startswith("Each chunk")
    ]


def test_without_samples_nothing_is_said() -> None:
    assert about_the_network(tiny_rows()) == []


SLOW_SERVER = (
    "The server or proxy, not the network, was slow: 19.5 ms on average until it answered, beyond "
    "a round trip of 500 µs."
)


def test_a_slow_server() -> None:
    ((headline, _),) = about_the_network(sampled_rows({"time_ns": START}))
    assert headline == SLOW_SERVER


@pytest.mark.parametrize("shortest_us", [4_500, 19_000])
def test_a_server_is_not_blamed_for_a_long_way(shortest_us: int) -> None:
    rows = sampled_rows({"time_ns": START, "min_rtt_us": shortest_us})
    headlines = [headline for headline, _ in about_the_network(rows)]
    far = (
        "The network path to the server is long: of 70.0 ms in requests, 38.0 ms were round trips "
        "of 19.0 ms each."
    )
    assert headlines == ([far] if shortest_us == 19_000 else [])


def test_lost_packets_come_first() -> None:
    rows = sampled_rows(
        {"time_ns": START},
        {"time_ns": START + 1, "segments_received": 400, "out_of_order": 4, "retransmits": 1},
    )
    ((headline, meaning),) = about_the_network(rows)
    assert headline == (
        "The network lost packets: 4 of 400 segments came out of order, and this end sent 1 again."
    )
    assert meaning.startswith("The round trip is 500 µs")


@pytest.mark.parametrize("lost", [(401, 3), (600, 4), (0, 0)])
def test_few_losses_are_not_worth_telling(lost: tuple[int, int]) -> None:
    segments, disordered = lost
    rows = sampled_rows(
        {"time_ns": START},
        {
            "time_ns": START + 1,
            "segments_received": segments,
            "out_of_order": disordered,
            "retransmits": 1,
        },
    )
    assert [headline for headline, _ in about_the_network(rows)] == [SLOW_SERVER]


def quick_answers(rows: Rows) -> Rows:
    """The same with first bytes after 1 ms, so that transfers take nearly all."""
    for download in rows.rows["downloads"]:
        download["first_byte_ns"] = download["sent_ns"] + 1 * MS
    return rows


def test_a_client_that_does_not_keep_up() -> None:
    rows = sampled_rows(*in_transfers(4, unread_bytes=70_000), *in_transfers(2))
    ((headline, meaning),) = about_the_network(quick_answers(rows))
    assert headline == (
        "The client, not the network, set the pace of transfers: in 67 % of 6 samples bytes that "
        "had arrived waited to be read."
    )
    assert meaning.startswith("The median is 68.4 KiB unread:")


def test_no_advice_is_given_against_what_the_samples_say() -> None:
    def meaning(rows: Rows) -> str:
        found = findings(statistics_of(rows))
        return next(each.meaning for each in found if each.headline.startswith("Each chunk took"))

    plain = quick_answers(sampled_rows(*in_transfers(1)))
    assert "a faster line or server" in meaning(plain)
    assert meaning(quick_answers(sampled_rows(*in_transfers(6, unread_bytes=70_000)))) == ""


def test_a_line_that_is_slower_than_the_client() -> None:
    ((headline, meaning),) = about_the_network(quick_answers(sampled_rows(*in_transfers(6))))
    assert headline == (
        "The line or the server, not the client, set the pace of transfers: in 100 % of 6 samples "
        "nothing that had arrived waited to be read."
    )
    assert meaning == "The round trip is 500 µs."


def test_what_samples_do_not_say_clearly_is_not_said() -> None:
    some = (*in_transfers(2, unread_bytes=70_000), *in_transfers(4))
    assert about_the_network(quick_answers(sampled_rows(*some))) == []
    assert about_the_network(quick_answers(sampled_rows(*in_transfers(4)))) == []


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
    ((headline, meaning),) = about_the_network(rows)
    assert headline == "3 connections failed, to 10.0.0.7:3128."
    assert meaning.startswith("It took 11.0 ms until the next attempt:")


#: two downloads, 100 ms in all; samples of them tell nothing
PLAIN = replace(NO_NETWORK, downloads=2, round_trip_ns=MS, answer_ns=40 * MS, travel_ns=20 * MS,
                transfer_ns=40 * MS)  # fmt: skip


def headlines_of(plain: Network = PLAIN, **changes: Any) -> list[str]:
    """The figures of the one finding of such a network; none if nothing is said."""
    found = spoken(network=replace(plain, **changes))
    assert len(found) <= 1
    return [figure for finding in found for figure in figures(finding.headline)]


def test_of_a_plain_network_nothing_is_said() -> None:
    assert headlines_of() == []


@pytest.mark.parametrize(("segments", "disordered", "retransmits"), [
    (500, 3, 2), (100, 5, 0), (0, 0, 5),
])  # fmt: skip
def test_losses_from_five_and_a_hundredth_on(
    segments: int, disordered: int, retransmits: int
) -> None:
    figures_said = headlines_of(segments=segments, disordered=disordered, retransmits=retransmits)
    assert figures_said == [str(disordered), str(segments), str(retransmits)]


@pytest.mark.parametrize(("segments", "disordered", "retransmits"), [
    (501, 3, 2), (10, 4, 0), (10, 2, 2),
])  # fmt: skip
def test_fewer_losses_are_none(segments: int, disordered: int, retransmits: int) -> None:
    assert headlines_of(segments=segments, disordered=disordered, retransmits=retransmits) == []


def test_without_a_round_trip_or_any_time_nothing_is_said() -> None:
    lossy: dict[str, Any] = {"segments": 100, "disordered": 50}
    assert headlines_of(round_trip_ns=None, **lossy) == []
    assert headlines_of(answer_ns=0, travel_ns=0, transfer_ns=0, **lossy) == []
    assert headlines_of(**lossy) == ["50", "100", "0"]


SENDING = replace(PLAIN, answer_ns=30 * MS, transfer_ns=50 * MS, transfer_samples=6,
                  unread_samples=3, unread_bytes=32 << 10)  # fmt: skip


def test_a_client_is_slow_from_half_of_the_samples_and_the_time_on() -> None:
    (finding,) = spoken(network=SENDING)
    assert (finding.tone, figures(finding.headline)) == ("note", ["50 %", "6"])
    assert figures(finding.meaning) == ["32.0 KiB"]
    assert headlines_of(SENDING, transfer_samples=5) == ["60 %", "5"]
    assert headlines_of(SENDING, transfer_samples=4) == []
    assert headlines_of(SENDING, unread_samples=2) == []
    assert headlines_of(SENDING, transfer_ns=50 * MS - 1) == []


def test_a_line_is_slow_where_at_most_a_tenth_of_the_samples_found_something_unread() -> None:
    line = replace(SENDING, transfer_samples=10, unread_samples=1)
    (finding,) = spoken(network=line)
    assert (finding.tone, figures(finding.headline)) == ("note", ["90 %", "10"])
    assert figures(finding.meaning) == ["1.00 ms"]
    assert headlines_of(line, unread_samples=2) == []
    assert headlines_of(line, transfer_samples=19, unread_samples=2) == []
    assert headlines_of(line, transfer_ns=50 * MS - 1) == []
    assert headlines_of(line, transfer_samples=5, unread_samples=0) == ["100 %", "5"]
    assert headlines_of(line, transfer_samples=4, unread_samples=0) == []


@pytest.mark.parametrize(("trip_ns", "answer_ns", "mean"), [
    (MS, 10 * MS, "5.00 ms"), (2 * MS, 20 * MS, "10.0 ms"),
])  # fmt: skip
def test_a_server_is_slow_by_its_mean_answer(trip_ns: int, answer_ns: int, mean: str) -> None:
    """From 5 ms, and five round trips, and half of the time on."""
    slow = replace(PLAIN, round_trip_ns=trip_ns, answer_ns=answer_ns, travel_ns=0,
                   transfer_ns=answer_ns)  # fmt: skip
    (finding,) = spoken(network=slow)
    shown = {MS: "1.00 ms", 2 * MS: "2.00 ms"}[trip_ns]
    assert (finding.tone, figures(finding.headline)) == ("note", [mean, shown])
    assert headlines_of(slow, transfer_ns=answer_ns + 1) == []
    assert headlines_of(slow, answer_ns=answer_ns - 2, transfer_ns=answer_ns - 2) == []


def test_a_way_is_long_by_its_round_trips() -> None:
    """From 5 ms a round trip, a quarter of the time, and as much as the server took on."""
    far = replace(PLAIN, round_trip_ns=5 * MS, answer_ns=25 * MS, travel_ns=25 * MS,
                  transfer_ns=50 * MS)  # fmt: skip
    (finding,) = spoken(network=far)
    assert (finding.tone, figures(finding.headline)) == ("note", ["100 ms", "25.0 ms", "5.00 ms"])
    assert headlines_of(far, round_trip_ns=5 * MS - 1) == []
    assert headlines_of(far, answer_ns=25 * MS + 1, transfer_ns=50 * MS - 1) == []
    assert headlines_of(far, answer_ns=0, transfer_ns=75 * MS) == ["100 ms", "25.0 ms", "5.00 ms"]
    assert headlines_of(far, answer_ns=0, transfer_ns=75 * MS + 4) == []


def test_of_several_reasons_the_first_is_said() -> None:
    both = replace(SENDING, segments=100, disordered=10)
    assert headlines_of(both) == ["10", "100", "0"]
    slow_server = replace(PLAIN, answer_ns=60 * MS, transfer_ns=40 * MS, travel_ns=0)
    far_too = replace(slow_server, round_trip_ns=6 * MS, travel_ns=60 * MS, transfer_ns=0)
    assert headlines_of(far_too) == ["30.0 ms", "6.00 ms"]


def test_a_reason_takes_the_place_of_general_advice() -> None:
    latency = Latency(20 * MS, 15 * MS, None, 2, 0)

    def advice(network: Network) -> str:
        return spoken(latency=latency, network=network)[0].meaning

    assert advice(PLAIN) and not advice(SENDING)


def failed(number: int, *to: str) -> Finding:
    found = replace(NO_NETWORK, failed_connections=number, failed_ns=11 * MS, failed_to=to)
    (finding,) = spoken(network=found)
    return finding


def test_four_of_the_places_that_connections_failed_to_are_named() -> None:
    finding = failed(7, "a:1", "b:1", "c:1", "d:1", "e:1")
    assert (finding.tone, figures(finding.meaning)) == ("warning", ["11.0 ms"])
    assert "7" in finding.headline and "a:1, b:1, c:1, d:1" in finding.headline
    assert "e:1" not in finding.headline
    assert figures(failed(1).headline) == ["1"]
