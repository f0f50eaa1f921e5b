from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.numbers.cpu import Cpu, Holder, Lack
from cvmprof.reports.numbers.failures import Failures
from cvmprof.reports.numbers.fetching import Latency, TookFrom
from cvmprof.reports.numbers.network import Network
from cvmprof.reports.numbers.servers import Server
from cvmprof.reports.numbers.waits import Pending, Slowest, Waits
from cvmprof.tests.reports.rows import (
    NO_COMMAND,
    NO_FAILURES,
    NO_NETWORK,
    NO_WAITS,
    UNUSED_MOUNTS,
    command_time,
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

HERE = Server("127.0.0.1:8000", is_proxy=False, is_local=True, requests=3, ns=1)
AWAY = Server("cache.example.org:3128", is_proxy=True, is_local=False, requests=3, ns=1)
#: of 100 ms the command waited 60 ms for first bytes and 20 ms for transfers
WAITED = replace(
    NO_WAITS, total_ns=80 * MS, kinds_ns={"answered": 80 * MS}, first_byte_ns=60 * MS,
    transfer_ns=20 * MS, answered=3,
)  # fmt: skip
#: of 100 ms that the command took
WAITING = replace(NO_COMMAND, wall_ns=100 * MS, cvmfs_ns=60 * MS)


def test_what_a_download_took_and_cost() -> None:
    took = (
        "A download took 20.0 ms to its first byte and 15.0 ms more to its last (medians of 2), "
        "at 38.1 MiB/s."
    )
    (finding,) = [f for f in findings_of(tiny_rows()) if f.headline == took]
    assert finding.meaning == (
        "The command waited 40.0 ms (40 %) for first bytes and 30.0 ms (30 %) for transfers: "
        "latency and bandwidth matter about equally."
    )
    rows = tiny_rows()
    for download in rows.rows["downloads"]:
        download["last_byte_ns"] -= 10 * MS
    assert any("and 5.00 ms more to its last" in finding.headline for finding in findings_of(rows))


def test_the_clients_own_work_is_no_transfer() -> None:
    said = "Most of the time to the last byte the client unpacked and wrote what it had received."
    took = Latency(MS, 40 * MS, 1e8, 3, 0)
    for work, transfer, expected in ((30, 29, said), (30, 30, ""), (4, 0, "")):
        time = command_time(decompress=work * MS, transfer=transfer * MS)
        found = spoken(latency=took, command_time=time)
        (finding,) = (each for each in found if each.headline.startswith("A download took "))
        assert finding.meaning == expected


def test_what_came_whole_with_its_first_bytes_has_no_speed() -> None:
    (finding,) = spoken(latency=Latency(20 * MS, 0, 1e6, 3, 0))
    assert finding.headline == (
        "A download took 20.0 ms to its first byte and 0 ns more to its last (medians of 3)."
    )


#: most downloads came whole with their first bytes, few took most of the time
MIXED = Latency(
    20 * MS, 0, 2.0 * MIB, 48, 0, mean_first_byte_ns=21 * MS, mean_transfer_ns=48 * MS
)  # fmt: skip


def test_means_are_said_where_medians_hide_much_of_the_time() -> None:
    (finding,) = spoken(latency=MIXED)
    assert finding.headline == (
        "A download took 20.0 ms to its first byte and 0 ns more to its last (medians of 48; the "
        "means are 21.0 ms and 48.0 ms)."
    )
    close_ones: tuple[dict[str, Any], ...] = (
        {"mean_transfer_ns": 2 * MS},
        {"transfer_ns": 24 * MS},
    )
    for close in close_ones:
        (finding,) = spoken(latency=replace(MIXED, **close))
        assert "(medians of 48)" in finding.headline


def test_several_servers_each_have_their_medians() -> None:
    near = TookFrom(MS, MS, 2.0 * MIB, 7, HERE)
    far = TookFrom(20 * MS, 0, 2.0 * MIB, 5, AWAY, mean_first_byte_ns=20 * MS,
                   mean_transfer_ns=8 * MS)  # fmt: skip
    both = (
        "A download from the server on this machine (127.0.0.1:8000) took 1.00 ms to its first "
        "byte and 1.00 ms more to its last (medians of 7), at 2.00 MiB/s; from the proxy "
        "cache.example.org:3128 took 20.0 ms to its first byte and 0 ns more to its last (medians "
        "of 5; the means are 20.0 ms and 8.00 ms)"
    )
    (two,) = spoken(latency=replace(MIXED, servers=(near, far)))
    assert two.headline == f"{both}."
    (four,) = spoken(latency=replace(MIXED, servers=(near, far, far, far)))
    assert four.headline.startswith(both)
    assert four.headline.endswith("; 1 more server was asked.")
    (one,) = spoken(latency=replace(MIXED, servers=(near,)))
    assert one == spoken(latency=MIXED)[0]


def chunk_took(first_ns: int | None, transfer_ns: int | None, rate: float | None = None) -> Latency:
    return Latency(first_ns, transfer_ns, rate, 3, 0)


def test_what_a_chunk_took() -> None:
    (finding,) = spoken(latency=chunk_took(20 * MS, 15 * MS, 2.0 * MIB))
    assert (finding.tone, finding.meaning) == ("note", "")
    assert figures(finding.headline) == ["20.0 ms", "15.0 ms", "3", "2.00 MiB"]
    (finding,) = spoken(latency=chunk_took(20 * MS, 15 * MS))
    assert figures(finding.headline) == ["20.0 ms", "15.0 ms", "3"]
    assert spoken(latency=chunk_took(None, 15 * MS)) == []
    assert spoken(latency=chunk_took(20 * MS, None)) == []


def advice(waits: Waits, *servers: Server) -> str:
    """What would help a command that waited 60 of 100 ms for CVMFS; not the medians decide."""
    latency, time = chunk_took(15 * MS, 15 * MS), WAITING
    return spoken(latency=latency, waits=waits, servers=servers, command_time=time)[-1].meaning


def test_latency_or_bandwidth_is_named_beyond_twice_the_other_with_its_share() -> None:
    def meaning(first_ms: int, transfer_ms: int) -> str:
        waits = replace(WAITED, first_byte_ns=first_ms * MS, transfer_ns=transfer_ms * MS)
        return advice(waits)

    assert meaning(60, 20) == (
        "The command waited 60.0 ms (60 %) for first bytes and 20.0 ms (20 %) for transfers: "
        "latency, not bandwidth. Larger chunks or fetching ahead, or a nearer proxy, would help, "
        "a faster line would not."
    )
    assert "bandwidth more than latency. A faster line or server, or" in meaning(20, 60)
    equal = "latency and bandwidth matter about equally."
    assert meaning(40, 20).endswith(equal) and meaning(20, 40).endswith(equal)


def test_waits_while_another_thread_went_on_are_not_the_commands() -> None:
    """Longer than all that held the command up, by more than a hundredth of its time."""
    for first_ms, who in ((61, "The command"), (62, "Some thread of the command")):
        waits = replace(WAITED, first_byte_ns=first_ms * MS, transfer_ns=0)
        assert advice(waits).startswith(f"{who} waited {first_ms}.0 ms ({first_ms} %) for first")


def test_without_a_twentieth_of_the_time_nothing_is_advised() -> None:
    few = replace(WAITED, first_byte_ns=5 * MS, transfer_ns=0)
    assert advice(few) and not advice(replace(few, first_byte_ns=5 * MS - 1))
    few = replace(WAITED, first_byte_ns=0, transfer_ns=5 * MS)
    assert advice(few) and not advice(replace(few, transfer_ns=5 * MS - 1))


def test_what_is_on_this_machine_has_no_line_and_nothing_nearer() -> None:
    assert "nearer" not in advice(WAITED, HERE)
    assert "nearer" in advice(WAITED, HERE, AWAY)
    assert "nearer" not in advice(WAITED, replace(HERE, is_proxy=True))
    transfers = replace(WAITED, first_byte_ns=0, transfer_ns=60 * MS)
    assert "A faster server, or" in advice(transfers, HERE)
    assert "A faster line or server, or" in advice(transfers, replace(HERE, is_proxy=True))
    assert "A faster line or server, or" in advice(transfers, AWAY)


def test_no_advice_where_the_time_was_lost_otherwise() -> None:
    lost = {"in_flight": 80 * MS}
    assert advice(replace(WAITED, kinds_ns=lost))
    assert not advice(replace(WAITED, kinds_ns={**lost, "error": 1}))


#: for 5.9 of 6 s nothing came
HUNG = replace(
    WAITED, kinds_ns={"answered": 80 * MS, "in_flight": 5900 * MS},
    pending=Pending(1, 5900 * MS, 5800 * MS, 0, "/cvmfs/m.bin", (HERE,)),
)  # fmt: skip


def of_six_seconds(**changes: Any) -> list[Finding]:
    time = replace(NO_COMMAND, wall_ns=6000 * MS, cvmfs_ns=5900 * MS)
    return spoken(command_time=time, **changes)


def test_what_never_came() -> None:
    finding, _ = of_six_seconds(waits=HUNG, latency=chunk_took(20 * MS, 2 * MS))
    assert finding == Finding(
        "warning",
        "The command waited 5.90 s (98 %) for 1 object that had not come when recording ended "
        "(part of /cvmfs/m.bin).",
        "The server on this machine (127.0.0.1:8000) sent nothing for 5.80 s. 3 other downloads "
        "began to arrive after 20.0 ms (median): look at that server, or at what lies before it. "
        "A faster line would not help.",
    )


def test_what_stopped_coming_and_what_is_not_known_of_others() -> None:
    pending = Pending(2, 5900 * MS, 5000 * MS, 2048, None, (AWAY,))
    (finding,) = of_six_seconds(waits=replace(HUNG, pending=pending))
    assert finding.headline == (
        "The command waited 5.90 s (98 %) for 2 objects that had not come when recording ended."
    )
    assert finding.meaning == (
        "The proxy cache.example.org:3128 sent 2.00 KiB of it, then nothing for 5.00 s. Nothing "
        "else was downloaded: whether anything answers there is not known."
    )


def test_what_is_just_under_way_does_not_hang() -> None:
    assert HUNG.pending is not None
    second, less = 1000 * MS, 1000 * MS - 1
    for lasted, waited, says in ((second, second, 1), (less, second, 0), (second, less, 0)):
        pending = replace(HUNG.pending, longest_ns=lasted)
        waits = replace(HUNG, pending=pending, kinds_ns={"in_flight": waited})
        assert len(of_six_seconds(waits=waits)) == says
    arriving = replace(HUNG, pending=replace(HUNG.pending, silent_ns=less))
    assert of_six_seconds(waits=arriving) == []
    assert of_six_seconds(waits=replace(HUNG, pending=None)) == []


#: of 5.9 s waited for three downloads 5.7 s were one
ONE_SLOW = replace(
    WAITED, kinds_ns={"answered": 5900 * MS}, first_byte_ns=5890 * MS,
    slowest=Slowest(5700 * MS, 5000 * MS, 500 * MS, 1 << 20, "/cvmfs/m.bin", (HERE,)),
)  # fmt: skip


def test_one_download_that_took_most_of_the_time() -> None:
    usual = chunk_took(20 * MS, 2 * MS)
    finding, general = of_six_seconds(waits=ONE_SLOW, latency=usual, network=PLAIN)
    assert (finding.tone, general.meaning) == ("note", "")
    assert finding.headline == (
        "The command waited 5.70 s (95 %) for one of 3 downloads: 5.00 s to its first byte and "
        "500 ms to transfer 1.00 MiB (2.00 MiB/s), from the server on this machine "
        "(127.0.0.1:8000)."
    )
    assert finding.meaning == (
        "The medians are 20.0 ms and 2.00 ms: neither latency nor bandwidth in general, but that "
        "object or that moment (part of /cvmfs/m.bin)."
    )


@pytest.mark.parametrize(("waited_ms", "usual_ms", "of_ms", "answered", "says"), [
    (301, 60, 601, 3, True), (299, 20, 597, 3, False), (300, 20, 599, 3, True),
    (301, 20, 602, 3, False), (301, 61, 599, 3, False), (301, 20, 599, 2, False),
])  # fmt: skip
def test_one_download_is_slow_beyond_half_a_twentieth_and_five_times_the_usual(
    waited_ms: int, usual_ms: int, of_ms: int, answered: int, says: bool
) -> None:
    """More than half of what was waited for, a twentieth of the time, five times the medians."""
    assert ONE_SLOW.slowest is not None
    slowest = replace(ONE_SLOW.slowest, waited_ns=waited_ms * MS)
    waits = replace(ONE_SLOW, slowest=slowest, kinds_ns={"answered": of_ms * MS}, answered=answered)
    found = of_six_seconds(waits=waits, latency=chunk_took(usual_ms * MS, 0))
    assert any("for one of" in finding.headline for finding in found) is says


@pytest.mark.parametrize("failed", [0, 1])
def test_requests_that_brought_nothing(failed: int) -> None:
    broken = Failures({}, {404: 2, 502: 3}, unanswered=4, rejected=5, downloaded_again=0)
    (finding,) = spoken(failures=broken, fetches=fetches(failed=failed))
    assert (finding.tone, figures(finding.headline)) == ("warning", ["1"] * failed + ["14"])
    assert figures(finding.meaning) == ["2", "404", "3", "502", "4", "5"]


def test_fetches_that_failed_by_their_errors() -> None:
    broken = replace(NO_FAILURES, fetches={"EIO": 2, "ENOSPC": 1})
    (finding,) = spoken(failures=broken, fetches=fetches(failed=3))
    assert (finding.tone, figures(finding.headline)) == ("warning", ["3", "2", "1"])
    assert finding.headline.endswith("; no request to a server was seen to fail.")
    assert "EIO" in finding.headline and "ENOSPC" in finding.headline
    assert finding.meaning.startswith("ENOSPC")
    (finding,) = spoken(failures=replace(broken, fetches={"EIO": 3}), fetches=fetches(failed=3))
    assert finding.meaning == ""


def test_who_was_asked_in_vain_and_how_long_that_was_waited_for() -> None:
    broken = replace(NO_FAILURES, unanswered=1, statuses={503: 1})
    waits = replace(
        NO_WAITS, kinds_ns={"unanswered": 20 * MS, "error": 10 * MS, "answered": MS},
        failed_at=(HERE, AWAY),
    )  # fmt: skip
    (finding,) = spoken(failures=broken, waits=waits, command_time=WAITING)
    assert finding.meaning == (
        "1 answered with status 503; 1 not answered. They went to the servers 127.0.0.1:8000, "
        "cache.example.org:3128. The command waited 30.0 ms (30 %) in vain: 20.0 ms for no "
        "answer, 10.0 ms for errors. Look at them; a shorter CVMFS_TIMEOUT, or "
        "CVMFS_TIMEOUT_DIRECT without a proxy, may give up sooner."
    )
    one = replace(waits, kinds_ns={"error": 10 * MS}, failed_at=(HERE,))
    broken = replace(NO_FAILURES, statuses={503: 1})
    (finding,) = spoken(failures=broken, waits=one, command_time=WAITING)
    assert finding.meaning == (
        "1 answered with status 503. It went to the server on this machine (127.0.0.1:8000). The "
        "command waited 10.0 ms (10 %) in vain."
    )


@pytest.mark.parametrize(
    ("silences", "asked", "advice"),
    [
        ({"direct": 1000 * MS}, HERE,
         "that server; a shorter CVMFS_TIMEOUT_DIRECT would give up sooner"),
        ({"proxy": 1000 * MS, "direct": 999 * MS}, AWAY,
         "that proxy; a shorter CVMFS_TIMEOUT would give up sooner"),
        ({"proxy": 2000 * MS, "direct": 2000 * MS}, AWAY,
         "that proxy; a shorter CVMFS_TIMEOUT or CVMFS_TIMEOUT_DIRECT would give up sooner"),
        ({"proxy": 999 * MS}, AWAY,
         "that proxy; no request waited long, so the client's pauses before it asks again took the "
         "time (CVMFS_BACKOFF_INIT, CVMFS_BACKOFF_MAX)"),
    ],
)  # fmt: skip
def test_what_gives_up_sooner_on_who_does_not_answer(
    silences: dict[str, int], asked: Server, advice: str
) -> None:
    broken = replace(NO_FAILURES, unanswered=1, silences_ns=silences)
    waits = replace(NO_WAITS, kinds_ns={"unanswered": 5 * MS}, failed_at=(asked,))
    (finding,) = spoken(failures=broken, waits=waits)
    assert finding.meaning.endswith(f" in vain. Look at {advice}.")
    quick = replace(waits, kinds_ns={"unanswered": 5 * MS - 1})
    (finding,) = spoken(failures=broken, waits=quick)
    assert finding.meaning.endswith(" in vain.")


def test_a_cache_without_room() -> None:
    (full,) = spoken(
        failures=replace(NO_FAILURES, fetches={"ENOSPC": 1}), fetches=fetches(failed=1)
    )
    assert full.meaning == (
        "ENOSPC: the client's cache had no room: its limit (CVMFS_QUOTA_LIMIT) or its disk is too "
        "small."
    )
    (other,) = spoken(failures=replace(NO_FAILURES, fetches={"EIO": 1}), fetches=fetches(failed=1))
    assert other.meaning == ""


@pytest.mark.parametrize(("part", "words"), [
    ({"unanswered": 1}, "1 not answered"), ({"rejected": 1}, "1 answered, but cut short, "),
])  # fmt: skip
def test_one_way_to_bring_nothing(part: dict[str, Any], words: str) -> None:
    (finding,) = spoken(failures=replace(NO_FAILURES, **part))
    assert figures(finding.headline) == ["1"]
    assert finding.meaning.startswith(words) and figures(finding.meaning) == ["1"]


def about_the_network(rows: Rows) -> list[tuple[str, str]]:
    """The findings about the network."""
    words = ("network", "connection", "round trip", "set the pace", "slow to answer")
    return [
        (finding.headline, finding.meaning)
        for finding in findings(statistics_of(rows))
        if any(word in finding.headline for word in words)
    ]


def test_without_samples_nothing_is_said() -> None:
    assert about_the_network(tiny_rows()) == []


SLOW_SERVER = "The server h was slow to answer: 19.5 ms on average, beyond a round trip of 500 µs."


def test_a_slow_server() -> None:
    ((headline, meaning),) = about_the_network(sampled_rows({"time_ns": START}))
    assert headline == SLOW_SERVER
    assert meaning.startswith("The command waited 40.0 ms (40 %) for first bytes.")


@pytest.mark.parametrize("shortest_us", [4_500, 19_000])
def test_a_server_is_not_blamed_for_a_long_way(shortest_us: int) -> None:
    rows = sampled_rows({"time_ns": START, "min_rtt_us": shortest_us})
    headlines = [headline for headline, _ in about_the_network(rows)]
    far = (
        "The network path to the server h is long: of 70.0 ms in requests, summed over them, "
        "38.0 ms were round trips of 19.0 ms each."
    )
    assert headlines == ([far] if shortest_us == 19_000 else [])


def test_lost_packets_come_first() -> None:
    rows = sampled_rows(
        {"time_ns": START},
        {"time_ns": START + 1, "segments_received": 400, "out_of_order": 4, "retransmits": 1},
    )
    ((headline, meaning),) = about_the_network(rows)
    assert headline == (
        "The network lost or reordered packets on the mount's connections to the server h: 4 of "
        "400 segments came out of order, and this end sent 1 again."
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
        "The client, not the server h nor the network, set the pace of transfers: in 67 % of 6 "
        "samples bytes that had arrived waited to be read."
    )
    assert meaning.startswith("The median is 68.4 KiB unread:")


@pytest.mark.parametrize(("lacked_ms", "said"), [(4, True), (5, False)])
def test_a_client_without_a_cpu_is_not_called_slow(lacked_ms: int, said: bool) -> None:
    rows = sampled_rows(*in_transfers(4, unread_bytes=70_000), *in_transfers(2))
    quota = Holder("quota", lacked_ms * MS)
    lack = Lack("whole command", 100 * MS, "client", lacked_ms * MS, {}, (quota,))
    statistics = replace(statistics_of(quick_answers(rows)), cpu=Cpu(lacks=(lack,)))
    found = [finding.headline for finding in findings(statistics)]
    assert any("set the pace" in headline for headline in found) is said


def test_no_advice_is_given_against_what_the_samples_say() -> None:
    def meaning(rows: Rows) -> str:
        found = findings(statistics_of(rows))
        return next(each.meaning for each in found if each.headline.startswith("A download took"))

    plain = quick_answers(sampled_rows(*in_transfers(1)))
    assert "latency and bandwidth" in meaning(plain)
    assert meaning(quick_answers(sampled_rows(*in_transfers(6, unread_bytes=70_000)))) == ""


def test_a_line_that_is_slower_than_the_client() -> None:
    ((headline, meaning),) = about_the_network(quick_answers(sampled_rows(*in_transfers(6))))
    assert headline == (
        "The server h or the line to it, not the client, set the pace of transfers: in 100 % of 6 "
        "samples nothing that had arrived waited to be read."
    )
    assert meaning == ("The command waited 30.0 ms (30 %) for transfers. The round trip is 500 µs.")


def test_what_samples_do_not_say_clearly_is_not_said() -> None:
    some = (*in_transfers(2, unread_bytes=70_000), *in_transfers(4))
    assert about_the_network(quick_answers(sampled_rows(*some))) == []
    assert about_the_network(quick_answers(sampled_rows(*in_transfers(4)))) == []


def test_failed_connections_and_what_they_cost() -> None:
    """Two for the first chunk, and one of which nobody knows for what it was."""
    rows = tiny_rows()
    first, second = rows.rows["downloads"]
    sent_ns = first["sent_ns"]
    failed = {
        "mount_id": 0, "host": "10.0.0.7:3128", "remote": "10.0.0.7:3128", "encrypted": False,
        "reused": False, "wire_bytes": 0,
    }  # fmt: skip
    first |= {"download_id": 2, "attempt": 3, "fetch_id": 0, "sent_ns": sent_ns + 9 * MS}
    second |= {"download_id": 4}
    for fetch, number in zip(rows.rows["fetches"], (2, 4), strict=True):
        fetch["download_id"] = number
    of_chunk = {**failed, "object_hash": first["object_hash"], "fetch_id": 0}
    rows.add("downloads", **of_chunk, download_id=0, connection_id=7, attempt=1,
             connect_ns=sent_ns, closed_ns=sent_ns + MS)  # fmt: skip
    rows.add("downloads", **of_chunk, download_id=1, connection_id=8, attempt=2,
             connect_ns=sent_ns + 5 * MS, closed_ns=sent_ns + 6 * MS)  # fmt: skip
    rows.add("downloads", **failed, download_id=3, connection_id=9, attempt=1,
             connect_ns=sent_ns, closed_ns=sent_ns + 2 * MS)  # fmt: skip
    ((headline, meaning),) = about_the_network(rows)
    assert headline == "2 connections failed, to 10.0.0.7:3128."
    assert meaning.startswith("The command waited 9.00 ms (9.0 %) until the next attempts:")


def test_connections_of_the_mount_that_failed() -> None:
    network = replace(NO_NETWORK, failed_connections=1, failed_to=("a:1",))
    (finding,) = spoken(of_mounts=replace(UNUSED_MOUNTS, network=network))
    assert finding == Finding(
        "warning",
        "1 connection of the mount failed, to a:1.",
        "None of them is known to be for the command.",
    )


#: two downloads, 100 ms in all; samples of them tell nothing
PLAIN = replace(NO_NETWORK, downloads=2, round_trip_ns=MS, answer_ns=40 * MS, travel_ns=20 * MS,
                transfer_ns=40 * MS)  # fmt: skip


def headlines_of(plain: Network = PLAIN, **changes: Any) -> list[str]:
    """The figures of the one finding of such a network; none if nothing is said."""
    found = spoken(network=replace(plain, **changes), waits=WAITED)
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
    (finding,) = spoken(network=SENDING, waits=WAITED)
    assert (finding.tone, figures(finding.headline)) == ("note", ["50 %", "6"])
    assert figures(finding.meaning) == ["32.0 KiB", "20.0 ms", "20 %"]
    assert headlines_of(SENDING, transfer_samples=5) == ["60 %", "5"]
    assert headlines_of(SENDING, transfer_samples=4) == []
    assert headlines_of(SENDING, unread_samples=2) == []
    assert headlines_of(SENDING, transfer_ns=50 * MS - 1) == []


def test_a_line_is_slow_where_at_most_a_tenth_of_the_samples_found_something_unread() -> None:
    line = replace(SENDING, transfer_samples=10, unread_samples=1)
    (finding,) = spoken(network=line, waits=WAITED)
    assert (finding.tone, figures(finding.headline)) == ("note", ["90 %", "10"])
    assert figures(finding.meaning) == ["20.0 ms", "20 %", "1.00 ms"]
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
    (finding,) = spoken(network=slow, waits=WAITED)
    shown = {MS: "1.00 ms", 2 * MS: "2.00 ms"}[trip_ns]
    assert (finding.tone, figures(finding.headline)) == ("note", [mean, shown])
    assert headlines_of(slow, transfer_ns=answer_ns + 1) == []
    assert headlines_of(slow, answer_ns=answer_ns - 2, transfer_ns=answer_ns - 2) == []


def test_a_way_is_long_by_its_round_trips() -> None:
    """From 5 ms a round trip, a quarter of the time, and as much as the server took on."""
    far = replace(PLAIN, round_trip_ns=5 * MS, answer_ns=25 * MS, travel_ns=25 * MS,
                  transfer_ns=50 * MS)  # fmt: skip
    (finding,) = spoken(network=far, waits=WAITED)
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
        return spoken(latency=latency, network=network, waits=WAITED)[0].meaning

    assert advice(PLAIN) and not advice(SENDING)


def failed(number: int, *to: str) -> Finding:
    found = replace(NO_NETWORK, failed_connections=number, failed_to=to)
    (finding,) = spoken(network=found, waits=replace(NO_WAITS, kinds_ns={"refused": 11 * MS}))
    return finding


def test_four_of_the_places_that_connections_failed_to_are_named() -> None:
    finding = failed(7, "a:1", "b:1", "c:1", "d:1", "e:1")
    assert (finding.tone, figures(finding.meaning)) == ("warning", ["11.0 ms", "11 %"])
    assert "7" in finding.headline and "a:1, b:1, c:1, d:1" in finding.headline
    assert "e:1" not in finding.headline
    assert figures(failed(1).headline) == ["1"]
