"""Sleeps whose end no program on sched_switch saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from .in_process import printed_by


@pytest.mark.usefixtures("bcc")
def test_a_sleep_whose_end_was_not_seen_ended_when_the_thread_was_woken(tmp_path: Path) -> None:
    """Told when the thread ends, and when it leaves the CPU the next time."""
    found = printed_by("unseen_return.py", str(tmp_path))
    assert found["losses"] == []
    for intervals in found["through"]:
        ((start_ns, woken_ns, end_ns),) = intervals
        assert start_ns < woken_ns == end_ns
