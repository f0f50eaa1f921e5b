"""Hits that no program saw, among those that the kernel skipped for each program."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvmprof.probes.catalog import BACKUP, PAIRS
from cvmprof.profiler.record.misses import seen_by_none

from .in_process import printed_by

FIRST = PAIRS[0]
SECOND = FIRST + BACKUP


@pytest.mark.parametrize(
    ("first", "second", "stood_in", "lost"),
    [
        (5, 0, 5, 0),  # the backup saw everything that the program missed
        (5, 3, 5, 0),  # and missed others, which the program saw
        (5, 3, 4, 1),  # except one that neither saw
        (5, 0, 4, 0),  # the backup missed nothing
        (0, 0, 1, 0),  # the thread went to another CPU between the two
    ],
)
def test_a_pair_misses_what_both_missed(first: int, second: int, stood_in: int, lost: int) -> None:
    assert seen_by_none({FIRST: first, SECOND: second}, {FIRST: stood_in}) == {FIRST: lost}


def test_a_program_without_a_backup_misses_what_the_kernel_skipped() -> None:
    assert seen_by_none({"on_switch": 2, FIRST: 3}, {FIRST: 0}) == {"on_switch": 2, FIRST: 3}


def test_a_backup_whose_program_was_refused_stands_in_for_none() -> None:
    """The kernel took the second and refused the first: others are attached in their place."""
    assert seen_by_none({SECOND: 0, "on_switch": 1}, {FIRST: 4}) == {SECOND: 0, "on_switch": 1}


def test_programs_on_system_calls_count_themselves_what_both_missed() -> None:
    both = {"on_syscall_entry": 7, "on_syscall_entry" + BACKUP: 7}
    assert seen_by_none(both, {}) == {}
    assert seen_by_none({"on_syscall_entry": 7}, {}) == {"on_syscall_entry": 7}


@pytest.mark.usefixtures("bcc")
def test_a_backup_counts_each_hit_that_its_program_did_not_see(
    tmp_path: Path,
) -> None:
    found = printed_by("standing_in.py", str(tmp_path), "second")
    assert found["stood_in"] >= found["hits"] > 0


@pytest.mark.usefixtures("bcc")
def test_a_backup_counts_nothing_that_its_program_saw(tmp_path: Path) -> None:
    found = printed_by("standing_in.py", str(tmp_path), "both")
    assert found["hits"] > 0
    assert found["stood_in"] == 0
    assert found["losses"] == []
