"""The walk from each of the longest stalls to its chunks, as data for the page's script.

A step has its ``kind`` and ``text``, and what finds its pieces in the lanes: ``from`` and ``to`` in
seconds, and one of ``stall``, ``thread``, ``unique``, ``fetch``.
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import palette
from ..figures.encode import Json
from ..findings import chain
from ..numbers.links import Link
from ..numbers.stalls import Stall
from ..numbers.statistics import Statistics
from ..words import duration, shares


def walks(s: Statistics) -> list[Json]:
    """Return the longest stalls with their causes and their longest waits."""
    names = {device.device: device.name for device in s.devices}
    return [_walk(stall, names.get(stall.device, stall.device), s) for stall in s.stalls.longest]


def _walk(stall: Stall, device: str, s: Statistics) -> Json:
    colours = {name: style.colour for name, style in palette.STYLES.items()}
    return {
        "stall": stall.stall_id,
        "from": (stall.start_ns - s.start_ns) / 1e9,
        "causes": [
            [cause, share, colours.get(cause, "transparent")]
            for cause, share in shares(stall.causes_ns, 6).items()
        ],
        "fetches": list(stall.fetches),
        "waits": [_wait(link, stall, device, s) for link in stall.links],
    }


def _wait(link: Link, stall: Stall, device: str, s: Statistics) -> Json:
    first = _step(s, stall.start_ns, stall.end_ns, kind="stall", stall=stall.stall_id)
    lasted = duration(stall.duration_ns)
    return {
        "lasted": duration(link.ns),
        "text": _caption(link),
        "steps": [first | {"text": f"of {device}, {lasted}"}, *_steps(link, s)],
    }


def _caption(link: Link) -> str:
    if link.access is not None:
        return chain.access(link.access)
    if link.fetch is not None:
        return chain.fetch(link.fetch)
    return "no read and no page fault"


def _steps(link: Link, s: Statistics) -> Iterator[Json]:
    waited = f"{chain.thread(link)}, {duration(link.ns)} of the stall"
    yield _step(s, link.start_ns, link.end_ns, kind="thread", text=waited, thread=link.tid)
    access, request, fetch = link.access, link.request, link.fetch
    if access is not None:
        text = chain.access(access)
        yield _step(s, access.start_ns, access.end_ns, kind="access", text=text, thread=link.tid)
    if request is not None and request.start_ns is not None:
        text = chain.request(request).removeprefix("request ")
        yield _step(
            s, request.start_ns, request.end_ns, kind="request", text=text, unique=request.unique
        )
    if fetch is not None:
        text = chain.fetch(fetch).removeprefix("fetch ") + chain.others(link)
        yield _step(s, fetch.start_ns, fetch.end_ns, kind="fetch", text=text, fetch=fetch.fetch_id)


def _step(s: Statistics, start_ns: int, end_ns: int | None, **more: object) -> Json:
    end = s.start_ns + s.duration_ns
    edges = (max(start_ns, s.start_ns), end if end_ns is None else min(end_ns, end))
    return {"from": (edges[0] - s.start_ns) / 1e9, "to": (edges[1] - s.start_ns) / 1e9, **more}
