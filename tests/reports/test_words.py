from __future__ import annotations

import pytest

from cvmprof.reports import words


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (20_600_000, "20.6 ms"),
        (999_700_000, "1.00 s"),
        (123_456_789_000, "123 s"),
        (1_234_000_000_000, "1,234 s"),
    ],
)
def test_durations(ns: int, text: str) -> None:
    assert words.duration(ns) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1000, "1000 B"), (1 << 20, "1.00 MiB"), (3 << 30, "3.00 GiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.0002, "under 0.1 %"),
        (0.021, "2.1 %"),
        (0.8249, "82 %"),
        (0.9999, "99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_percentages_are_not_rounded_to_none_or_all(share: float, text: str) -> None:
    assert words.percent(share) == text


def test_plural() -> None:
    assert words.plural(1, "chunk") == "1 chunk"
    assert words.plural(1700, "fetch", "fetches") == "1,700 fetches"


def test_moment() -> None:
    assert words.moment(1_790_000_000_000_000_000) == "2026-09-21 14:13:20 UTC"
