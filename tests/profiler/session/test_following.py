"""What outlives the command is waited for until a signal comes that was sent for that."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from cvmprof.profiler.session.following import Deadline, Others, wait_for_others
from cvmprof.profiler.session.signals import WATCHED, blocked


@pytest.mark.parametrize(("is_new", "looks"), [(False, 3), (True, 1)])
def test_only_a_signal_that_comes_meanwhile_ends_the_waiting(is_new: bool, looks: int) -> None:
    """Ctrl-C that ended the command is pending still when it is waited for."""
    left: list[list[dict[str, Any]]] = [[], [{"pid": 2}], [{"pid": 1}, {"pid": 2}]]

    def announce(_: list[dict[str, Any]]) -> None:
        if is_new:
            signal.raise_signal(signal.SIGINT)

    with blocked(WATCHED):
        signal.raise_signal(signal.SIGINT)
        wait_for_others(Others(left.pop, announce), Deadline(lambda: None))
    assert 3 - len(left) == looks
