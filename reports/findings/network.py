"""What the command waited for in downloads, why they were slow, and which failed."""

from __future__ import annotations

from collections.abc import Iterator

from ..numbers.failures import Failures
from ..numbers.fetching import Latency, Took
from ..numbers.gains import PARTS
from ..numbers.lost import HANGS_NS
from ..numbers.network import Network
from ..numbers.statistics import Statistics
from ..words import capital, duration, percent, plural, size
from .cpu import worst_lack
from .finding import Finding, matters
from .servers import is_here, proxy_is_here, the_server

#: fewer lost segments, or samples, are not enough to report
_FEW = 5
#: share of lost segments at which a network counts as lossy
_LOSSY = 0.01
#: a round trip or an answer below this is not called slow
_SLOW_NS = 5_000_000
#: times the median at which one download is out of the ordinary
_OUT_OF_LINE = 5
#: times the median from which on a mean is said beside it
_SKEWED = 2
#: share of the mean time of a download from which on a part of it is much
_MUCH = 0.1
#: servers of which it is said what their downloads took
_NAMED = 3
#: which setting limits the wait for an answer, by the way to the server
_TIMEOUTS = {"proxy": "CVMFS_TIMEOUT", "direct": "CVMFS_TIMEOUT_DIRECT"}
#: the shortest timeout that can be set
_LEAST_TIMEOUT_NS = 1_000_000_000
#: share of the command's time by which any thread's waits may be longer than the command's own
_ROUNDING = 0.01


def hung(s: Statistics) -> Iterator[Finding]:
    """Say what had not come when recording ended, and how long the command waited for it."""
    pending, waited_ns = s.waits.pending, s.waits.in_flight_ns
    if pending is None:
        return
    if min(pending.longest_ns, pending.silent_ns, waited_ns) < HANGS_NS:
        return
    number = plural(pending.count, "object")
    what = f"{number} that had not come when recording ended"
    asked = capital(the_server(pending.servers))
    sent = f"sent {size(pending.received_bytes)} of it, then nothing for"
    silence = sent if pending.received_bytes else "sent nothing for"
    meaning = f"{asked} {silence} {duration(pending.silent_ns)}. {_others(s)}"
    what += _of_file(pending.path)
    yield Finding("warning", f"{_waited(s, waited_ns)} for {what}.", meaning, waited_ns)


def _others(s: Statistics) -> str:
    """Say what other downloads took: that distinguishes a server that hangs from a slow line."""
    first_ns = s.latency.first_byte_ns
    if first_ns is None:
        return "Nothing else was downloaded: whether anything answers there is not known."
    number = plural(s.latency.downloads, "other download")
    return (
        f"{number} began to arrive after {duration(first_ns)} (median): look at that server, or at "
        "what lies before it. A faster line would not help."
    )


def one_slow(s: Statistics) -> Iterator[Finding]:
    """Say that one download took most of the time waited for downloads that arrived."""
    if not _is_one_slow(s):
        return
    one, answered = s.waits.slowest, s.waits.answered
    assert one is not None
    rate = size(one.wire_bytes * 1e9 / max(one.transfer_ns, 1))
    parts = (
        f"{duration(one.first_byte_ns)} to its first byte and {duration(one.transfer_ns)} to "
        f"transfer {size(one.wire_bytes)} ({rate}/s), from {the_server(one.servers)}"
    )
    usual = f"{duration(s.latency.first_byte_ns or 0)} and {duration(s.latency.transfer_ns or 0)}"
    yield Finding(
        "note",
        f"{_waited(s, one.waited_ns)} for one of {answered:,} downloads: {parts}.",
        f"The medians are {usual}: neither latency nor bandwidth in general, but that object or "
        f"that moment{_of_file(one.path)}.",
        one.waited_ns,
    )


def _is_one_slow(s: Statistics) -> bool:
    one, first_ns, transfer_ns = s.waits.slowest, s.latency.first_byte_ns, s.latency.transfer_ns
    if one is None or first_ns is None or transfer_ns is None or s.waits.answered < _FEW - 2:
        return False
    usual_ns = first_ns + transfer_ns
    most = one.waited_ns > s.waits.kinds_ns.get("answered", 0) / 2
    return most and one.waited_ns > _OUT_OF_LINE * usual_ns and matters(s, one.waited_ns)


def latency(s: Statistics) -> Iterator[Finding]:
    """Say what a download took to its first byte and from then on, and what that cost."""
    found = s.latency
    if found.first_byte_ns is None or found.transfer_ns is None:
        return
    took = _by_server(found) if len(found.servers) > 1 else f"took {_took(found)}"
    # where another finding says why, that one says what would help
    advice = "" if _is_said(s) else _what_would_help(s)
    meaning = " ".join(filter(None, (_own_work(s), advice)))
    yield Finding("note", f"A download {took}.", meaning)


def _own_work(s: Statistics) -> str:
    """Say that what came after the first byte was mostly the client's own work, if so."""
    spent = s.command_time.cvmfs_causes_ns
    work_ns = sum(spent.get(cause, 0) for cause in PARTS["download_thread"])
    if work_ns <= spent.get("transfer", 0) or not matters(s, work_ns):
        return ""
    return "Most of the time to the last byte the client unpacked and wrote what it had received."


def _by_server(found: Latency) -> str:
    named = [
        f"from {the_server([each.server])} took {_took(each)}" for each in found.servers[:_NAMED]
    ]
    more = len(found.servers) - _NAMED
    if more > 0:
        named.append(f"{plural(more, 'more server was', 'more servers were')} asked")
    return "; ".join(named)


def _took(found: Took) -> str:
    """The medians, and the means where the medians hide much of the time."""
    first, transfer = found.first_byte_ns or 0, found.transfer_ns or 0
    means = ""
    if _is_skewed(found):
        first_mean, transfer_mean = found.mean_first_byte_ns or 0, found.mean_transfer_ns or 0
        means = f"; the means are {duration(first_mean)} and {duration(transfer_mean)}"
    # what came whole with its first bytes has no speed
    speed = f", at {size(found.bytes_per_s)}/s" if found.bytes_per_s and transfer else ""
    return (
        f"{duration(first)} to its first byte and {duration(transfer)} more to its last "
        f"(medians of {found.downloads:,}{means}){speed}"
    )


def _is_skewed(found: Took) -> bool:
    """Whether the mean of one of the two times is far from its median, and much of both."""
    first_mean, transfer_mean = found.mean_first_byte_ns or 0, found.mean_transfer_ns or 0
    least_ns = _MUCH * (first_mean + transfer_mean)
    pairs = ((first_mean, found.first_byte_ns or 0), (transfer_mean, found.transfer_ns or 0))
    return any(mean > max(least_ns, _SKEWED * median) for mean, median in pairs)


def _is_said(s: Statistics) -> bool:
    """Whether another finding says what the command waited for in downloads."""
    lost_ns = s.waits.in_flight_ns + s.waits.useless_ns
    mostly_lost = lost_ns > s.waits.first_byte_ns + s.waits.transfer_ns
    return mostly_lost or _is_one_slow(s) or any(slow_because(s))


def _what_would_help(s: Statistics) -> str:
    """Say what would help, with its share of the command's time, where that is worth it."""
    first_ns, transfer_ns = s.waits.first_byte_ns, s.waits.transfer_ns
    if not matters(s, max(first_ns, transfer_ns)):
        return ""
    waited = f"{_waited(s, first_ns)} for first bytes and {_share(s, transfer_ns)} for transfers: "
    if first_ns > 2 * transfer_ns:
        nearer = "" if is_here(s) or proxy_is_here(s) else ", or a nearer proxy,"
        return (
            f"{waited}latency, not bandwidth. {_larger(s)} or fetching ahead{nearer} would help, "
            "a faster line would not."
        )
    if transfer_ns > 2 * first_ns:
        line = "server" if is_here(s) else "line or server"
        return f"{waited}bandwidth more than latency. A faster {line}, or a warm cache, would help."
    return f"{waited}latency and bandwidth matter about equally."


def _larger(s: Statistics) -> str:
    """What makes fewer downloads of the same data."""
    mostly_files = 2 * s.patterns.whole_files.count > s.fetches.chunks_downloaded
    return "Fewer and larger files" if mostly_files else "Larger chunks"


def _waited(s: Statistics, ns: int) -> str:
    """Say how long the command waited, or any of its threads where that was longer than itself.

    A thread that waits while another goes on does not hold the command up.
    """
    is_longer = ns > s.command_time.cvmfs_ns + _ROUNDING * s.command_time.wall_ns
    who = "Some thread of the command" if is_longer else "The command"
    return f"{who} waited {_share(s, ns)}"


def _share(s: Statistics, ns: int) -> str:
    """A time with its share of the command's, if that is known."""
    share = f" ({percent(ns / s.command_time.wall_ns)})" if s.command_time.wall_ns else ""
    return f"{duration(ns)}{share}"


def _of_file(path: str | None) -> str:
    return "" if path is None else f" (part of {path})"


def slow_because(s: Statistics) -> Iterator[Finding]:
    """Say whether the server, the network or the client was slow, where the samples are clear and
    the command waited for it.
    """
    n = s.network
    waited_ns = s.waits.first_byte_ns + s.waits.transfer_ns
    if n.round_trip_ns is None or not n.total_ns or not matters(s, waited_ns):
        return
    if _is_one_slow(s):
        return
    rules = (_packets_lost, _client_slow, _server_slow, _far_away, _line_slow)
    yield from [finding for rule in rules if (finding := rule(s, n))][:1]


def _packets_lost(s: Statistics, n: Network) -> Finding | None:
    lost = n.disordered + n.retransmits
    if lost < _FEW or lost < _LOSSY * n.segments:
        return None
    return Finding(
        "note",
        "The network lost or reordered packets on the mount's connections to "
        f"{the_server(s.servers)}: "
        f"{n.disordered:,} of {plural(n.segments, 'segment')} came out of order, and this end sent "
        f"{n.retransmits:,} again.",
        f"The round trip is {duration(n.round_trip_ns or 0)}; every loss slows the sender down. "
        "Where the path reorders packets, some of that is no loss.",
    )


def _client_slow(s: Statistics, n: Network) -> Finding | None:
    if n.transfer_samples < _FEW or n.unread_samples < n.transfer_samples / 2:
        return None
    if n.transfer_ns < n.total_ns / 2 or worst_lack(s, "client") is not None:
        return None
    return Finding(
        "note",
        f"The client, not {the_server(s.servers)} nor the network, set the pace of transfers: in "
        f"{percent(n.unread_samples / n.transfer_samples)} of {n.transfer_samples:,} samples "
        "bytes that had arrived waited to be read.",
        f"The median is {size(n.unread_bytes)} unread: the daemon was still unpacking, verifying "
        "and writing what came before. A faster line or server would not help. "
        f"{_waited(s, s.waits.transfer_ns)} for transfers.",
    )


def _server_slow(s: Statistics, n: Network) -> Finding | None:
    mean_ns, trip_ns = n.answer_ns / n.downloads, n.round_trip_ns or 0
    if n.answer_ns < n.total_ns / 2 or mean_ns < max(_SLOW_NS, 5 * trip_ns):
        return None
    return Finding(
        "note",
        f"{capital(the_server(s.servers))} was slow to answer: {duration(mean_ns)} on average, "
        f"beyond a round trip of {duration(trip_ns)}.",
        f"{_waited(s, s.waits.first_byte_ns)} for first bytes. It had to get the objects itself, "
        "or is busy: look there, or put a cache before it.",
    )


def _far_away(s: Statistics, n: Network) -> Finding | None:
    trip_ns = n.round_trip_ns or 0
    if trip_ns < _SLOW_NS or n.travel_ns < max(n.answer_ns, n.total_ns / 4):
        return None
    return Finding(
        "note",
        f"The network path to {the_server(s.servers)} is long: of {duration(n.total_ns)} in "
        f"requests, summed over them, {duration(n.travel_ns)} were round trips of "
        f"{duration(trip_ns)} each.",
        f"{_waited(s, s.waits.first_byte_ns)} for first bytes. A nearer proxy would help, or "
        f"{_larger(s).lower()}.",
    )


def _line_slow(s: Statistics, n: Network) -> Finding | None:
    if n.transfer_samples < _FEW or n.unread_samples > n.transfer_samples / 10:
        return None
    if n.transfer_ns < n.total_ns / 2:
        return None
    pace = f"{the_server(s.servers)}{_way_to_it(s)}"
    return Finding(
        "note",
        f"{capital(pace)}, not the client, set the pace of transfers: in "
        f"{percent(1 - n.unread_samples / n.transfer_samples)} of {n.transfer_samples:,} samples "
        "nothing that had arrived waited to be read.",
        f"{_waited(s, s.waits.transfer_ns)} for transfers. The round trip is "
        f"{duration(n.round_trip_ns or 0)}.",
    )


def _way_to_it(s: Statistics) -> str:
    if is_here(s):
        return ""
    return " or what it forwards to" if proxy_is_here(s) else " or the line to it"


def failed_connections(s: Statistics) -> Iterator[Finding]:
    """Say how many connections failed, to where, and how long the command waited for others."""
    n, of_mounts = s.network, s.of_mounts.network
    if n.failed_connections:
        waited = f"{_waited(s, s.waits.kinds_ns.get('refused', 0))} until the next attempts"
        yield _failed(n, "", f"{waited}: what has that address is down, or cannot be reached.")
    elif of_mounts.failed_connections:
        yield _failed(of_mounts, " of the mount", "None of them is known to be for the command.")


def _failed(n: Network, whose: str, meaning: str) -> Finding:
    number = plural(n.failed_connections, "connection")
    where = ", ".join(n.failed_to[:4]) or "an unknown address"
    return Finding("warning", f"{number}{whose} failed, to {where}.", meaning)


def failed_fetches(s: Statistics) -> Iterator[Finding]:
    """Say how many fetches and requests failed, how, and how long the command waited for them."""
    broken, failed = s.failures, s.fetches.failed
    if not failed and not broken.requests:
        return
    meaning = [*_how_requests_failed(broken), *_in_vain(s)]
    if "ENOSPC" in broken.fetches:
        meaning.append(
            "ENOSPC: the client's cache had no room: its limit (CVMFS_QUOTA_LIMIT) or its disk is "
            "too small."
        )
    yield Finding("warning", _what_failed(broken, failed), " ".join(meaning), s.waits.useless_ns)


def _in_vain(s: Statistics) -> Iterator[str]:
    """Say which servers were asked in vain, and how long the command waited for that."""
    if s.waits.failed_at:
        verb = "It went" if s.failures.requests == 1 else "They went"
        yield f"{verb} to {the_server(s.waits.failed_at)}."
    if s.waits.useless_ns:
        waited = {words: s.waits.kinds_ns.get(kind, 0) for kind, words in _USELESS.items()}
        parts = [f"{duration(ns)} {words}" for words, ns in waited.items() if ns]
        divided = f": {', '.join(parts)}" if len(parts) > 1 else ""
        yield f"{_waited(s, s.waits.useless_ns)} in vain{divided}."
    if matters(s, s.waits.kinds_ns.get("unanswered", 0)):
        yield f"Look at {_asked_in_vain(s)}; {_sooner(s.failures)}."


def _asked_in_vain(s: Statistics) -> str:
    asked = s.waits.failed_at
    if len(asked) > 1:
        return "them"
    return "that proxy" if asked and asked[0].is_proxy else "that server"


def _sooner(broken: Failures) -> str:
    """What would give up sooner on a server or proxy that does not answer."""
    settings = [
        setting
        for way, setting in _TIMEOUTS.items()
        if broken.silences_ns.get(way, 0) >= _LEAST_TIMEOUT_NS
    ]
    if not broken.silences_ns:
        return (
            "a shorter CVMFS_TIMEOUT, or CVMFS_TIMEOUT_DIRECT without a proxy, may give up sooner"
        )
    if not settings:
        return (
            "no request waited long, so the client's pauses before it asks again took the time "
            "(CVMFS_BACKOFF_INIT, CVMFS_BACKOFF_MAX)"
        )
    return f"a shorter {' or '.join(settings)} would give up sooner"


_USELESS = {
    "unanswered": "for no answer", "error": "for errors", "rejected": "for answers not accepted",
    "refused": "for connections that failed",
}  # fmt: skip


def _what_failed(broken: Failures, failed: int) -> str:
    """Say how many fetches and how many requests to servers failed."""
    number = broken.requests
    requests = f"{plural(number, 'request')} to servers brought no usable answer"
    if not failed:
        return f"No fetch failed, but {requests}."
    errors = ", ".join(f"{name}: {number:,}" for name, number in broken.fetches.items())
    named = f" ({errors})" if errors else ""
    fetches = f"{plural(failed, 'fetch', 'fetches')} failed{named}"
    seen = f", and {requests}." if number else "; no request to a server was seen to fail."
    return f"{fetches}{seen}"


def _how_requests_failed(broken: Failures) -> list[str]:
    counts = [(f"answered with status {code}", number) for code, number in broken.statuses.items()]
    counts.append(("not answered", broken.unanswered))
    counts.append(("answered, but cut short, too slowly or with other content", broken.rejected))
    failed = "; ".join(f"{number:,} {how}" for how, number in counts if number)
    return [f"{failed}."] if failed else []
