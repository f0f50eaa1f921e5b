"""Who can change what, and the most that it can gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..numbers.statistics import Statistics
from ..words import capital, duration, percent
from .finding import Finding
from .servers import is_here
from .sharing import others_fetched

#: advice for less than this share of the wall time is not worth a reader's time
_WORTH = 0.05
#: mean number of fetches at once below which more at once would help
_FEW_AT_ONCE = 2


@dataclass(frozen=True)
class Remedy:
    """What would shorten a wait, who can do it, and in which runs it can help."""

    who: str
    what: str
    helps: Callable[[Statistics], bool] = lambda _: True


@dataclass(frozen=True)
class Lever:
    """A part of the waits for CVMFS, its causes, and what would shorten it."""

    what: str
    causes: tuple[str, ...]
    remedies: tuple[Remedy, ...]


def _is_away(s: Statistics) -> bool:
    return not is_here(s)


def _one_at_a_time(s: Statistics) -> bool:
    return s.fetches.chunks_downloaded > 1 and s.fetches.mean_at_once < _FEW_AT_ONCE


_FASTER_CACHE = Remedy("the site", "a faster disk for the client's cache")
_LEVERS = (
    Lever(
        "the server's first byte",
        ("connect", "first_byte"),
        (
            Remedy("the site", "a cache or proxy near here that holds the objects", _is_away),
            Remedy("the site", "look at that server, which is on this machine", is_here),
            Remedy("the program", "open and read several files or parts at once", _one_at_a_time),
            Remedy("the publisher", "fewer and larger objects", _one_at_a_time),
        ),
    ),
    Lever(
        "receiving the data",
        ("transfer",),
        (
            Remedy("the site", "a faster line, or a cache on this side of it", _is_away),
            Remedy("the site", "look at that server, which is on this machine", is_here),
            Remedy("the program", "read only what is needed"),
            Remedy("the publisher", "smaller data, or data that compresses"),
        ),
    ),
    Lever(
        "the work of the client's one download thread",
        ("decompress", "cache_write"),
        (Remedy("the publisher", "store the objects uncompressed"), _FASTER_CACHE),
    ),
    Lever(
        "waiting behind other downloads",
        ("fetch_queue", "fetch_joined"),
        (
            Remedy("the site", "another client, or another time, for the others", others_fetched),
            Remedy("the publisher", "store the objects uncompressed: one thread unpacks them all"),
        ),
    ),
    Lever(
        "locks in the client",
        ("daemon_lock",),
        (Remedy("the program", "a file handle of its own for each thread"),),
    ),
    Lever(
        "the requests that the client answers itself",
        ("fuse_queue", "daemon", "cache_read"),
        (Remedy("the program", "fewer and larger reads"), _FASTER_CACHE),
    ),
    Lever("the catalogs", ("catalog",), (Remedy("the publisher", "smaller nested catalogs"),)),
)


def _of_server(lever: Lever) -> bool:
    """Whether waits for an answer that never came may lie in its causes."""
    return not {"first_byte", "transfer"}.isdisjoint(lever.causes)


def levers(s: Statistics) -> Iterator[Finding]:
    """Name the parts of the waits for CVMFS that are worth shortening.

    What a part holds is the most that any change of it can gain. Waits for answers that never came
    are not among them.
    """
    time = s.command_time
    for each in _LEVERS:
        ns = sum(time.cvmfs_causes_ns.get(cause, 0) for cause in each.causes)
        if _of_server(each):
            ns -= s.waits.lost_ns
        if 0 < ns >= _WORTH * time.wall_ns:
            gain = f"{duration(ns)} ({percent(ns / time.wall_ns)})"
            remedies = "; ".join(f"{r.who}: {r.what}" for r in each.remedies if r.helps(s))
            headline = f"At most {gain} can be gained from {each.what}."
            yield Finding("advice", headline, f"{capital(remedies)}.", ns)
