"""Where the time went."""

from __future__ import annotations

from collections.abc import Iterator

from ...profiler.tables import FETCH_CAUSES
from ..numbers.fetching import Fetches
from ..numbers.phases import Phase
from ..numbers.statistics import Statistics
from ..words import duration, percent, plural
from .finding import NEGLIGIBLE, Finding, main_phase

#: mean number of fetches at once below which they ran nearly one after another
_ONE_AFTER_ANOTHER = 1.1
#: causes that are divided further where the work is observed, and why it may not be
_UNDIVIDED = {
    "daemon": "No CVMFS client serves that file system, or what it does was not observed.",
    "fetch": "The HTTP requests, or what the download thread did with the answers, were not "
    "observed: they are encrypted, or were sent before recording began.",
}


def _in_order(fetches: Fetches) -> str:
    """Say whether the fetches ran one after another."""
    if fetches.chunks_downloaded < 2:
        return ""
    if fetches.most_at_once == 1:
        return " fetched one after another"
    if fetches.mean_at_once < _ONE_AFTER_ANOTHER:
        return " fetched nearly one after another"
    return f" fetched {fetches.mean_at_once:.1f} at a time on average"


def where_time_went(s: Statistics) -> Iterator[Finding]:
    """Say how much of the main phase waited for CVMFS, and for what."""
    phase = main_phase(s)
    if phase is None or not phase.duration_ns or not phase.causes_ns:
        return
    share = phase.cvmfs_ns / phase.duration_ns
    if share < NEGLIGIBLE:
        yield _nothing_waited(s, phase)
        return
    fetch_ns = sum(ns for cause, ns in phase.causes_ns.items() if cause in FETCH_CAUSES)
    if fetch_ns < phase.cvmfs_ns / 2:
        part = "less than half" if fetch_ns else "none"
        yield _waited_for_cvmfs(phase, f"{part} of it for fetches")
    elif phase.fetches.chunks_downloaded:
        yield _waited_for_chunks(phase, fetch_ns)
    else:
        yield _waited_for_cvmfs(phase, "mostly for fetches that brought no chunk")


def _waited_for_cvmfs(phase: Phase, what: str) -> Finding:
    share = percent(phase.cvmfs_ns / phase.duration_ns)
    return Finding(
        "main",
        f"{share} of “{phase.title}” waited for CVMFS, {what}.",
        f"{duration(phase.cvmfs_ns)} of {duration(phase.duration_ns)}: {_top_causes(phase)}.",
    )


def _waited_for_chunks(phase: Phase, fetch_ns: int) -> Finding:
    fetches = phase.fetches
    chunks = plural(fetches.chunks_downloaded, "chunk")
    meaning = f"{duration(fetch_ns)} of {duration(phase.duration_ns)}: {_top_causes(phase)}."
    if fetches.chunks_downloaded > 1 and fetches.mean_at_once < _ONE_AFTER_ANOTHER:
        meaning += (
            " A chunk is fetched only when a read or page fault reaches it, and the next one only "
            "after that one has arrived, so the waits add up."
        )
    headline = f"{percent(fetch_ns / phase.duration_ns)} of “{phase.title}” waited for {chunks}"
    return Finding("main", f"{headline}{_in_order(fetches)}.", meaning)


def _top_causes(phase: Phase, count: int = 4) -> str:
    largest = sorted(phase.causes_ns.items(), key=lambda item: -item[1])[:count]
    cached = {"cpu": _of_page_cache(phase)}
    return ", ".join(f"{cause} {duration(ns)}{cached.get(cause, '')}" for cause, ns in largest)


def _of_page_cache(phase: Phase) -> str:
    """Say how much of the CPU time page-cache hits took, unless it is negligible."""
    if phase.page_cache_ns < NEGLIGIBLE * phase.duration_ns:
        return ""
    hits = plural(phase.page_cache_hits, "hit")
    return f" ({duration(phase.page_cache_ns)} of it reading the page cache, {hits})"


def _nothing_waited(s: Statistics, phase: Phase) -> Finding:
    spent = f"“{phase.title}” took {duration(phase.duration_ns)}: {_top_causes(phase)}."
    if not s.fetches.downloaded:
        return Finding("good", "Nothing waited for CVMFS: no chunk had to be fetched.", spent)
    waited = percent(phase.cvmfs_ns / phase.duration_ns)
    return Finding("good", f"Almost nothing waited for CVMFS: {waited} of “{phase.title}”.", spent)


def undivided(s: Statistics) -> Iterator[Finding]:
    """Say how much time could not be divided further, and why."""
    phase = main_phase(s)
    if phase is None:
        return
    for cause, reason in _UNDIVIDED.items():
        ns = phase.causes_ns.get(cause, 0)
        if ns > NEGLIGIBLE * phase.duration_ns:
            headline = f"{duration(ns)} of “{phase.title}” counts as {cause}, not divided further."
            yield Finding("note", headline, reason)
