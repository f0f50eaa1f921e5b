"""The rules in the order in which a reader sees what they find.

What limits trust in the numbers comes first, then what held the time and who can change what, then
all else. What could not be observed comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..numbers.log import Imported
from ..numbers.statistics import Statistics
from .advice import levers
from .cache import ahead, cached_objects, collisions, downloaded_again, joined, page_cache, renewed
from .cpu import client_lacked_cpu, command_lacked_cpu
from .device import stalls
from .failures import failed_operations
from .finding import Finding
from .log import fetched, imported_from, unread_lines
from .network import failed_connections, failed_fetches, hung, latency, one_slow, slow_because
from .patterns import many_small_files, names, one_handle, shared_files, unread
from .reading import answered_from_cache, read_again, small_reads, small_requests
from .sharing import neighbours, slept_for
from .tensors import late_tensors
from .time import phase_apart, threads_apart, undivided, where_time_went
from .trust import (
    client_stopped,
    command_failed,
    died,
    incomplete,
    lived_on,
    lost_events,
    unasked,
    unexplained,
    unfinished,
    unnamed,
    unobserved,
    unreconciled,
    unwatched_launches,
)

#: what names a reason comes before a part of the waits that is up to so many times as long
_REASON = 3

Rule = Callable[[Statistics], Iterator[Finding]]

#: what limits trust in the numbers
_TRUST: tuple[Rule, ...] = (
    lived_on, incomplete, lost_events, unreconciled, died, client_stopped, failed_operations,
    unfinished, command_failed,
)  # fmt: skip
#: what held the time
_TIME: tuple[Rule, ...] = (where_time_went, phase_apart, threads_apart)
#: why, and who can change what
_WHY: tuple[Rule, ...] = (
    neighbours, slept_for, hung, client_lacked_cpu, command_lacked_cpu, many_small_files,
    small_requests, one_handle, shared_files, read_again, unread, names, answered_from_cache,
    small_reads, levers, stalls, late_tensors, failed_fetches, renewed, downloaded_again,
    one_slow, latency, slow_because, failed_connections, cached_objects, page_cache, joined,
    collisions, ahead,
)  # fmt: skip
#: what is not known
_UNKNOWN: tuple[Rule, ...] = (
    unexplained, undivided, unasked, unnamed, unobserved, unwatched_launches,
)  # fmt: skip
RULES = (*_TRUST, *_TIME, *_WHY, *_UNKNOWN)


def findings(statistics: Statistics) -> list[Finding]:
    """Return the findings, the most important first."""
    return [finding for part in parts(statistics) for finding in part]


def parts(statistics: Statistics) -> tuple[list[Finding], list[Finding]]:
    """Return the findings in two parts: down to what held the time, and why, by the time held."""
    if statistics.imported is not None:
        return _of_log(statistics, statistics.imported), []
    reasons = [
        (finding.held_ns * (1 if rule is levers else _REASON), finding)
        for rule in _WHY
        for finding in rule(statistics)
    ]
    reasons.sort(key=lambda reason: -reason[0])
    first = _spoken(statistics, (*_TRUST, *_TIME))
    return first, [*(finding for _, finding in reasons), *_spoken(statistics, _UNKNOWN)]


def _spoken(statistics: Statistics, rules: tuple[Rule, ...]) -> list[Finding]:
    return [finding for rule in rules for finding in rule(statistics)]


def _of_log(statistics: Statistics, imported: Imported) -> list[Finding]:
    return [
        *imported_from(imported),
        *unread_lines(statistics),
        *fetched(statistics, imported),
        *failed_fetches(statistics),
        *joined(statistics),
    ]
