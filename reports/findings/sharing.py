"""Who else used the command's mounts, and what they fetched."""

from __future__ import annotations

from collections.abc import Iterator

from ..escape import visible
from ..numbers.sharing import Neighbour, OfMounts
from ..numbers.statistics import Statistics
from ..words import duration, plural, size
from .finding import Finding, matters

#: causes of waits for downloads of others
_BEHIND_OTHERS = ("fetch_queue", "fetch_joined")
#: neighbours that are named
_NAMED = 3


def neighbours(s: Statistics) -> Iterator[Finding]:
    """Say that the mounts downloaded for others too, how much, and for whom."""
    mounts = s.of_mounts
    if not others_fetched(s):
        return
    yield Finding(
        "note",
        f"Others used the command's mounts meanwhile: {_what(s)}.",
        f"The mounts' downloads were {_total(mounts)} for everybody, the command's own "
        f"{size(s.bytes.over_http)}. They share the client and its connections, so each may have "
        "waited for the other.",
        sum(s.command_time.cvmfs_causes_ns.get(cause, 0) for cause in _BEHIND_OTHERS),
    )


def slept_for(s: Statistics) -> Iterator[Finding]:
    """Name the process that the command slept for, where that used CVMFS for most of the time."""
    found = s.awaited
    if found is None or not matters(s, found.requests_ns):
        return
    if 2 * found.requests_ns <= found.slept_ns:
        return
    who = f"{visible(found.name, 40)} (process {found.pid})"
    yield Finding(
        "note",
        f"The command slept {duration(found.slept_ns)} until {who} woke it, which is none of its "
        "own.",
        f"Requests of that process to CVMFS were in progress for {duration(found.requests_ns)} of "
        "it: so long the command may have waited for CVMFS, through another program. Profile that "
        "one.",
        found.requests_ns,
    )


def others_fetched(s: Statistics) -> bool:
    """Return whether others than the command and the client had something downloaded.

    A fetch that began before recording did is not known, but what came for it is.
    """
    neighbours = s.of_mounts.neighbours
    return any(each.fetches for each in neighbours) or (bool(neighbours) and _others_bytes(s) > 0)


def _others_bytes(s: Statistics) -> int:
    """What came for neither the command nor the client."""
    return s.of_mounts.over_http - s.bytes.over_http - s.of_mounts.client_wire_bytes


def _what(s: Statistics) -> str:
    """What the others did, and who they are."""
    fetching = [each for each in s.of_mounts.neighbours if each.fetches]
    if not fetching:
        asking = list(s.of_mounts.neighbours)
        requests = plural(sum(each.requests for each in asking), "request")
        return f"{requests} of {_who(asking)}, and {size(_others_bytes(s))} not for the command"
    fetches = plural(sum(each.fetches for each in fetching), "fetch", "fetches")
    received = size(sum(each.wire_bytes for each in fetching))
    return f"{fetches} of {received} for {_who(fetching)}"


def _total(mounts: OfMounts) -> str:
    received = size(mounts.over_http)
    if not mounts.client_wire_bytes:
        return received
    return f"{received} ({size(mounts.client_wire_bytes)} of it for the client itself)"


def _who(fetching: list[Neighbour]) -> str:
    names = [_name(each) for each in fetching[:_NAMED]]
    more = len(fetching) - len(names)
    return ", ".join(names) + (f" and {plural(more, 'process', 'processes')} more" if more else "")


def _name(each: Neighbour) -> str:
    if each.name is None:
        return f"process {each.pid}"
    return f"{visible(each.name, 40)} (process {each.pid})"
