"""How much of the command's time a pattern of access holds: from when on it is said, and how."""

from __future__ import annotations

from ..numbers.held import Held
from ..numbers.statistics import Statistics
from ..words import duration
from .finding import WORTH, matters

#: fewer requests are not called many
MANY_REQUESTS = 100


def is_worth(s: Statistics, held: Held) -> bool:
    """Whether something held enough of the command's wall time to be said."""
    return matters(s, held.wall_ns)


def threads_waited(s: Statistics, held: Held) -> bool:
    """Whether something held enough of its threads' time to be said."""
    return 0 < held.threads_ns >= WORTH * s.command_time.threads_ns


def of_wall(s: Statistics, held: Held) -> str:
    """Return how much of the command's wall time something held."""
    return f"{duration(held.wall_ns)} of {duration(s.command_time.wall_ns)}"


def each_took(ns: int, count: int) -> str:
    """Return how long each of so many took on average."""
    return f"{duration(ns / max(count, 1))} apiece"
