"""Ratios of medians of interleaved runs."""

from __future__ import annotations

from cvmprof.tests.gpu.on_device.overhead import ratios


def test_ratios_of_medians() -> None:
    times = {"untraced": [1.0, 2.0, 1.0], "cupti": [1.005, 1.0, 1.005], "api": [2.0, 2.0, 2.0]}
    assert ratios(times) == [
        ("cupti, ratio of medians", "≤ 1.01", "1.0050 (n = 3, 0.5000–1.0050)", True),
        ("api, ratio of medians", "≤ 1.01", "2.0000 (n = 3, 1.0000–2.0000)", False),
    ]


def test_a_kind_that_failed_or_ran_too_seldom_has_none() -> None:
    assert ratios({"untraced": [1.0, 1.0, 1.0], "cupti": [1.0, 1.0]}) == []
    assert ratios({"untraced": [1.0, 1.0], "cupti": [1.0, 1.0, 1.0]}) == []
