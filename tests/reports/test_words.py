from __future__ import annotations

import pytest

from cvmprof.reports import words


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1_000, "1.00 µs"), (20_600_000, "20.6 ms"),
     (999_700_000, "1.00 s"), (123_456_789_000, "123 s"), (1_234_000_000_000, "1,234 s"),
     (999_500_000, "1.00 s"), (999_499_999, "999 ms"), (999_500, "1.00 ms"), (999_499, "999 µs"),
     (-2_500_000, "-2.50 ms"), (9_990_000, "9.99 ms"), (9_995_000, "10.0 ms"),
     (9_994_999, "9.99 ms"), (99_950_000, "100 ms"), (99_949_999, "99.9 ms")],
)  # fmt: skip
def test_durations(ns: int, text: str) -> None:
    assert words.duration(ns) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1000, "1000 B"), (1 << 20, "1.00 MiB"), (3 << 30, "3.00 GiB"),
     (1 << 10, "1.00 KiB"), (1023, "1023 B"), (1023.488, "1.00 KiB"), (1023.487, "1023 B"),
     (1_048_051, "1,023 KiB"), (1_048_052, "1.00 MiB"), (1_073_204_952, "1,023 MiB"),
     (1_073_204_954, "1.00 GiB"), (-2048, "-2.00 KiB")],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.0002, "under 0.1 %"), (0.021, "2.1 %"), (0.8249, "82 %"), (0.9999, "99.9 %"),
     (1.0, "100 %"), (0.001, "0.1 %"), (0.0994, "9.9 %"), (0.0995, "10 %"), (0.99, "99 %"),
     (0.992, "99.2 %"), (1.5, "150 %"), (-0.02, "-2 %")],
)  # fmt: skip
def test_percentages_are_not_rounded_to_none_or_all(share: float, text: str) -> None:
    assert words.percent(share) == text


def test_plural() -> None:
    assert words.plural(1, "chunk") == "1 chunk"
    assert words.plural(1700, "fetch", "fetches") == "1,700 fetches"


def test_moment() -> None:
    assert words.moment(1_790_000_000_000_000_000) == "2026-09-21 14:13:20 UTC"


def test_plural_of_a_regular_noun() -> None:
    assert words.plural(0, "chunk") == "0 chunks"
    assert words.plural(2, "chunk") == "2 chunks"
    assert words.plural(1, "fetch", "fetches") == "1 fetch"


def test_capital() -> None:
    assert words.capital("the detail of it") == "The detail of it"
    assert words.capital("") == ""


def test_hits() -> None:
    assert words.hits(0, 5) == "0"
    assert words.hits(1, 5_000) == "1 in 5.00 µs"
    assert words.hits(1234, 5_000) == "1,234 in 5.00 µs"


def test_a_source_that_is_not_known_is_named() -> None:
    assert words.source("tape").endswith("tape")
    assert "tape" not in words.source("disk")


def row(quantity: str, difference: int | None) -> dict[str, object]:
    return {"quantity": quantity, "difference": difference}


def test_what_was_recorded_is_compared_with_what_clients_counted() -> None:
    unknown = words.reconciled([])
    assert words.reconciled([row("objects", None), row("chunks", 0)]) == unknown
    equal = words.reconciled([row("objects", 0), row("chunks", 0), row("body_bytes", None)])
    assert equal != unknown and "2" in equal
    differing = words.reconciled([row("objects", 0), row("chunks", -3), row("body_bytes", 1)])
    assert differing.startswith("2 of 3")
    one = words.reconciled([row("objects", 7), row("body_bytes", 0)])
    assert one.startswith("1 of 2")
    assert words.reconciled([row("objects", 0)]).endswith("1 number")


def test_what_is_shown_of_a_cache() -> None:
    unknown = words.cache_shown(None)
    assert words.cache_shown("") == words.cache_shown("a posix one") == unknown
    managers = ("posix alien (/c)", "posix unmanaged", "posix (/c)", "ram", "tiered (posix, ram)",
                "external", "streaming (posix)")  # fmt: skip
    shown = [words.cache_shown(manager) for manager in managers]
    assert len({*shown, unknown}) == 8
    assert "evictions" in words.cache_shown("posix")


@pytest.mark.parametrize(("parts", "shared"), [
    ({"a": 1, "b": 1, "c": 1}, "a 34 %, b 33 %, c 33 %"),
    ({"a": 700, "b": 10, "c": 4, "d": 2, "e": 1}, "a 98 %, b 1 %, c 1 %"),
    ({"a": 50, "b": 20, "c": 10, "d": 10, "e": 6, "f": 4},
     "a 50 %, b 20 %, c 10 %, d 10 %, other 10 %"),
    ({"a": 3, "b": 0}, "a 100 %"),
    ({"a": 1, "b": 2}, "b 67 %, a 33 %"),
    ({"a": 0}, ""),
    ({}, ""),
])  # fmt: skip
def test_shares_are_whole_and_add_up_to_a_hundred(parts: dict[str, int], shared: str) -> None:
    assert words.shared(parts) == shared
    assert sum(words.shares(parts).values()) in ({100} if shared else {0})


def test_shares_of_a_total_that_is_more_than_the_parts() -> None:
    assert words.of_total({"a": 10, "b": 40, "c": 1}, 200, most=2) == "b 20 %, a 5.0 %"
    assert words.of_total({"a": 1}, 0) == "a 100 %"
