"""Which tensors were late."""

from __future__ import annotations

from collections.abc import Iterator

from ..numbers.statistics import Statistics
from ..numbers.tensors import LateTensor
from ..words import duration, percent, plural
from .finding import NEGLIGIBLE, Finding

_NAMED = 4
_NAME = 80


def late_tensors(s: Statistics) -> Iterator[Finding]:
    """Say how long threads waited for tensors, and name those waited for longest."""
    tensors = s.tensors
    if not tensors.late or tensors.wait_ns < NEGLIGIBLE * s.command_time.wall_ns:
        return
    were = f"{plural(tensors.known, 'tensor')} {'was' if tensors.late == 1 else 'were'}"
    latest = ", ".join(_waited(each, tensors.wait_ns) for each in tensors.latest[:_NAMED])
    yield Finding(
        "note",
        f"{tensors.late:,} of {were} late: {duration(tensors.wait_ns)} of waiting in all.",
        f"Longest first: {latest}.",
    )


def _waited(tensor: LateTensor, total_ns: int) -> str:
    name = tensor.name if len(tensor.name) <= _NAME else f"{tensor.name[: _NAME - 1]}…"
    chunks = tensor.chunks_waited_for
    of_chunks = f", {plural(chunks, 'chunk')}" if chunks else ""
    share = percent(tensor.wait_ns / total_ns)
    return f"{name} waited {duration(tensor.wait_ns)} ({share}{of_chunks})"
