"""Why downloads were slow, and which failed."""

from __future__ import annotations

from collections.abc import Iterator

from ..numbers.network import Network
from ..numbers.statistics import Statistics
from ..words import capital, duration, percent, plural, size
from .finding import Finding

#: lost segments, or samples, below which nothing is said
_FEW = 5
#: share of segments lost from which on a network is lossy
_LOSSY = 0.01
#: a round trip or an answer from which on it may be called slow
_SLOW_NS = 5_000_000


def latency(s: Statistics) -> Iterator[Finding]:
    """Say what a chunk took to its first byte and to transfer."""
    first, transfer = s.latency.first_byte_ns, s.latency.transfer_ns
    if first is None or transfer is None:
        return
    medians = f"(medians of {s.latency.downloads})"
    numbers = f"{duration(first)} to its first byte and {duration(transfer)} to transfer {medians}"
    speed = "" if s.latency.bytes_per_s is None else f", at {size(s.latency.bytes_per_s)}/s"
    known_better = any(slow_because(s))  # which says what would help
    advice = "" if known_better else _what_would_help(first, transfer)
    yield Finding("note", f"Each chunk took {numbers}{speed}.", advice)


def _what_would_help(first_byte_ns: int, transfer_ns: int) -> str:
    if first_byte_ns > 2 * transfer_ns:
        return (
            "Latency, not bandwidth: a nearer proxy, larger chunks or fetching ahead would help, "
            "a faster line would not."
        )
    if transfer_ns > 2 * first_byte_ns:
        return "Bandwidth more than latency: a faster line or server, or a warm cache, would help."
    return "Latency and bandwidth count about alike."


def slow_because(s: Statistics) -> Iterator[Finding]:
    """The server, the network or the client, where the samples of connections say so clearly."""
    n = s.network
    if n.round_trip_ns is None or not n.total_ns:
        return
    rules = (_packets_lost, _client_slow, _server_slow, _far_away, _line_slow)
    yield from [finding for rule in rules if (finding := rule(n))][:1]


def _packets_lost(n: Network) -> Finding | None:
    lost = n.disordered + n.retransmits
    if lost < _FEW or lost < _LOSSY * n.segments:
        return None
    return Finding(
        "note",
        f"The network lost packets: {n.disordered:,} of {plural(n.segments, 'segment')} "
        f"came out of order, {n.retransmits:,} were sent again.",
        f"The round trip is {duration(n.round_trip_ns or 0)}; every loss slows the sender down.",
    )


def _client_slow(n: Network) -> Finding | None:
    if n.transfer_samples < _FEW or n.unread_samples < n.transfer_samples / 2:
        return None
    if n.transfer_ns < n.total_ns / 2:
        return None
    return Finding(
        "note",
        "The client, not the network, set the pace of transfers: in "
        f"{percent(n.unread_samples / n.transfer_samples)} of {n.transfer_samples:,} samples "
        "bytes that had arrived waited to be read.",
        f"{size(n.unread_bytes)} of them in the median: the daemon was still unpacking, verifying "
        "and writing what came before. A faster line or server would not help.",
    )


def _server_slow(n: Network) -> Finding | None:
    mean_ns, trip_ns = n.answer_ns / n.downloads, n.round_trip_ns or 0
    if n.answer_ns < n.total_ns / 2 or mean_ns < max(_SLOW_NS, 5 * trip_ns):
        return None
    return Finding(
        "note",
        f"The server or proxy, not the network, was slow: {duration(mean_ns)} on average "
        f"until it answered, beyond a round trip of {duration(trip_ns)}.",
        "It had to fetch the objects itself, or is busy: look there, or put a cache before it.",
    )


def _far_away(n: Network) -> Finding | None:
    trip_ns = n.round_trip_ns or 0
    if trip_ns < _SLOW_NS or n.travel_ns < max(n.answer_ns, n.total_ns / 4):
        return None
    return Finding(
        "note",
        f"The way to the server is long: of {duration(n.total_ns)} in requests "
        f"{duration(n.travel_ns)} were round trips of {duration(trip_ns)}.",
        "A nearer proxy or larger chunks would help.",
    )


def _line_slow(n: Network) -> Finding | None:
    if n.transfer_samples < _FEW or n.unread_samples > n.transfer_samples / 10:
        return None
    if n.transfer_ns < n.total_ns / 2:
        return None
    return Finding(
        "note",
        "The line or the server's sending set the pace of transfers, not the client: in "
        f"{percent(1 - n.unread_samples / n.transfer_samples)} of {n.transfer_samples:,} samples "
        "nothing that had arrived waited to be read.",
        f"The round trip is {duration(n.round_trip_ns or 0)}.",
    )


def failed_connections(s: Statistics) -> Iterator[Finding]:
    """Say how many connections failed, to whom, and the time that cost."""
    n = s.network
    if n.failed_connections:
        number = plural(n.failed_connections, "connection")
        yield Finding(
            "warning",
            f"{number} failed, to {', '.join(n.failed_to[:4]) or 'nobody knows whom'}.",
            f"It took {duration(n.failed_ns)} until the next attempt: a proxy or server that is "
            "down or cannot be reached.",
        )


def failed_fetches(s: Statistics) -> Iterator[Finding]:
    """Say how many fetches and requests failed, and how."""
    broken, failed = s.failures, s.fetches.failed
    if not failed and not broken.requests:
        return
    errors = ", ".join(f"{name}: {number:,}" for name, number in broken.fetches.items())
    named = f" ({errors})" if errors else ""
    fetches = f"{plural(failed, 'fetch', 'fetches')} failed{named}, and"
    if not failed:
        fetches = "No fetch failed, but"
    requests = plural(broken.requests, "request")
    said = [
        *(f"{number:,} answered with status {code}" for code, number in broken.statuses.items()),
        *([f"{broken.unanswered:,} not answered"] if broken.unanswered else []),
        *(
            [f"{broken.rejected:,} answered with what the client did not accept"]
            if broken.rejected
            else []
        ),
    ]
    meaning = [f"{capital('; '.join(said))}."] if said else []
    if "ENOSPC" in broken.fetches:
        meaning.append("ENOSPC: the client's cache has no room for an object of that size.")
    headline = f"{fetches} {requests} to servers brought nothing."
    yield Finding("warning", headline, " ".join(meaning))
