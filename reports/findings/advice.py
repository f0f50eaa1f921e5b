"""Who can change what, how long that held the command up, and the most that it can gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..numbers.gains import Gain
from ..numbers.statistics import Statistics
from ..words import capital, duration, percent
from .conditions import (
    answers_reads,
    asks_for_names,
    compressed,
    finds_often,
    finds_slowly,
    held_by_catalog,
    held_by_collision,
    held_by_handle,
    held_by_other,
    held_by_readahead,
    reads_are_small,
    reads_cache,
    repeated,
    unpacks,
    writes_cache,
)
from .finding import Finding, matters
from .servers import is_here, proxy_is_here, the_server
from .sharing import others_fetched

#: mean number of fetches at once below which more at once would help
_FEW_AT_ONCE = 2
_FEWER_NAMES = "fewer requests for names and attributes"


@dataclass(frozen=True)
class Remedy:
    """What would shorten a wait, who can do it, and in which runs it can help.

    In ``what``, ``asked`` stands for the server that took most time, the ``first`` of several.
    """

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


def _is_near(s: Statistics) -> bool:
    return is_here(s) or proxy_is_here(s)


def _one_at_a_time(s: Statistics) -> bool:
    return s.fetches.chunks_downloaded > 1 and s.fetches.mean_at_once < _FEW_AT_ONCE


def _several_at_once(s: Statistics) -> bool:
    return s.fetches.most_at_once > 1


def _is_far(s: Statistics) -> bool:
    return _is_away(s) and not proxy_is_here(s)


LEVERS = (
    Lever(
        "first_byte",
        "the server's first byte",
        (
            Remedy("the site", "a cache or proxy near here that holds the objects", _is_far),
            Remedy("the site", "look{first} at {asked}", _is_near),
            Remedy("the program", "open and read several files or parts at once", _one_at_a_time),
            Remedy("the publisher", "fewer and larger objects", _one_at_a_time),
        ),
    ),
    Lever(
        "transfer",
        "receiving the data",
        (
            Remedy("the site", "a faster line, or a cache on this side of it", _is_far),
            Remedy("the site", "look{first} at {asked}", _is_near),
            Remedy("the program", "read only what is needed"),
            Remedy("the publisher", "smaller data, or data that compresses"),
        ),
    ),
    Lever(
        "download_thread",
        "the work of the client's one download thread",
        (
            Remedy(
                "the publisher",
                "store the objects uncompressed (more bytes to transfer)",
                compressed,
            ),
            Remedy("the site", "a faster CPU for the client", unpacks),
            Remedy("the site", "a faster disk for the client's cache", writes_cache),
        ),
    ),
    Lever(
        "other_downloads",
        "waiting behind other downloads",
        (
            Remedy("the site", "another client, or another time, for the others", others_fetched),
            Remedy(
                "the publisher",
                "store the objects uncompressed: one thread unpacks them all",
                compressed,
            ),
            Remedy("the program", "ask first for what is needed first", _several_at_once),
            Remedy("the site", "shorter pauses (CVMFS_BACKOFF_INIT, CVMFS_BACKOFF_MAX)", repeated),
        ),
    ),
    Lever(
        "locks",
        "locks in the client",
        (
            Remedy("the program", "a file handle of its own for each thread", held_by_handle),
            Remedy(
                "the program",
                "fewer files open at once, or opened again: all share 128 locks",
                held_by_collision,
            ),
            Remedy("the publisher", "smaller nested catalogs", held_by_catalog),
            Remedy(
                "shorter fetches", "each held a lock that readahead waited for", held_by_readahead
            ),
            Remedy("to find out", "the table lock_waits names each holder", held_by_other),
        ),
    ),
    Lever(
        "client",
        "the requests that the client answers itself",
        (
            Remedy("the program", "fewer and larger reads", reads_are_small),
            Remedy("the program", _FEWER_NAMES, asks_for_names),
            Remedy("the site", "a faster disk for the client's cache", reads_cache),
            Remedy(
                "the site", "memory in which the kernel keeps what was read before", answers_reads
            ),
        ),
    ),
    Lever(
        "catalogs",
        "the catalogs",
        (
            Remedy("the program", _FEWER_NAMES, finds_often),
            Remedy("the publisher", "smaller nested catalogs", finds_slowly),
        ),
    ),
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
        remedies = "; ".join(_said(r, s) for r in each.remedies if r.helps(s))
        held = f"{duration(gain.held_ns)} ({percent(gain.held_ns / wall_ns)})"
        headline = f"{capital(each.what)} held the command up for {held}; {_at_most(gain)}."
        yield Finding("advice", headline, f"{capital(remedies)}." if remedies else "", gain.held_ns)


def _said(remedy: Remedy, s: Statistics) -> str:
    first = " first" if len(s.servers) > 1 else ""
    what = remedy.what.format(first=first, asked=the_server(s.servers[:1]))
    return f"{remedy.who}: {what}"


def _at_most(gain: Gain) -> str:
    """The most that can be gained: of one thread what held it up, of several it may be more."""
    most = duration(gain.most_ns)
    if most == duration(gain.held_ns):
        return "at most that much can be gained"
    return f"at most {most} can be gained"
