"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

#: what a thread does in the time of each cause
_CAUSES = {
    "cpu": "computing",
    "copy": "copying cached pages",
    "runqueue": "waiting for a CPU",
    "stopped": "by a signal, a tracer or a freezer",
    "driver": "in the GPU's driver",
    "device": "waiting for the GPU",
    "launch": "submitted to the GPU, not begun",
    "disk": "reading a local disk",
    "fuse_queue": "waiting for the client",
    "daemon": "inside the client",
    "daemon_lock": "waiting for a client's lock",
    "cache_read": "reading the client's cache",
    "catalog": "looking up catalogs",
    "fetch": "fetching",
    "fetch_joined": "waiting for another's download",
    "fetch_queue": "queued behind other downloads",
    "connect": "connecting to the server",
    "first_byte": "waiting for the first byte",
    "transfer": "receiving the data",
    "decompress": "unpacking and verifying",
    "cache_write": "writing the client's cache",
    "reply": "waiting to run after the answer",
    "blocked": "asleep",
    "unknown": "not explained",
}

_SOURCES = {
    "http": "read, waiting for HTTP",
    "joined": "read, waiting for another thread's HTTP",
    "cvmfs cache": "read from the client's cache",
    "passthrough": "read bypassing the daemon",
    "disk": "read from local disk",
    "readahead": "read ahead, in memory when it was asked for",
    "page cache": "read from the page cache",
    "unknown": "read, source unknown",
}


def duration(ns: float) -> str:
    """Return a time with three digits and its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(ns) >= 0.9995 * size:
            return f"{_three_digits(ns / size)} {unit}"
    return f"{ns:.0f} ns"


def size(count: float) -> str:
    """Return a number of bytes with three digits and a binary unit."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= 0.9995 * scale:
            return f"{_three_digits(count / scale)} {unit}"
    return f"{count:.0f} B"


def percent(share: float) -> str:
    """Return a share of 1 in per cent; 0 and 100 only where it is exactly that."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.99 < share < 1:
        return f"{min(share * 100, 99.9):.1f} %"
    return f"{share * 100:.1f} %" if 0 < share < 0.0995 else f"{share * 100:.0f} %"


def shares(parts: Mapping[str, int], most: int = 4) -> dict[str, int]:
    """Return whole per cents of the largest parts and of ``other``, which together are 100.

    Empty where there is nothing to divide.
    """
    total = sum(parts.values())
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    if len(ordered) > most:
        ordered[most:] = [("other", sum(ns for _, ns in ordered[most:]))]
    floors = {name: 100 * ns // max(total, 1) for name, ns in ordered if ns}
    missing = 100 - sum(floors.values())
    rests = sorted(floors, key=lambda name: -(100 * dict(ordered)[name] % total))
    for name in rests[:missing]:
        floors[name] += 1
    return {name: share for name, share in floors.items() if share}


def shared(parts: Mapping[str, int], most: int = 4) -> str:
    """Return the shares as text."""
    return ", ".join(f"{name} {share} %" for name, share in shares(parts, most).items())


def of_total(parts: Mapping[str, int], total: int, most: int = 4) -> str:
    """Return the largest parts as shares of a total that may be more than their sum."""
    largest = sorted(parts.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{name} {percent(ns / max(total, 1))}" for name, ns in largest)


def cause(name: str) -> str:
    """Return a cause in words, with its identifier: ``reading a local disk (disk)``."""
    return f"{_CAUSES.get(name, name)} ({name})"


def source(name: str) -> str:
    """Return what the bytes of an operation of this class are."""
    return _SOURCES.get(name, f"read, source {name}")


def hits(count: int, ns: int) -> str:
    """Return how many page-cache hits there were and how long they took together."""
    return f"{count:,} in {duration(ns)}" if count else "0"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return the count with the noun in the right number."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def capital(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def reconciled(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return how many numbers of the table `reconciliation` differ from the clients' counters."""
    compared = [row for row in rows if row["difference"] is not None]
    if all(row["quantity"] == "chunks" for row in compared):
        return "not known"
    different = sum(1 for row in compared if row["difference"])
    if different:
        return f"{different:,} of {plural(len(compared), 'number')} differ"
    return f"no difference in {plural(len(compared), 'number')}"


#: what a run shows of a cache, by the first words of `mounts.cache_manager`
_CACHES = {
    "posix alien": "lookups, fetches, writing; not what others do in its directory",
    "posix unmanaged": "lookups, fetches, writing; nothing is ever evicted",
    "posix": "lookups, fetches, writing, evictions",
    "ram": "lookups and fetches; no writing, no evictions",
    "tiered": "lookups in each tier, fetches; copying between tiers counts as lookup",
    "external": "lookups and fetches, which include the plugin's work",
    "streaming": "downloads, one per READ; nothing is kept",
}  # fmt: skip


def cache_shown(manager: str | None) -> str:
    """Return what a run shows of a cache manager's work."""
    matching = (text for name, text in _CACHES.items() if (manager or "").startswith(name))
    return next(matching, "not known")


def moment(utc_ns: int) -> str:
    """Return a time of day and date in UTC."""
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    if magnitude >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if magnitude >= 9.995 else f"{value:.2f}"
