"""Who can change what, how long that held the command up, and the most that it can gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..numbers.gains import Gain
from ..numbers.statistics import Statistics
from ..words import capital, duration, percent
from .finding import Finding, matters
from .servers import is_here
from .sharing import others_fetched

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
    """A part of the waits for CVMFS by its name in `gains.PARTS`, and what would shorten it."""

    part: str
    what: str
    remedies: tuple[Remedy, ...]


def _is_away(s: Statistics) -> bool:
    return not is_here(s)


def _one_at_a_time(s: Statistics) -> bool:
    return s.fetches.chunks_downloaded > 1 and s.fetches.mean_at_once < _FEW_AT_ONCE


_FASTER_CACHE = Remedy("the site", "a faster disk for the client's cache")
LEVERS = (
    Lever(
        "first_byte",
        "the server's first byte",
        (
            Remedy("the site", "a cache or proxy near here that holds the objects", _is_away),
            Remedy("the site", "look at that server, which is on this machine", is_here),
            Remedy("the program", "open and read several files or parts at once", _one_at_a_time),
            Remedy("the publisher", "fewer and larger objects", _one_at_a_time),
        ),
    ),
    Lever(
        "transfer",
        "receiving the data",
        (
            Remedy("the site", "a faster line, or a cache on this side of it", _is_away),
            Remedy("the site", "look at that server, which is on this machine", is_here),
            Remedy("the program", "read only what is needed"),
            Remedy("the publisher", "smaller data, or data that compresses"),
        ),
    ),
    Lever(
        "download_thread",
        "the work of the client's one download thread",
        (Remedy("the publisher", "store the objects uncompressed"), _FASTER_CACHE),
    ),
    Lever(
        "other_downloads",
        "waiting behind other downloads",
        (
            Remedy("the site", "another client, or another time, for the others", others_fetched),
            Remedy("the publisher", "store the objects uncompressed: one thread unpacks them all"),
        ),
    ),
    Lever(
        "locks",
        "locks in the client",
        (Remedy("the program", "a file handle of its own for each thread"),),
    ),
    Lever(
        "client",
        "the requests that the client answers itself",
        (Remedy("the program", "fewer and larger reads"), _FASTER_CACHE),
    ),
    Lever("catalogs", "the catalogs", (Remedy("the publisher", "smaller nested catalogs"),)),
)


def levers(s: Statistics) -> Iterator[Finding]:
    """Name the parts of the waits for CVMFS that are worth shortening, and what would do that.

    Waits for what never came are not among them.
    """
    wall_ns = s.command_time.wall_ns
    for each in LEVERS:
        gain = s.command_time.gains.get(each.part)
        if gain is None or not matters(s, gain.held_ns):
            continue
        remedies = "; ".join(f"{r.who}: {r.what}" for r in each.remedies if r.helps(s))
        held = f"{duration(gain.held_ns)} ({percent(gain.held_ns / wall_ns)})"
        headline = f"{capital(each.what)} held the command up for {held}; {_at_most(gain)}."
        yield Finding("advice", headline, f"{capital(remedies)}.", gain.held_ns)


def _at_most(gain: Gain) -> str:
    """The most that can be gained: of one thread what held it up, of several it may be more."""
    most = duration(gain.most_ns)
    if most == duration(gain.held_ns):
        return "at most that can be gained"
    return f"at most {most} can be gained"
