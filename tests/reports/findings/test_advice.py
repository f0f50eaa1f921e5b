from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cvmprof.reports.findings.advice import LEVERS
from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.numbers.gains import PARTS, Gain
from cvmprof.reports.numbers.servers import Server
from cvmprof.reports.numbers.sharing import Neighbour
from cvmprof.reports.words import capital
from cvmprof.tests.reports.rows import (
    NO_FAILURES,
    NO_LATENCY,
    NO_PATTERNS,
    UNUSED_MOUNTS,
    command_time,
    fetches,
    spoken,
)
from cvmprof.tests.reports.synthetic import MS

ONE_BY_ONE = fetches(chunks_downloaded=2, most_at_once=1, summed_ns=10, busy_ns=10)


def advice(chunks: object = ONE_BY_ONE, **causes_ns: int) -> list[Finding]:
    """What is advised to a command of 100 ms with this time by cause."""
    found = spoken(command_time=command_time(100, **causes_ns), fetches=chunks)
    return [each for each in found if each.tone == "advice"]


@pytest.mark.parametrize(
    ("cause", "sentence", "remedies"),
    [
        ("first_byte", "the server's first byte",
         "The site: a cache or proxy near here that holds the objects; the program: open "
         "and read several files or parts at once; the publisher: fewer and larger objects."),
        ("connect", "the server's first byte", None),
        ("transfer", "receiving the data",
         "The site: a faster line, or a cache on this side of it; the program: read only what is "
         "needed; the publisher: smaller data, or data that compresses."),
        ("decompress", "the work of the client's one download thread",
         "The site: a faster CPU for the client."),
        ("cache_write", "the work of the client's one download thread",
         "The site: a faster disk for the client's cache."),
        ("fetch_queue", "waiting behind other downloads", ""),
        ("fetch_joined", "waiting behind other downloads", ""),
        ("daemon_lock", "locks in the client",
         "To find out: the table lock_waits names each holder."),
        ("cache_read", "the requests that the client answers itself",
         "The site: a faster disk for the client's cache."),
        ("fuse_queue", "the requests that the client answers itself", ""),
        ("daemon", "the requests that the client answers itself", None),
        ("catalog", "the catalogs", "The publisher: smaller nested catalogs."),
    ],
)  # fmt: skip
def test_each_part_of_the_waits_has_its_gain_and_who_can_have_it(
    cause: str, sentence: str, remedies: str | None
) -> None:
    (found,) = advice(**{cause: 5 * MS, "cpu": 95 * MS})
    assert found.headline == (
        f"{capital(sentence)} held the command up for 5.00 ms (5.0 %); "
        "at most that much can be gained."
    )
    assert remedies is None or found.meaning == remedies
    assert advice(**{cause: 5 * MS - 1, "cpu": 95 * MS}) == []


def what_is_advised(**changes: Any) -> str:
    """What is advised in a run with these changes."""
    (found,) = (each for each in spoken(**changes) if each.tone == "advice")
    return found.meaning


@pytest.mark.parametrize("cause", ["decompress", "fetch_queue"])
def test_objects_can_be_stored_uncompressed_where_they_are_compressed(cause: str) -> None:
    time = command_time(100, cpu=50 * MS, **{cause: 50 * MS})
    for body, said in ((500, True), (1003, False)):
        latency = replace(NO_LATENCY, body_bytes=body, unpacked_bytes=1000)
        advised = what_is_advised(command_time=time, latency=latency)
        assert advised.startswith("The publisher: store the objects uncompressed") is said


@pytest.mark.parametrize(
    ("kind", "advised"),
    [
        ("same_handle", "The program: a file handle of its own for each thread."),
        ("collision",
         "The program: fewer files open at once, or opened again: all share 128 locks."),
        ("catalog", "The publisher: smaller nested catalogs."),
        ("readahead", "Shorter fetches: each held a lock that readahead waited for."),
        ("other", "To find out: the table lock_waits names each holder."),
    ],
)  # fmt: skip
def test_each_lock_has_its_remedy(kind: str, advised: str) -> None:
    time = command_time(100, cpu=50 * MS, daemon_lock=50 * MS)
    patterns = replace(NO_PATTERNS, lock_kinds_ns={kind: MS})
    assert what_is_advised(command_time=time, patterns=patterns) == advised


def test_what_shortens_waits_behind_other_downloads() -> None:
    time = command_time(100, cpu=50 * MS, fetch_queue=50 * MS)
    at_once = fetches(most_at_once=2)
    assert what_is_advised(command_time=time, fetches=at_once) == (
        "The program: ask first for what is needed first."
    )
    assert what_is_advised(command_time=time, fetches=fetches(most_at_once=1)) == ""
    pauses = what_is_advised(command_time=time, failures=replace(NO_FAILURES, unanswered=1))
    assert pauses == "The site: shorter pauses (CVMFS_BACKOFF_INIT, CVMFS_BACKOFF_MAX)."


@pytest.mark.parametrize("cause", ["first_byte", "transfer"])
def test_a_proxy_on_this_machine_is_to_be_looked_at(cause: str) -> None:
    time = command_time(100, cpu=50 * MS, **{cause: 50 * MS})
    for is_local, said in ((True, True), (False, False)):
        proxy = Server("h:80", is_proxy=True, is_local=is_local, requests=1, ns=1)
        advised = what_is_advised(command_time=time, servers=(proxy,))
        assert ("look at the proxy on this machine (h:80)" in advised) is said
        assert ("near here" in advised or "a faster line" in advised) is not said
        assert "look at the server" not in advised


def test_no_advice_where_nothing_waited_for_cvmfs() -> None:
    assert advice(cpu=50 * MS, blocked=50 * MS) == []


def test_more_at_once_is_advised_only_where_fetches_ran_one_after_another() -> None:
    several = fetches(chunks_downloaded=4, most_at_once=2, summed_ns=20, busy_ns=10)
    (found,) = advice(several, first_byte=50 * MS, cpu=50 * MS)
    assert found.meaning == "The site: a cache or proxy near here that holds the objects."
    single = fetches(chunks_downloaded=1, most_at_once=1, summed_ns=10, busy_ns=10)
    (found,) = advice(single, first_byte=50 * MS, cpu=50 * MS)
    assert "at once" not in found.meaning


def test_others_can_make_way_only_where_there_are_others() -> None:
    other = Neighbour(pid=7, name="cp", requests=1, fetches=1, wire_bytes=1)
    time = command_time(100, fetch_queue=50 * MS, cpu=50 * MS)
    for neighbour, said in ((other, True), (replace(other, fetches=0), False)):
        mounts = replace(UNUSED_MOUNTS, neighbours=(neighbour,))
        found = [f for f in spoken(command_time=time, of_mounts=mounts) if f.tone == "advice"]
        assert ["for the others" in each.meaning for each in found] == [said]


def test_the_largest_gain_comes_first() -> None:
    found = advice(first_byte=20 * MS, decompress=30 * MS, cache_write=10 * MS, cpu=40 * MS)
    assert [each.headline.split(";")[0] for each in found] == [
        "The work of the client's one download thread held the command up for 40.0 ms (40 %)",
        "The server's first byte held the command up for 20.0 ms (20 %)",
    ]


@pytest.mark.parametrize("cause", ["first_byte", "transfer"])
def test_a_server_on_this_machine_has_no_line_and_nothing_nearer(cause: str) -> None:
    time = command_time(100, cpu=50 * MS, **{cause: 50 * MS})
    here, away = (Server("h:80", False, is_local, 1, 1) for is_local in (True, False))
    for servers, said in (((here,), True), ((here, away), False), ((), False)):
        (found,) = (f for f in spoken(command_time=time, servers=servers) if f.tone == "advice")
        assert ("look at the server on this machine (h:80)" in found.meaning) is said
        assert ("near here" in found.meaning or "a faster line" in found.meaning) is not said


def test_of_several_servers_the_one_that_took_most_time_is_to_be_looked_at_first() -> None:
    time = command_time(100, cpu=50 * MS, transfer=50 * MS)
    several = tuple(Server(name, False, True, 1, ns) for name, ns in (("slow:80", 9), ("h:80", 1)))
    (found,) = (f for f in spoken(command_time=time, servers=several) if f.tone == "advice")
    assert found.meaning.startswith(
        "The site: look first at the server on this machine (slow:80); the program:"
    )


def test_more_can_be_gained_than_held_the_command_up_where_several_threads_wait() -> None:
    time = command_time(100, transfer=60 * MS, first_byte=40 * MS)
    several = replace(time, gains={"first_byte": Gain(40 * MS, 100 * MS)})
    (found,) = (f for f in spoken(command_time=several) if f.tone == "advice")
    assert found.headline == (
        "The server's first byte held the command up for 40.0 ms (40 %); at most 100 ms can be "
        "gained."
    )


def test_what_only_waited_beside_others_that_went_on_is_no_advice() -> None:
    time = replace(command_time(100, cpu=100 * MS), gains={"first_byte": Gain(0, 90 * MS)})
    assert [f for f in spoken(command_time=time) if f.tone == "advice"] == []


def test_each_part_has_its_advice() -> None:
    assert {each.part for each in LEVERS} == set(PARTS)
