"""How many launches may be watched: in round numbers, 1 µs each."""

from __future__ import annotations

import pytest

from cvmprof.profiler.record.launch_budget import LaunchBudget

START_NS = 5_000_000_000
SECOND_NS = 1_000_000_000


@pytest.fixture
def budget() -> LaunchBudget:
    return LaunchBudget(percent=1, hit_ns=1000, start_ns=START_NS)


def test_a_tenth_of_a_second_may_always_be_spent(budget: LaunchBudget) -> None:
    assert budget.allows(START_NS, watched=True)
    budget.count(pid=7, launches=99_999)
    budget.count(pid=7, launches=1)
    assert budget.allows(START_NS + SECOND_NS, watched=True)
    budget.count(pid=7, launches=1)
    assert not budget.allows(START_NS + SECOND_NS, watched=True)


def test_later_it_is_the_share_of_the_time_since_the_start(budget: LaunchBudget) -> None:
    budget.count(pid=7, launches=500_000)
    assert not budget.allows(START_NS + 50 * SECOND_NS - 1, watched=True)
    assert budget.allows(START_NS + 50 * SECOND_NS, watched=True)


def test_each_process_has_its_own(budget: LaunchBudget) -> None:
    budget.count(pid=7, launches=100_000)
    budget.count(pid=8, launches=100_000)
    assert budget.allows(START_NS, watched=True)


def test_they_are_watched_again_when_it_is_worthwhile(budget: LaunchBudget) -> None:
    budget.count(pid=7, launches=150_000)
    assert not budget.allows(START_NS + 20 * SECOND_NS - 1, watched=False)
    assert budget.allows(START_NS + 20 * SECOND_NS, watched=False)


def test_it_says_why(budget: LaunchBudget) -> None:
    assert budget.reason == "each costs 1.0 µs, and all more than 1 % of the run time"
