"""The steps from a stall to a chunk in words, for the page and the terminal."""

from __future__ import annotations

from ..escape import visible
from ..numbers.links import Access, Fetch, Link, Part, Request
from ..words import duration, plural

#: what the sum of stalls is, by how the devices are known
LOST = {
    "cupti": "Device time lost to stalls",
    "cuda_api": "Time between submits to a device",
    "runner": "Time between inferences, which stand for a device",
}
#: what a stall is called, by the same
GAPS = {"cupti": "stalls", "cuda_api": "gaps between submits", "runner": "stalls"}
_KINDS = {"fault": "page fault", "splice": "read by splice", "populate": "populating a mapping"}
_PATH, _TENSOR, _HASH = 40, 48, 12


def thread(link: Link) -> str:
    """Return the thread that waited, by name and number."""
    return f"{visible(link.thread, 24)} {link.tid}" if link.thread else f"{link.tid}"


def access(found: Access) -> str:
    """Return a read or fault, and what it asked for."""
    return f"{_KINDS.get(found.kind, found.kind)} {where(found.part)}"


def where(part: Part) -> str:
    """Return a place in a file, its tensors first."""
    file = visible((part.path or "a file not known").rpartition("/")[2], _PATH)
    offset = part.offset_bytes
    at = file if offset is None else f"{file} + {offset / (1 << 20):,.1f} MiB"
    names = tensors(part)
    return f"at {names} ({at})" if names else f"at {at}"


def tensors(part: Part) -> str:
    """Return the names of the tensors; nothing where none is known."""
    names = " and ".join(visible(name, _TENSOR) for name in part.tensors)
    if not part.more:
        return names
    return f"{visible(part.tensors[0], _TENSOR)} and {part.more + len(part.tensors) - 1:,} more"


def request(found: Request) -> str:
    """Return a request and how long it took."""
    took = ""
    if found.start_ns is not None and found.end_ns is not None:
        took = f", {duration(found.end_ns - found.start_ns)}"
    return f"request {found.unique} on {visible(found.mount, _PATH)}{took}"


def fetch(found: Fetch) -> str:
    """Return a fetch: of which object, from where, and how long it took."""
    what = visible(found.object_kind or "object", 20)
    name = f" {visible(found.object_hash[:_HASH])}…" if found.object_hash else ""
    host = f" from {visible(found.host, _PATH)}" if found.host else ""
    took = "never ended" if found.end_ns is None else duration(found.end_ns - found.start_ns)
    return f"fetch of {what}{name}{host}, {took}"


def others(link: Link) -> str:
    """Say how many fetches the wait had beside the one that is named."""
    return (
        f" and {plural(link.fetches - 1, 'more fetch', 'more fetches')}" if link.fetches > 1 else ""
    )


def steps(link: Link) -> str:
    """Return the steps from the thread to the fetch."""
    made = [f"thread {thread(link)}"]
    if link.access is not None:
        made.append(access(link.access))
    if link.request is not None:
        made.append(request(link.request))
    if link.fetch is not None:
        made.append(fetch(link.fetch) + others(link))
    return " ← ".join(made)
