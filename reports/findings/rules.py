"""The rules in the order in which a reader sees what they find.

What limits trust in the numbers comes first, then where the time went, then why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..numbers.log import Imported
from ..numbers.statistics import Statistics
from .cache import ahead, cached_chunks, collisions, downloaded_again, joined, page_cache, renewed
from .device import stalls
from .finding import Finding
from .log import fetched, imported_from, unread_lines
from .network import failed_connections, failed_fetches, latency, slow_because
from .tensors import late_tensors
from .time import undivided, where_time_went
from .trust import (
    command_failed,
    died,
    incomplete,
    lost_events,
    unasked,
    unexplained,
    unfinished,
    unnamed,
    unobserved,
    unreconciled,
    unwatched_launches,
)

Rule = Callable[[Statistics], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    incomplete, lost_events, unreconciled, died, unfinished, command_failed, where_time_went,
    stalls, late_tensors, failed_fetches, renewed, downloaded_again, latency, slow_because,
    failed_connections, cached_chunks, page_cache, joined, collisions, ahead, unexplained,
    undivided, unasked, unnamed, unobserved, unwatched_launches,
)  # fmt: skip


def findings(statistics: Statistics) -> list[Finding]:
    """Return the findings, the most important first."""
    if statistics.imported is not None:
        return _of_log(statistics, statistics.imported)
    return [finding for rule in RULES for finding in rule(statistics)]


def _of_log(statistics: Statistics, imported: Imported) -> list[Finding]:
    return [
        *imported_from(imported),
        *unread_lines(statistics),
        *fetched(statistics, imported),
        *failed_fetches(statistics),
        *joined(statistics),
    ]
