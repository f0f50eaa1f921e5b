"""Sleeps whose end no program on sched_switch saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.usefixtures("bcc")
def test_a_sleep_whose_end_was_not_seen_ended_when_the_thread_was_woken(tmp_path: Path) -> None:
    """Told when the thread ends, and when it leaves the CPU the next time."""
    script = Path(__file__).with_name("unseen_return.py")
    path = os.pathsep.join(each for each in sys.path if each)
    said = subprocess.check_output(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path}, text=True, timeout=60,
    )  # fmt: skip
    found = json.loads(said)
    assert found["losses"] == []
    for intervals in found["through"]:
        ((start_ns, woken_ns, end_ns),) = intervals
        assert start_ns < woken_ns == end_ns
