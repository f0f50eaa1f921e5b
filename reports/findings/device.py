"""What devices waited for."""

from __future__ import annotations

from collections.abc import Iterator

from ..escape import visible
from ..numbers.devices import Device, least_known
from ..numbers.links import Link
from ..numbers.stalls import Stall
from ..numbers.statistics import Statistics
from ..words import duration, percent, plural
from . import chain
from .finding import NEGLIGIBLE, Finding

_HASH, _PATH = 8, 60
#: devices that a sentence names
_DEVICES_NAMED = 4


def stalls(s: Statistics) -> Iterator[Finding]:
    """Say how long devices waited, how much of it for chunks, and what the longest wait was for."""
    if not s.stalls.count or not s.stalls.total_ns:
        return
    longest = s.stalls.longest[0]
    headline = f"{_waited(s)}, {_for_chunks(s)}: the longest, {_longest(longest)}."
    said = (_by_device(s), _causes(longest), _meanwhile(s, longest), _proviso(s))
    meaning = " ".join(filter(None, said))
    yield Finding("main" if _mostly_chunks(s) else "note", headline, meaning)


def _waited(s: Statistics) -> str:
    """Who waited, how long and how often: as far as the source shows it."""
    waiting = sum(1 for device in s.devices if device.stalls)
    total, stalls = duration(s.stalls.total_ns), plural(s.stalls.count, "stall")
    match least_known(s.devices):
        case "runner":
            return f"No inference ran for {total} in {stalls}"
        case "cuda_api":
            gpus = "the GPU" if waiting == 1 else f"{waiting} GPUs, counted for each,"
            return f"Between submits to {gpus} {total} passed in {plural(s.stalls.count, 'gap')}"
        case _:
            who = _only(s) if waiting == 1 else f"{waiting} GPUs together"
            return f"{who} waited {total} in {stalls}"


def _only(s: Statistics) -> str:
    """The one device that waited, by its name where there are others."""
    if len(s.devices) == 1:
        return "The GPU"
    return next(device.name for device in s.devices if device.stalls)


def _for_chunks(s: Statistics) -> str:
    if not s.stalls.chunk_ns:
        return "none of it for chunks"
    return f"{percent(s.stalls.chunk_ns / s.stalls.total_ns)} of it for chunks"


def _mostly_chunks(s: Statistics) -> bool:
    return least_known(s.devices) != "runner" and 2 * s.stalls.chunk_ns > s.stalls.total_ns


def _longest(stall: Stall) -> str:
    """How long a stall lasted, and what it waited for most."""
    lasted, worst = duration(stall.duration_ns), stall.worst_chunk
    if worst is None or not stall.chunks:
        cause, ns = max(stall.causes_ns.items(), key=lambda item: item[1], default=("unknown", 0))
        return f"{lasted}, {duration(ns)} of it {cause}" if ns else lasted
    if stall.chunks == 1:
        return f"{lasted}, {duration(stall.chunk_ns)} of it for chunk {_chunk(worst)}"
    return (
        f"{lasted}, {duration(stall.chunk_ns)} of it for {plural(stall.chunks, 'chunk')}, "
        f"most of all chunk {_chunk(worst)}"
    )


def _chunk(link: Link) -> str:
    """A chunk by its hash, its file, and the tensors that were asked for, else those in it."""
    fetch = link.fetch
    if fetch is None:
        return "of no known file"
    part = link.access.part if link.access is not None and link.access.part.tensors else fetch.part
    path = fetch.part.path or part.path
    name = f"{visible(fetch.object_hash[:_HASH])}…" if fetch.object_hash else "without a name"
    of_file = f" of {visible(path.rpartition('/')[2], _PATH)}" if path else ""
    return f"{name}{of_file} ({chain.tensors(part)})" if part.tensors else f"{name}{of_file}"


def _by_device(s: Statistics) -> str:
    waiting = [device for device in s.devices if device.stalls]
    if len(waiting) < 2:
        return ""
    named = ", ".join(map(_share_of, waiting[:_DEVICES_NAMED]))
    rest = len(waiting) - _DEVICES_NAMED
    return f"{named}{f', and {rest:,} more' if rest > 0 else ''}."


def _share_of(device: Device) -> str:
    count = plural(device.stalls, "gap" if device.source == "cuda_api" else "stall")
    return f"{device.name} {duration(device.stalled_ns)} in {count}"


def _causes(stall: Stall) -> str:
    """What the longest stall was spent on."""
    largest = sorted(stall.causes_ns.items(), key=lambda item: -item[1])[:4]
    named = ", ".join(
        f"{cause} {duration(ns)}" for cause, ns in largest if ns > NEGLIGIBLE * stall.duration_ns
    )
    return f"The longest was spent on {named}." if named else ""


def _meanwhile(s: Statistics, stall: Stall) -> str:
    """What the device copied during a stall; of calls alone that is not known."""
    if least_known(s.devices) == "cuda_api":
        return ""
    parts = (("to", stall.copying_in_ns), ("from", stall.copying_out_ns))
    copied = " and ".join(f"{way} the device {duration(ns)}" for way, ns in parts if ns)
    return f"During it data was copied {copied}." if copied else ""


def _proviso(s: Statistics) -> str:
    """What the source does not show."""
    match least_known(s.devices):
        case "runner":
            return "The runner’s inferences stand for a device: no GPU was recorded."
        case "cuda_api":
            return "Only calls of the driver were recorded: the GPU may have been busy meanwhile."
        case _:
            return ""
