"""What an imported log says."""

from __future__ import annotations

from collections.abc import Iterator

from ..numbers.log import Imported
from ..numbers.statistics import Statistics
from ..words import plural
from .finding import Finding

_CONTENT = {
    "debug log": "what was called, looked up and fetched, and in which order.",
    "trace file": "what was called and when each call began; reads and fetches are not in it.",
}


def imported_from(imported: Imported) -> Iterator[Finding]:
    """Say what the log is, how exact its times are and what it cannot show."""
    content = _CONTENT.get(imported.kind, _CONTENT["debug log"])
    yield Finding(
        "note",
        f"Imported from a {imported.kind} of the client; its times are {imported.precision}.",
        f"It says {content} It names no threads, so it does not show how long a call or a fetch "
        "took, nor what waited for it.",
    )


def unread_lines(s: Statistics) -> Iterator[Finding]:
    """Say which lines could not be read."""
    for loss in s.losses:
        yield Finding("warning", f"Not read from the log: {loss['count']:,} × {loss['cause']}.")


def fetched(s: Statistics, imported: Imported) -> Iterator[Finding]:
    """Say how many objects were downloaded."""
    if s.fetches.downloaded:
        missed, hit = imported.lookups_missed, imported.lookups_hit
        yield Finding(
            "main",
            f"{plural(s.fetches.downloaded, 'object was', 'objects were')} downloaded, "
            f"{s.fetches.chunks_downloaded:,} of them chunks or files.",
            f"Of {hit + missed:,} lookups in the client's cache, {hit:,} hit; the client looks "
            "twice before a download.",
        )
