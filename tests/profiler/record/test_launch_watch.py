"""When probes on launches are released and attached again, and what is said about it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cvmprof.profiler.record.attach import Probe
from cvmprof.profiler.record.launch_budget import LaunchBudget
from cvmprof.profiler.record.launch_watch import LaunchWatch

SECOND_NS = 1_000_000_000


class Probes:
    """In place of the probes: what was asked of them. Each change takes until `may_go_on`."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.may_go_on = threading.Event()
        self.refusal: str | None = None

    def release_launches(self) -> None:
        self._change("released")

    def probe_launches(self) -> str | None:
        self._change("probed")
        return self.refusal

    def _change(self, what: str) -> None:
        assert self.may_go_on.wait(60)
        self.done.append(what)

    def rows_of_launches(self, reason: str) -> tuple[Probe, ...]:
        return (Probe("GPU launch", "uprobe", "libcuda.so.1", reason=reason),)


class Watched:
    """A watch over such probes, at 1 µs a launch and a tenth of the time; seconds from 0."""

    def __init__(self) -> None:
        self.probes = Probes()
        self.budget = LaunchBudget(percent=10, hit_ns=1000, start_ns=0)
        self.told: list[Any] = []
        probes: Any = self.probes
        self._watch = LaunchWatch(probes, self.budget, self._note)

    def _note(self, kind: str, **values: Any) -> None:
        self.told.append(values["watched"] if kind == "launches" else values["rows"][0]["reason"])

    def step(self, second: float) -> None:
        self._watch.step(round(second * SECOND_NS))

    def finish_change(self) -> None:
        self.probes.may_go_on.set()
        for thread in threading.enumerate():
            if thread.daemon and thread is not threading.current_thread():
                thread.join()
        self.probes.may_go_on.clear()

    def stop(self, second: float) -> None:
        self._watch.stop(round(second * SECOND_NS))


@pytest.fixture
def watched() -> Watched:
    return Watched()


WHY = "each costs 1.0 µs, and all more than 10 % of the run time"
ALL_THE_TIME = f"launches were not watched all the time: {WHY}"


def test_within_the_budget_nothing_changes(watched: Watched) -> None:
    watched.budget.count(pid=7, launches=100_000)
    watched.step(1)
    watched.stop(2)
    assert (watched.told, watched.probes.done) == ([], [])


def test_above_it_they_are_released_and_later_probed_again(watched: Watched) -> None:
    watched.budget.count(pid=7, launches=250_000)
    watched.step(1)
    assert watched.told == [False, ALL_THE_TIME]
    watched.finish_change()
    watched.step(2.9)
    assert watched.probes.done == ["released"]
    watched.step(3)
    assert watched.told[2:] == []  # until they are attached
    watched.finish_change()
    watched.step(3.5)
    assert watched.told[2:] == [True]
    watched.stop(9)
    assert watched.probes.done == ["released", "probed"]
    assert watched.told[3:] == [f"launches were not watched for 2.5 s: {WHY}"]


def test_one_change_is_finished_before_the_next_begins(watched: Watched) -> None:
    watched.budget.count(pid=7, launches=250_000)
    watched.step(1)
    watched.step(9)  # it would be time to watch again
    assert watched.probes.done == []
    watched.finish_change()
    assert watched.probes.done == ["released"]
    watched.step(9)
    watched.finish_change()
    assert watched.probes.done == ["released", "probed"]


def test_those_that_are_not_watched_at_the_stop_are_counted_until_then(watched: Watched) -> None:
    watched.budget.count(pid=7, launches=900_000)
    watched.step(1)
    watched.finish_change()
    watched.step(2)
    watched.stop(4)
    assert watched.told[2:] == [f"launches were not watched for 3.0 s: {WHY}"]


def test_those_that_cannot_be_probed_again_stay_unwatched(watched: Watched) -> None:
    watched.probes.refusal = "Cannot allocate memory"
    watched.budget.count(pid=7, launches=250_000)
    watched.step(1)
    watched.finish_change()
    watched.step(3)
    watched.finish_change()
    watched.step(3.5)
    watched.step(900)
    watched.stop(901)
    assert watched.probes.done == ["released", "probed"]
    refused = f"{WHY}, and could not be again: Cannot allocate memory"
    assert watched.told == [
        False, ALL_THE_TIME, f"launches were not watched for 900.0 s: {refused}",
    ]  # fmt: skip
