"""What came from the client's cache and the kernel's, and what had to be fetched."""

from __future__ import annotations

from collections.abc import Iterator

from ..numbers.statistics import Statistics
from ..words import capital, duration, percent, plural, size
from .finding import Finding

#: collisions that take less than this in total are not worth reporting
_SHORTEST_COLLISION_NS = 1_000_000
#: less in the page cache is not worth a reader's time
_LEAST_CACHED_BYTES = 1 << 20


def cached_objects(s: Statistics) -> Iterator[Finding]:
    """Say how many objects of files the client's cache had when they were first looked up."""
    if s.objects_looked_up and s.fetches.downloaded:
        cached, looked_up = s.objects_cached_at_start, s.objects_looked_up
        were = (
            f"{plural(looked_up, 'object')} {'was' if 1 in (cached, looked_up) else 'were'} already"
        )
        wire = size(s.bytes.over_http)
        yield Finding(
            "note",
            f"{cached:,} of {were} in the client's cache when first looked up.",
            f"{_of_files(s)} came over HTTP. All that came, with catalogs and headers, was {wire} "
            "on the wire.",
        )


def _of_files(s: Statistics) -> str:
    """How much content of files came, and how many chunks beside of which the size is not known."""
    unsized = s.fetches.unsized
    content = f"{size(s.bytes.unpacked)} of files"
    if not unsized:
        return content
    return f"{content}, and {plural(unsized, 'chunk')} of which the size is not known,"


def page_cache(s: Statistics) -> Iterator[Finding]:
    """Say how much was in the kernel's page cache already, where that is most of what was used."""
    used, kept, again = (
        s.patterns.page_cache.used_bytes,
        s.patterns.page_cache.kept_bytes,
        s.patterns.page_cache.again_bytes,
    )
    if used and kept + again == used and not s.counts["fuse_reads"]:
        yield Finding(
            "note",
            f"No READ reached cvmfs2: the kernel's page cache held all {size(used)} that the "
            "command read or mapped.",
            "Such a run says nothing about a cold start: “cvmprof cold” empties that cache.",
        )
    elif kept + again >= max(used / 2, _LEAST_CACHED_BYTES):
        parts = {
            "was there before the run": kept,
            "had come during the run and was used again": again,
        }
        yield Finding(
            "note",
            f"{percent((kept + again) / used)} of {size(used)} that the command read or mapped was "
            "in the kernel's page cache already.",
            f"{', '.join(f'{size(part)} {what}' for what, part in parts.items() if part)}. cvmfs2 "
            "is asked only for what the kernel does not hold.",
        )


_RENEWALS = {
    "reload": "A client was reloaded",
    "remount": "A repository was remounted",
    "eviction": "Objects were removed from a client's cache",
}


def renewed(s: Statistics) -> Iterator[Finding]:
    """Name the reloads, remounts and evictions."""
    for incident in s.incidents:
        if incident["kind"] in _RENEWALS:
            after = duration(incident["time_ns"] - s.start_ns)
            headline = f"{_RENEWALS[incident['kind']]} {after} after the start."
            yield Finding("note", headline, f"{capital(str(incident['detail']))}.")


def downloaded_again(s: Statistics) -> Iterator[Finding]:
    """Say how many objects were downloaded more than once, and why."""
    again = s.failures.downloaded_again
    if not again:
        return
    managers = {str(mount["cache_manager"]) for mount in s.mounts}
    if any(manager.startswith("streaming") for manager in managers):
        why = (
            "This client streams: it keeps nothing of what it downloads, and each READ that "
            "reaches it downloads its whole chunk again."
        )
    elif any(incident["kind"] == "eviction" for incident in s.incidents):
        why = (
            "Objects were removed from a client's cache meanwhile: its limit (CVMFS_QUOTA_LIMIT) "
            "is too low for what is used, or somebody emptied it."
        )
    else:
        why = "They were not in the client's cache when they were needed again."
    objects = plural(again, "object was", "objects were")
    yield Finding("warning", f"{objects} downloaded more than once.", why)


def joined(s: Statistics) -> Iterator[Finding]:
    """Say how many fetches waited for the download of another thread."""
    if s.fetches.joined:
        number = plural(s.fetches.joined, "fetch", "fetches")
        yield Finding(
            "note",
            f"{number} waited for a download that another thread had begun.",
            "What they needed was coming already, and was downloaded once.",
        )


def collisions(s: Statistics) -> Iterator[Finding]:
    """Say how long reads waited for a lock that another open file held."""
    waits = s.collisions
    if waits.total_ns < _SHORTEST_COLLISION_NS:
        return
    requests = plural(waits.count, "request")
    waiting, holding = waits.waiting_path or "a file", waits.holding_path or "another"
    yield Finding(
        "note",
        f"{requests} waited {duration(waits.total_ns)} for a lock that another open file held.",
        "cvmfs2 holds a lock while it fetches a chunk, and has 128 of them for all open files, so "
        "unrelated files may share one. The longest: "
        f"{waiting} waited {duration(waits.longest_ns)} for {holding}.",
    )


def ahead(s: Statistics) -> Iterator[Finding]:
    """Say how many objects the client fetched without a request."""
    if s.fetched_for_no_request:
        number = plural(s.fetched_for_no_request, "object was", "objects were")
        yield Finding(
            "note",
            f"{number} fetched by the client without a request.",
            "Either the client fetched a bundle ahead, or it took the request before recording "
            "began.",
        )
