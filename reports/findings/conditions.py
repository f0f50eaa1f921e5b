"""Conditions under which an advice can help: what is known of the objects, locks and requests."""

from __future__ import annotations

from ..numbers.gains import PARTS
from ..numbers.statistics import Statistics

#: objects whose bytes on the wire are a larger share of their content are as good as uncompressed
_COMPRESSED = 0.98
#: share of a lever's time from which on a part of it is worth a remedy of its own
_PART = 0.2
#: a READ below this size can be larger: the kernel asks for up to 128 KiB
_LARGE_READ_BYTES = 64 << 10
#: looking up a name in a catalog that is loaded takes less
_SLOW_LOOKUP_NS = 200_000


def compressed(s: Statistics) -> bool:
    """Return whether the objects that were downloaded are smaller on the wire than their content.

    Content that does not shrink costs little to unpack, stored compressed or not.
    """
    return 0 < s.latency.body_bytes < _COMPRESSED * s.latency.unpacked_bytes


def repeated(s: Statistics) -> bool:
    """Return whether the client asked again after requests that failed, before which it pauses."""
    return s.failures.requests > 0


def unpacks(s: Statistics) -> bool:
    """Return whether the download thread's work is to unpack and verify, in a part worth it."""
    return _is_part(s, "decompress", "download_thread")


def writes_cache(s: Statistics) -> bool:
    """Return whether the download thread's work is to write to the cache, in a part worth it."""
    return _is_part(s, "cache_write", "download_thread")


def reads_cache(s: Statistics) -> bool:
    """Return whether requests that the client answers itself wait for its cache."""
    return _is_part(s, "cache_read", "client")


def _is_part(s: Statistics, cause: str, part: str) -> bool:
    """Whether a cause has much of a part of the waits, one of `gains.PARTS`."""
    waited_ns = s.command_time.cvmfs_causes_ns
    whole_ns = sum(waited_ns.get(each, 0) for each in PARTS[part])
    return 0 < waited_ns.get(cause, 0) >= _PART * whole_ns


def reads_are_small(s: Statistics) -> bool:
    """Return whether the READs of the command were small enough to ask for more at once."""
    sizes = s.patterns.reading.sizes
    asked, count = sum(each.bytes for each in sizes), sum(each.count for each in sizes)
    return 0 < asked < _LARGE_READ_BYTES * count


def asks_for_names(s: Statistics) -> bool:
    """Return whether more requests asked for names and attributes than for content."""
    return s.patterns.names.count > sum(each.count for each in s.patterns.reading.sizes)


def answers_reads(s: Statistics) -> bool:
    """Return whether the client answered READs without fetching, which the kernel could have."""
    return s.patterns.reading.answered.count > 0


def finds_slowly(s: Statistics) -> bool:
    """Return whether the catalogs' size matters: they were fetched, or a look-up took long."""
    names, looked_up_ns = s.patterns.names, s.command_time.thread_causes_ns.get("catalog", 0)
    is_slow = looked_up_ns >= _SLOW_LOOKUP_NS * max(names.count, 1)
    return is_slow or 2 * names.catalogs.threads_ns > looked_up_ns


def finds_often(s: Statistics) -> bool:
    """Return whether it is the number of look-ups that took the time."""
    return asks_for_names(s) and not finds_slowly(s)


def held_by_handle(s: Statistics) -> bool:
    """Return whether threads waited for the lock of the open file that they share."""
    return _is_held_by(s, "same_handle")


def held_by_readahead(s: Statistics) -> bool:
    """Return whether what the kernel read ahead waited for the fetch of what came before it."""
    return _is_held_by(s, "readahead")


def held_by_collision(s: Statistics) -> bool:
    """Return whether requests waited for a lock that another open file happens to share."""
    return _is_held_by(s, "collision")


def held_by_catalog(s: Statistics) -> bool:
    """Return whether requests waited for a lock while its holder fetched a catalog."""
    return _is_held_by(s, "catalog")


def held_by_other(s: Statistics) -> bool:
    """Return whether requests waited for a lock of which it is not known what it protects."""
    return _is_held_by(s, "other") or not s.patterns.lock_kinds_ns


def _is_held_by(s: Statistics, kind: str) -> bool:
    kinds_ns = s.patterns.lock_kinds_ns
    return 0 < kinds_ns.get(kind, 0) >= _PART * sum(kinds_ns.values())
