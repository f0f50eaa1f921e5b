"""Requests and reads that cost the command time by their size, their order or their repetition."""

from __future__ import annotations

from collections.abc import Iterator

from ..numbers.reading import PAGE_BYTES, SMALL_BYTES, Answered, ReadAgain, SmallRequests
from ..numbers.statistics import Statistics
from ..words import duration, plural, size
from .finding import WORTH, Finding
from .worth import MANY_REQUESTS, each_took, is_worth, of_wall

#: fewer reads are not called many
_MANY_READS = 1000
#: what the kernel reads ahead in one request unless it is set otherwise
_READAHEAD_BYTES = 128 << 10
_LEAST_AGAIN_BYTES = 1 << 20
#: the event that shows what was put into the page cache
_INSERTION = "page-cache insertion"


def small_requests(s: Statistics) -> Iterator[Finding]:
    """Say that the kernel asked for a file in small pieces, and what that cost without fetches."""
    small = s.patterns.reading.small
    if not _is_said(s):
        return
    average = "each" if small.bytes == small.count * PAGE_BYTES else "on average"
    yield Finding(
        "note",
        f"{small.count:,} requests of {size(small.bytes / small.count)} {average} took "
        f"{of_wall(s, small.held)} without fetches, copying included, "
        f"{each_took(small.held.threads_ns, small.count)}.",
        _why_small(s, small),
        small.held.wall_ns,
    )


def _is_said(s: Statistics) -> bool:
    small = s.patterns.reading.small
    return small.count >= MANY_REQUESTS and is_worth(s, small.held)


def _why_small(s: Statistics, small: SmallRequests) -> str:
    if 2 * small.files > small.count:
        return (
            f"They are of {small.files:,} files, so there was little to read ahead in each. Fewer "
            "and larger files would help."
        )
    by_fault = 2 * small.by_fault > small.count
    if not by_fault and _insertions_seen(s) and 2 * small.inserted_bytes < small.bytes:
        return (
            "They bypassed the kernel's page cache (O_DIRECT, or the client asked for direct I/O), "
            "so each read of the program is a request of its size. The program can read in larger "
            "pieces, or without O_DIRECT."
        )
    return _why_not_ahead(small, by_fault)


def _why_not_ahead(small: SmallRequests, by_fault: bool) -> str:
    """Say why the kernel's readahead did not make larger requests of them."""
    if 2 * small.ordered < small.count:
        backwards = 2 * small.backwards >= small.count
        return _at_faults(backwards) if by_fault else _at_reads(backwards, small.files)
    large = plural(-(-small.bytes // _READAHEAD_BYTES), "request")
    return (
        "They follow one another in the file, and yet nothing was read ahead: the program advised "
        "against it (MADV_RANDOM, POSIX_FADV_RANDOM), or the mount's read_ahead_kb is small. With "
        f"readahead the same bytes take {large} of {size(_READAHEAD_BYTES)}: leave out the advice, "
        "or read the file once in order before."
    )


def _at_faults(backwards: bool) -> str:
    how = "go backwards through" if backwards else "lie scattered over"
    return (
        f"They {how} a mapped file. A page fault brings {size(_READAHEAD_BYTES)} around it unless "
        "the program advised against that (MADV_RANDOM), or the mount's read_ahead_kb is small. "
        "Without the advice, neighbouring pages come together."
    )


def _at_reads(backwards: bool, files: int) -> str:
    if backwards:
        return (
            "They go backwards through the file, and the kernel reads ahead only forwards. The "
            "program can read in larger pieces, or in the order of the file."
        )
    return (
        f"They lie scattered over {plural(files, 'file')}, so nothing is read ahead. The program "
        "can read neighbouring parts together, or in the order of the file."
    )


def answered_from_cache(s: Statistics) -> Iterator[Finding]:
    """Say what requests took for which nothing had to be fetched.

    Unless another finding says what was wrong with most of them: too small, or not the first.
    """
    answered, again = s.patterns.reading.answered, s.patterns.reading.again
    if answered.count < MANY_REQUESTS or not is_worth(s, answered.held) or _is_said(s):
        return
    if _is_brought_again(s) and 2 * again.held.wall_ns > answered.held.wall_ns:
        return
    yield Finding(
        "note",
        f"{answered.count:,} requests for {size(answered.bytes)} needed no fetch, and took "
        f"{of_wall(s, answered.held)}.",
        _why_answered(s, answered),
        answered.held.wall_ns,
    )


def _why_answered(s: Statistics, answered: Answered) -> str:
    read_ns = s.command_time.cvmfs_causes_ns.get("cache_read", 0)
    faster = "A faster disk for that cache" if 2 * read_ns > answered.held.wall_ns else "Fewer"
    return (
        f"The client had that in its cache{_since(answered)}: each went from the kernel to cvmfs2 "
        f"and back, {each_took(answered.held.threads_ns, answered.count)}. A faster line or a "
        f"nearer server would not help. {faster} would, or memory in which the kernel keeps the "
        "pages from one run to the next."
    )


def _since(answered: Answered) -> str:
    """Say for whom it had been fetched during the run, where it was."""
    asked = (
        (answered.fetched_before, "the command"),
        (answered.fetched_for_others, "another process"),
    )
    whose = " or of ".join(who for number, who in asked if number)
    return f", some of it fetched for an earlier request of {whose}" if whose else ""


def read_again(s: Statistics) -> Iterator[Finding]:
    """Say that requests brought the same bytes more than once, and why as far as is known."""
    again = s.patterns.reading.again
    if not _is_brought_again(s):
        return
    yield Finding(
        "note",
        f"{size(again.again_bytes)} of {size(again.asked_bytes)} that requests brought had been "
        f"brought before: {of_wall(s, again.held)} without fetches, copying included.",
        f"{again.path} was brought {again.times:.1f} times. {_why_again(s, again)}",
        again.held.wall_ns,
    )


def _is_brought_again(s: Statistics) -> bool:
    again = s.patterns.reading.again
    enough = max(_LEAST_AGAIN_BYTES, again.asked_bytes // 10)
    return again.again_bytes >= enough and is_worth(s, again.held)


def _why_again(s: Statistics, again: ReadAgain) -> str:
    """What is known of the reason, and how to find out where several are possible."""
    seen = _insertions_seen(s)
    if seen and again.inserted_bytes < again.path_asked_bytes / 2:
        return (
            "Its pages were not kept in the kernel's page cache: it is read with O_DIRECT, or the "
            "client asked for direct I/O. Reading it once, or without O_DIRECT, avoids that."
        )
    kept = "The kernel had dropped its pages in between" if seen else "Why is not known"
    others = "" if seen else ", or it is read with O_DIRECT"
    renewed = "a remount or reload of the client, which lay in between; " if again.renewed else ""
    return (
        f"{kept}: {renewed}too little memory, in the command's cgroup or the machine; somebody who "
        "emptied the page cache; the program's own advice (POSIX_FADV_DONTNEED); or "
        f"CVMFS_KCACHE_TIMEOUT=0{others}. During such a run, workingset_refault_file in "
        "/proc/vmstat grows where memory is too small, drop_pagecache where somebody emptied the "
        "cache; strace -e fadvise64 shows the advice. Reading the file once avoids all of them."
    )


def small_reads(s: Statistics) -> Iterator[Finding]:
    """Say that the program read in small pieces what was in memory."""
    calls, threads_ns = s.patterns.read_calls, s.command_time.threads_ns
    if calls.count < _MANY_READS or calls.bytes > calls.count * SMALL_BYTES:
        return
    if calls.ns < WORTH * threads_ns:
        return
    yield Finding(
        "note",
        f"{calls.count:,} reads of {size(calls.bytes / calls.count)} on average, of data in "
        f"memory, took {duration(calls.ns)} of {duration(threads_ns)} that all threads lived.",
        f"{each_took(calls.ns, calls.count)}. The program can read in larger pieces, or map the "
        "file.",
    )


def _insertions_seen(s: Statistics) -> bool:
    """Whether it was observed what was put into the page cache."""
    probes = [probe for probe in s.probes if probe["event"] == _INSERTION]
    return not probes or any(probe["family"] not in {"none", ""} for probe in probes)
