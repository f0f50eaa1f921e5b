"""What the device waited for."""

from __future__ import annotations

from collections.abc import Iterator

from ...profiler.tables import FETCH_CAUSES
from ..numbers.statistics import Statistics
from ..words import duration, percent, plural
from .finding import Finding


def stalls(s: Statistics) -> Iterator[Finding]:
    """Say how long the device was idle, and how much of that waited for fetches."""
    if not s.stalls.count or not s.stalls.total_ns:
        return
    fetch_ns = sum(ns for cause, ns in s.stalls.causes_ns.items() if cause in FETCH_CAUSES)
    share = fetch_ns / s.stalls.total_ns
    longest = s.stalls.longest[0]
    yield Finding(
        "note",
        f"The device was idle for {duration(s.stalls.total_ns)} in "
        f"{plural(s.stalls.count, 'stall')}, {percent(share)} of it waiting for fetches.",
        f"The longest lasted {duration(longest.end_ns - longest.start_ns)}.",
    )
