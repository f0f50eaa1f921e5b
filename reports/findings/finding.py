"""A finding, and what its rules share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..numbers.phases import Phase
from ..numbers.statistics import Statistics

Tone = Literal["warning", "main", "good", "advice", "note"]
#: a wait below this share of a phase is not worth a reader's time
NEGLIGIBLE = 0.02
#: share of the command's time from which on something is worth a sentence, or advice
WORTH = 0.05
#: mean number of fetches in progress below which they ran nearly one at a time
ONE_AT_A_TIME = 1.1


@dataclass(frozen=True)
class Finding:
    """A headline, what it means, its tone, and the wall time that it is about, if any."""

    tone: Tone
    headline: str
    meaning: str = ""
    held_ns: int = field(default=0, compare=False)


def matters(s: Statistics, ns: int) -> bool:
    """Return whether a part of the command's wall time is worth a sentence."""
    return 0 < ns >= WORTH * s.command_time.wall_ns


def main_phase(statistics: Statistics) -> Phase | None:
    """Return the phase that waited longest for CVMFS, else the longest one."""
    return max(statistics.phases, key=lambda p: (p.cvmfs_ns, p.duration_ns), default=None)
