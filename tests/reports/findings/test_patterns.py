"""What is said of patterns of access, and numbers just below which nothing is said.

The quiet run lasts 100 ms with one thread, so 5 ms are worth a sentence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.numbers.held import Held
from cvmprof.reports.numbers.patterns import Names, ReadCalls, Unread, WholeFiles
from cvmprof.reports.numbers.reading import Answered, ReadAgain, SmallRequests
from cvmprof.reports.numbers.shared_files import OneHandle, SharedFiles
from cvmprof.tests.reports.rows import NO_PATTERNS, incident, spoken
from cvmprof.tests.reports.synthetic import MIB, MS

KIB = 1 << 10
WORTH = Held(5 * MS, 5 * MS)
ALMOST = Held(5 * MS - 1, 5 * MS)


def said(**changes: Any) -> list[Finding]:
    """Return what is said of a quiet run with these patterns."""
    return spoken(patterns=replace(NO_PATTERNS, **changes))


def said_of_reading(incidents: tuple[dict[str, Any], ...] = (), **changes: Any) -> list[Finding]:
    reading = replace(NO_PATTERNS.reading, **changes)
    return spoken(patterns=replace(NO_PATTERNS, reading=reading), incidents=incidents)


SMALL_FILES = WholeFiles(501, 3006, 6, 20 * MS, 1.0, WORTH)


def test_many_small_files() -> None:
    (finding,) = said(whole_files=SMALL_FILES)
    assert finding == Finding(
        "note",
        "501 files of 6 B (median) were fetched one at a time: 5.00 ms of 100 ms.",
        "Each took 20.0 ms, most of it whatever its size: a file that is not chunked is fetched "
        "whole when it is opened, and the next one only after that. Their number is what costs. "
        "Who publishes them can pack them into one file (a squashfs image, an archive; Python "
        "imports from a zip), which comes in few fetches.",
    )


def test_small_files_fetched_at_once() -> None:
    (finding,) = said(whole_files=replace(SMALL_FILES, mean_at_once=3.25))
    assert "were fetched 3.2 at a time on average: " in finding.headline
    assert "the next one" not in finding.meaning


@pytest.mark.parametrize(
    "change", [{"held": ALMOST}, {"count": 9}, {"median_bytes": 128 * KIB + 1}]
)
def test_files_that_are_few_large_or_quick_are_not_told(change: dict[str, Any]) -> None:
    assert said(whole_files=replace(SMALL_FILES, **change)) == []
    assert len(said(whole_files=replace(SMALL_FILES, count=10, median_bytes=128 * KIB))) == 1


SMALL = SmallRequests(10_240, 40 * MIB, 10_239, 10_240, Held(50 * MS, 50 * MS))


def test_small_requests_in_order() -> None:
    (finding,) = said_of_reading(small=SMALL)
    assert finding == Finding(
        "note",
        "10,240 requests of 4.00 KiB each took 50.0 ms of 100 ms without fetches, 4.88 µs apiece.",
        "They follow one another in the file, and yet nothing was read ahead: the program advised "
        "against it (MADV_RANDOM, POSIX_FADV_RANDOM), or the mount's read_ahead_kb is small. With "
        "readahead the same bytes take 320 requests of 128 KiB: leave out the advice, or read the "
        "file once in order before.",
    )


def test_small_requests_here_and_there() -> None:
    (finding,) = said_of_reading(small=replace(SMALL, ordered=5119, bytes=80 * MIB))
    assert finding.headline.startswith("10,240 requests of 8.00 KiB on average took ")
    assert finding.meaning == (
        "They lie scattered over the file, so nothing is read ahead. The program can read "
        "neighbouring parts together, or in the order of the file."
    )


def test_few_or_quick_small_requests_are_not_told() -> None:
    assert said_of_reading(small=replace(SMALL, held=ALMOST)) == []
    assert said_of_reading(small=replace(SMALL, count=99)) == []


ANSWERED = Answered(100, 12 * MIB, WORTH)


def test_requests_that_the_cache_answered() -> None:
    (finding,) = said_of_reading(answered=ANSWERED)
    assert finding == Finding(
        "note",
        "100 requests for 12.0 MiB that the client had in its cache took 5.00 ms of 100 ms.",
        "Nothing was fetched for them: each went from the kernel to cvmfs2 and back. A faster line "
        "or a nearer server would not help; pages that stay in the kernel's page cache would.",
    )


def test_requests_that_the_cache_answered_are_told_once_and_if_worth_it() -> None:
    assert said_of_reading(answered=replace(ANSWERED, count=99)) == []
    assert said_of_reading(answered=replace(ANSWERED, held=ALMOST)) == []
    (finding,) = said_of_reading(answered=ANSWERED, small=SMALL)
    assert finding.headline.startswith("10,240 requests")


AGAIN = ReadAgain(120 * MIB, 80 * MIB, WORTH, "/cvmfs/m.bin", 3.0, 120 * MIB, 60 * MIB)


def test_what_requests_brought_again() -> None:
    (finding,) = said_of_reading(again=AGAIN)
    assert finding == Finding(
        "note",
        "80.0 MiB of 120 MiB that requests brought had been brought before: 5.00 ms of 100 ms "
        "without fetches.",
        "/cvmfs/m.bin was brought 3.0 times. The kernel had dropped its pages in between: the "
        "memory limit of the command's cgroup, or the machine's memory, is too small for them. A "
        "higher limit would help, or reading the file once.",
    )


def test_why_it_was_brought_again() -> None:
    (direct,) = said_of_reading(again=replace(AGAIN, inserted_bytes=60 * MIB - 1))
    assert "O_DIRECT" in direct.meaning and "memory limit" not in direct.meaning
    other = replace(AGAIN, path_asked_bytes=40 * MIB, inserted_bytes=20 * MIB)
    (limited,) = said_of_reading(again=other)  # the other 80 MiB are of files read once
    assert "memory limit" in limited.meaning and "O_DIRECT" not in limited.meaning
    meanings = [
        found.meaning
        for found in said_of_reading((incident("remount"),), again=AGAIN)
        if "brought before" in found.headline
    ]
    assert meanings == [
        "/cvmfs/m.bin was brought 3.0 times. A remount or reload of the client in between made the "
        "kernel drop its pages."
    ]


@pytest.mark.parametrize(
    "change", [{"held": ALMOST}, {"again_bytes": 12 * MIB - 1}, {"again_bytes": MIB - 1}]
)
def test_a_little_that_is_brought_again_is_not_told(change: dict[str, Any]) -> None:
    assert said_of_reading(again=replace(AGAIN, **change)) == []


UNREAD = Unread(10, 40 * MIB, 10 * MIB, WORTH)


def test_more_fetched_than_read() -> None:
    (finding,) = said(unread=UNREAD)
    assert finding == Finding(
        "note",
        "40.0 MiB were fetched, and 10.0 MiB of these files were read: 5.00 ms of 100 ms.",
        "A fetch brings a whole chunk, or a whole file that is not chunked. The program can read "
        "what lies together; who publishes the files can make the chunks smaller.",
    )
    assert said(unread=replace(UNREAD, held=ALMOST)) == []
    assert said(unread=replace(UNREAD, asked_bytes=10 * MIB + 1)) == []
    assert said(unread=replace(UNREAD, fetched_bytes=16 * MIB - 1, asked_bytes=0)) == []


SHARED = SharedFiles(1, 6, "/cvmfs/m.bin", 240 * MIB, 40 * MIB, WORTH)


def test_processes_that_wait_for_one_file() -> None:
    (finding,) = said(shared=SHARED)
    assert finding == Finding(
        "note",
        "6 processes read the same file, and waited for that 5.00 ms of 100 ms that all threads "
        "lived.",
        "It is /cvmfs/m.bin. Requests brought 40.0 MiB of the 240 MiB that they read: each waited "
        "for the same. More processes do not make that faster; loading the files before forking "
        "spares the others the wait, and processes that begin at different places have several "
        "chunks fetched at once.",
    )


def test_processes_that_wait_for_several_files() -> None:
    (finding,) = said(shared=replace(SHARED, files=12, read_bytes=80 * MIB - 1))
    assert finding.headline.startswith("6 processes read the same 12 files, and waited ")
    assert finding.meaning == (
        "Most of it is /cvmfs/m.bin. Requests brought 40.0 MiB. A process that loads the files "
        "before it forks spares the others that."
    )


def test_processes_that_hardly_wait_are_not_told() -> None:
    assert said(shared=replace(SHARED, held=Held(5 * MS, 5 * MS - 1))) == []
    assert said(shared=replace(SHARED, processes=1)) == []


HANDLE = OneHandle("/cvmfs/m.bin", 300, 10, 1.0, WORTH)


def test_threads_that_share_an_open_file() -> None:
    (finding,) = said(one_handle=HANDLE)
    assert finding == Finding(
        "note",
        "300 threads read through one open file, for which cvmfs2 fetched 10 chunks one at a time: "
        "5.00 ms of 100 ms.",
        "It is /cvmfs/m.bin. cvmfs2 holds a lock of the open file while it fetches a chunk for it. "
        "Threads that each open the file have chunks fetched at once.",
    )


@pytest.mark.parametrize("change", [{"held": ALMOST}, {"fetches": 2}, {"mean_at_once": 1.1}])
def test_threads_that_do_not_wait_for_each_other_are_not_told(change: dict[str, Any]) -> None:
    assert said(one_handle=replace(HANDLE, **change)) == []


NAMES = Names(lookups=60, not_found=0, opens=30, opened_files=20, others=10, held=WORTH)


def test_requests_for_names() -> None:
    (finding,) = said(names=NAMES)
    assert finding == Finding(
        "note",
        "100 requests for names and attributes took 5.00 ms of 100 ms without fetches of files, "
        "50.0 µs apiece.",
        "60 lookups, 30 opens of 20 files. Fewer files, or fewer directories to search for them "
        "(sys.path, PATH, LD_LIBRARY_PATH), would help.",
    )
    (failing,) = said(names=replace(NAMES, not_found=50))
    assert failing.meaning.startswith("60 lookups (50 found nothing), 30 opens of 20 files. ")
    assert said(names=replace(NAMES, others=9)) == []
    assert said(names=replace(NAMES, held=ALMOST)) == []


def test_opening_the_same_files_again_and_again() -> None:
    again = Names(lookups=39, not_found=0, opens=61, opened_files=20, others=0, held=WORTH)
    (finding,) = said(names=again)
    assert finding.meaning == (
        "39 lookups, 61 opens of 20 files. The program opens the same files again and again: it "
        "can keep them open."
    )
    for other in (replace(again, opened_files=21), replace(again, lookups=61)):
        (finding,) = said(names=other)
        assert "Fewer files" in finding.meaning


CALLS = ReadCalls(1000, 1000 * 16 * KIB, 5 * MS)


def test_small_reads_of_what_is_in_memory() -> None:
    (finding,) = said(read_calls=CALLS)
    assert finding == Finding(
        "note",
        "1,000 reads of 16.0 KiB on average, of data in memory, took 5.00 ms of 100 ms that all "
        "threads lived.",
        "5.00 µs apiece, on the CPU. The program can read in larger pieces, or map the file.",
    )
    assert said(read_calls=replace(CALLS, count=999, bytes=0)) == []
    assert said(read_calls=replace(CALLS, bytes=CALLS.bytes + 1)) == []
    assert said(read_calls=replace(CALLS, ns=5 * MS - 1)) == []
