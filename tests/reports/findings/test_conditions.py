"""Conditions of advice, and numbers just on the other side of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cvmprof.reports.findings import conditions
from cvmprof.reports.findings.servers import is_here, proxy_is_here
from cvmprof.reports.numbers.held import Held
from cvmprof.reports.numbers.reading import Answered, RequestSize
from cvmprof.reports.numbers.servers import Server
from cvmprof.reports.numbers.statistics import Statistics
from cvmprof.tests.reports.rows import (
    NO_FAILURES,
    NO_LATENCY,
    NO_PATTERNS,
    NO_TIME,
    command_time,
    quiet,
)

Condition = Callable[[Statistics], bool]
KIB = 1 << 10


@pytest.mark.parametrize(
    ("body", "unpacked", "smaller"),
    [(979, 1000, True), (980, 1000, False), (1003, 1000, False), (0, 1000, False), (0, 0, False)],
)
def test_objects_that_are_smaller_on_the_wire_are_compressed(
    body: int, unpacked: int, smaller: bool
) -> None:
    latency = replace(NO_LATENCY, body_bytes=body, unpacked_bytes=unpacked)
    assert conditions.compressed(quiet(latency=latency)) is smaller


@pytest.mark.parametrize(
    ("condition", "enough", "too_little"),
    [
        (conditions.unpacks, {"decompress": 20, "cache_write": 80},
         {"decompress": 19, "cache_write": 81}),
        (conditions.writes_cache, {"decompress": 80, "cache_write": 20},
         {"decompress": 81, "cache_write": 19}),
        (conditions.reads_cache, {"cache_read": 20, "daemon": 40, "fuse_queue": 40},
         {"cache_read": 19, "daemon": 41, "fuse_queue": 40}),
    ],
)  # fmt: skip
def test_a_part_of_a_lever_that_is_worth_a_remedy(
    condition: Condition, enough: dict[str, int], too_little: dict[str, int]
) -> None:
    assert condition(quiet(command_time=command_time(100, **enough)))
    assert not condition(quiet(command_time=command_time(100, **too_little)))
    assert not condition(quiet())


def asked(names: int, *sizes: tuple[int, int]) -> Statistics:
    """A run with this many lookups, and READs of sizes: bytes, count."""
    reads = tuple(RequestSize(size, count, size * count, NO_TIME) for size, count in sizes)
    reading = replace(NO_PATTERNS.reading, sizes=reads)
    lookups = replace(NO_PATTERNS.names, lookups=names)
    return quiet(patterns=replace(NO_PATTERNS, reading=reading, names=lookups))


def test_reads_are_small_if_the_average_is() -> None:
    assert conditions.reads_are_small(asked(0, (4 * KIB, 1), (64 * KIB, 1)))
    assert not conditions.reads_are_small(asked(0, (64 * KIB, 2)))
    assert not conditions.reads_are_small(quiet())


def test_more_names_than_reads() -> None:
    assert conditions.asks_for_names(asked(4, (KIB, 2), (2 * KIB, 1)))
    assert not conditions.asks_for_names(asked(3, (KIB, 2), (2 * KIB, 1)))


def test_reads_that_the_client_answered_itself() -> None:
    answered = Answered(1, KIB, NO_TIME)
    reading = replace(NO_PATTERNS.reading, answered=answered)
    assert conditions.answers_reads(quiet(patterns=replace(NO_PATTERNS, reading=reading)))
    assert not conditions.answers_reads(quiet())


@pytest.mark.parametrize(
    ("lookups", "catalog_ns", "fetched_ns", "slowly"),
    [
        (10, 2_000_000, 0, True), (10, 1_999_999, 0, False), (10, 1_000_000, 500_001, True),
        (10, 1_000_000, 500_000, False),
    ],
)  # fmt: skip
def test_the_catalogs_or_the_number_of_lookups(
    lookups: int, catalog_ns: int, fetched_ns: int, slowly: bool
) -> None:
    names = replace(NO_PATTERNS.names, lookups=lookups, catalogs=Held(0, fetched_ns))
    run = quiet(
        patterns=replace(NO_PATTERNS, names=names),
        command_time=command_time(100, catalog=catalog_ns),
    )
    assert conditions.finds_slowly(run) is slowly
    assert conditions.finds_often(run) is not slowly


def test_what_the_client_asked_for_again() -> None:
    assert conditions.repeated(quiet(failures=replace(NO_FAILURES, unanswered=1)))
    assert not conditions.repeated(quiet())


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        (conditions.held_by_handle, "same_handle"), (conditions.held_by_collision, "collision"),
        (conditions.held_by_catalog, "catalog"), (conditions.held_by_other, "other"),
        (conditions.held_by_readahead, "readahead"),
    ],
)  # fmt: skip
def test_which_lock_requests_waited_for(condition: Condition, kind: str) -> None:
    def waited(**kinds_ns: Any) -> Statistics:
        return quiet(patterns=replace(NO_PATTERNS, lock_kinds_ns=kinds_ns))

    rest = "catalog" if kind != "catalog" else "other"
    assert condition(waited(**{kind: 20, rest: 80}))
    assert not condition(waited(**{kind: 19, rest: 81}))
    assert condition(quiet()) is (kind == "other")


@pytest.mark.parametrize(
    ("servers", "here", "proxy"),
    [
        ([(False, True)], True, False), ([(None, True)], True, False), ([], False, False),
        ([(True, True)], False, True), ([(True, True), (False, True)], False, True),
        ([(True, True), (False, False)], False, False), ([(False, False)], False, False),
    ],
)  # fmt: skip
def test_a_proxy_on_this_machine_may_get_it_from_afar(
    servers: list[tuple[bool | None, bool]], here: bool, proxy: bool
) -> None:
    asked_of = tuple(Server("h:80", is_proxy, is_local, 1, 1) for is_proxy, is_local in servers)
    statistics = quiet(servers=asked_of)
    assert (is_here(statistics), proxy_is_here(statistics)) == (here, proxy)
