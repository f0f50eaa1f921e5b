"""What nobody saw, of what the kernel skipped each program for."""

from __future__ import annotations

import pytest

from cvmprof.probes.catalog import AGAIN, PAIRS
from cvmprof.profiler.record.misses import by_nobody

FIRST = PAIRS[0]
SECOND = FIRST + AGAIN


@pytest.mark.parametrize(
    ("first", "second", "stood_in", "lost"),
    [
        (5, 0, 5, 0),  # the second saw all that the first missed
        (5, 3, 5, 0),  # and missed others, which the first saw
        (5, 3, 4, 1),  # but for one that neither saw
        (5, 0, 4, 0),  # who has missed nothing saw all
        (0, 0, 1, 0),  # the thread went to another CPU between the two
    ],
)
def test_of_a_pair_it_is_what_both_missed(
    first: int, second: int, stood_in: int, lost: int
) -> None:
    assert by_nobody({FIRST: first, SECOND: second}, {FIRST: stood_in}) == {FIRST: lost}


def test_who_stands_alone_has_nobody_that_sees_what_it_misses() -> None:
    assert by_nobody({"on_switch": 2, FIRST: 3}, {FIRST: 0}) == {"on_switch": 2, FIRST: 3}


def test_programs_of_system_calls_count_themselves_what_both_missed() -> None:
    both = {"on_syscall_entry": 7, "on_syscall_entry" + AGAIN: 7}
    assert by_nobody(both, {}) == {}
    assert by_nobody({"on_syscall_entry": 7}, {}) == {"on_syscall_entry": 7}
