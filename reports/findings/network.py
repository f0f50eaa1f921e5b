"""Why downloads were slow, and which failed."""

from __future__ import annotations

from collections.abc import Iterator

from ..numbers.failures import Failures
from ..numbers.network import Network
from ..numbers.statistics import Statistics
from ..words import duration, percent, plural, size
from .finding import Finding

#: fewer lost segments, or samples, are not enough to report
_FEW = 5
#: share of lost segments at which a network counts as lossy
_LOSSY = 0.01
#: a round trip or an answer below this is not called slow
_SLOW_NS = 5_000_000


def latency(s: Statistics) -> Iterator[Finding]:
    """Say what a chunk took to its first byte and to transfer."""
    first, transfer = s.latency.first_byte_ns, s.latency.transfer_ns
    if first is None or transfer is None:
        return
    medians = f"(medians of {s.latency.downloads})"
    numbers = f"{duration(first)} to its first byte and {duration(transfer)} to transfer {medians}"
    speed = "" if s.latency.bytes_per_s is None else f", at {size(s.latency.bytes_per_s)}/s"
    # where the samples of connections say why, that finding says what would help
    advice = "" if any(slow_because(s)) else _what_would_help(first, transfer)
    yield Finding("note", f"Each chunk took {numbers}{speed}.", advice)


def _what_would_help(first_byte_ns: int, transfer_ns: int) -> str:
    if first_byte_ns > 2 * transfer_ns:
        return (
            "Latency, not bandwidth: a nearer proxy, larger chunks or fetching ahead would help, "
            "a faster line would not."
        )
    if transfer_ns > 2 * first_byte_ns:
        return "Bandwidth more than latency: a faster line or server, or a warm cache, would help."
    return "Latency and bandwidth matter about equally."


def slow_because(s: Statistics) -> Iterator[Finding]:
    """Say whether the server, the network or the client was slow, where the samples are clear."""
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
        f"came out of order, and this end sent {n.retransmits:,} again.",
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
        f"The median is {size(n.unread_bytes)} unread: the daemon was still unpacking, verifying "
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
        "It had to fetch the objects itself, or is busy: look there, or put a cache in front of "
        "it.",
    )


def _far_away(n: Network) -> Finding | None:
    trip_ns = n.round_trip_ns or 0
    if trip_ns < _SLOW_NS or n.travel_ns < max(n.answer_ns, n.total_ns / 4):
        return None
    return Finding(
        "note",
        f"The network path to the server is long: of {duration(n.total_ns)} in requests, "
        f"{duration(n.travel_ns)} were round trips of {duration(trip_ns)} each.",
        "A nearer proxy or larger chunks would help.",
    )


def _line_slow(n: Network) -> Finding | None:
    if n.transfer_samples < _FEW or n.unread_samples > n.transfer_samples / 10:
        return None
    if n.transfer_ns < n.total_ns / 2:
        return None
    return Finding(
        "note",
        "The line or the server, not the client, set the pace of transfers: in "
        f"{percent(1 - n.unread_samples / n.transfer_samples)} of {n.transfer_samples:,} samples "
        "nothing that had arrived waited to be read.",
        f"The round trip is {duration(n.round_trip_ns or 0)}.",
    )


def failed_connections(s: Statistics) -> Iterator[Finding]:
    """Say how many connections failed, to where, and how long that took."""
    n = s.network
    if n.failed_connections:
        number = plural(n.failed_connections, "connection")
        yield Finding(
            "warning",
            f"{number} failed, to {', '.join(n.failed_to[:4]) or 'an unknown address'}.",
            f"It took {duration(n.failed_ns)} until the next attempt: a proxy or server that is "
            "down or cannot be reached.",
        )


def failed_fetches(s: Statistics) -> Iterator[Finding]:
    """Say how many fetches and requests failed, and how."""
    broken, failed = s.failures, s.fetches.failed
    if not failed and not broken.requests:
        return
    meaning = _how_requests_failed(broken)
    if "ENOSPC" in broken.fetches:
        meaning.append("ENOSPC: the client's cache has no room for an object of that size.")
    requests = plural(broken.requests, "request")
    headline = f"{_fetches_failed(broken, failed)} {requests} to servers brought no usable answer."
    yield Finding("warning", headline, " ".join(meaning))


def _fetches_failed(broken: Failures, failed: int) -> str:
    if not failed:
        return "No fetch failed, but"
    errors = ", ".join(f"{name}: {number:,}" for name, number in broken.fetches.items())
    named = f" ({errors})" if errors else ""
    return f"{plural(failed, 'fetch', 'fetches')} failed{named}, and"


def _how_requests_failed(broken: Failures) -> list[str]:
    counts = [(f"answered with status {code}", number) for code, number in broken.statuses.items()]
    counts.append(("not answered", broken.unanswered))
    counts.append(("answered with content that the client rejected", broken.rejected))
    failed = "; ".join(f"{number:,} {how}" for how, number in counts if number)
    return [f"{failed}."] if failed else []
