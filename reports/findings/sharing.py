"""Who else used the command's mounts, and what they fetched."""

from __future__ import annotations

from collections.abc import Iterator

from ..escape import visible
from ..numbers.sharing import Neighbour, OfMounts
from ..numbers.statistics import Statistics
from ..words import plural, size
from .finding import Finding

#: causes of waits for downloads of others
_BEHIND_OTHERS = ("fetch_queue", "fetch_joined")
#: neighbours that are named
_NAMED = 3


def neighbours(s: Statistics) -> Iterator[Finding]:
    """Say that the mounts downloaded for others too, how much, and for whom."""
    mounts = s.of_mounts
    fetching = [each for each in mounts.neighbours if each.fetches]
    if not fetching:
        return
    fetches = sum(each.fetches for each in fetching)
    received = size(sum(each.wire_bytes for each in fetching))
    yield Finding(
        "note",
        f"Others used the command's mounts meanwhile: {plural(fetches, 'fetch', 'fetches')} of "
        f"{received} for {_who(fetching)}.",
        f"The mounts' downloads were {_total(mounts)} for everybody, the command's own "
        f"{size(s.bytes.over_http)}. They share the client and its connections, so each may have "
        "waited for the other.",
        sum(s.command_time.cvmfs_causes_ns.get(cause, 0) for cause in _BEHIND_OTHERS),
    )


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
