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
from cvmprof.tests.reports.rows import NO_PATTERNS, NO_TIME, command_time, spoken
from cvmprof.tests.reports.synthetic import MIB, MS

KIB = 1 << 10
WORTH = Held(5 * MS, 5 * MS)
ALMOST = Held(5 * MS - 1, 5 * MS)
#: what the terminal shows of a finding's meaning
LONGEST_MEANING = 600


def said(**changes: Any) -> list[Finding]:
    """Return what is said of a quiet run with these patterns."""
    return spoken(patterns=replace(NO_PATTERNS, **changes))


def said_of_reading(**changes: Any) -> list[Finding]:
    reading = replace(NO_PATTERNS.reading, **changes)
    return spoken(patterns=replace(NO_PATTERNS, reading=reading))


SMALL_FILES = WholeFiles(501, 3006, 6, 20 * MS, 19 * MS, MS, 1.0, WORTH)
INSERTIONS = {"event": "page-cache insertion", "family": "raw", "reason": ""}
NO_INSERTIONS = {**INSERTIONS, "family": "none"}


def test_many_small_files() -> None:
    (finding,) = said(small_files=SMALL_FILES)
    assert finding == Finding(
        "note",
        "501 files of 6 B (median) were fetched one at a time: 5.00 ms of 100 ms.",
        "Each took 20.0 ms, 19.0 ms of it before its first byte came: a file that is not chunked "
        "is fetched whole when it is opened, and the next one only after that. Their number is "
        "what costs. Who publishes them can pack them into one file (a squashfs image, an archive; "
        "Python imports from a zip), which comes in few fetches. The program can open several at "
        "once.",
    )


def test_small_files_of_which_the_bytes_take_the_time_are_not_said() -> None:
    assert said(small_files=replace(SMALL_FILES, before_ns=10 * MS, transfer_ns=10 * MS)) == []
    assert said(small_files=replace(SMALL_FILES, before_ns=10 * MS + 1, transfer_ns=10 * MS)) != []
    (unseen,) = said(small_files=replace(SMALL_FILES, before_ns=None, transfer_ns=None))
    assert unseen.meaning.startswith("Each took 20.0 ms: a file ")
    assert "number" not in unseen.meaning


def test_small_files_fetched_at_once() -> None:
    (finding,) = said(small_files=replace(SMALL_FILES, mean_at_once=3.25))
    assert "were fetched 3.2 at a time on average: " in finding.headline
    assert "the next one" not in finding.meaning and "at once" not in finding.meaning


@pytest.mark.parametrize("change", [{"held": ALMOST}, {"count": 9}])
def test_files_that_are_few_or_quick_are_not_told(change: dict[str, Any]) -> None:
    assert said(small_files=replace(SMALL_FILES, **change)) == []
    assert len(said(small_files=replace(SMALL_FILES, count=10))) == 1
    assert said(whole_files=SMALL_FILES) == []


SMALL = SmallRequests(10_240, 40 * MIB, 1, 10_239, 0, 10_240, 40 * MIB, Held(50 * MS, 50 * MS))
BY_READ = replace(SMALL, by_fault=0)


def test_small_requests_in_order() -> None:
    (finding,) = said_of_reading(small=SMALL)
    assert finding == Finding(
        "note",
        "10,240 requests of 4.00 KiB each took 50.0 ms of 100 ms without fetches, copying "
        "included, 4.88 µs apiece.",
        "They follow one another in the file, and yet nothing was read ahead: the program advised "
        "against it (MADV_RANDOM, POSIX_FADV_RANDOM), or the mount's read_ahead_kb is small. With "
        "readahead the same bytes take 320 requests of 128 KiB: leave out the advice, or read the "
        "file once in order before.",
    )


def test_small_requests_here_and_there() -> None:
    (finding,) = said_of_reading(small=replace(BY_READ, ordered=5119, files=2, bytes=80 * MIB))
    assert finding.headline.startswith("10,240 requests of 8.00 KiB on average took ")
    assert finding.meaning == (
        "They lie scattered over 2 files, so nothing is read ahead. The program can read "
        "neighbouring parts together, or in the order of the file."
    )
    (faults,) = said_of_reading(small=replace(SMALL, ordered=5119))
    assert faults.meaning == (
        "They lie scattered over a mapped file. A page fault brings 128 KiB around it unless the "
        "program advised against that (MADV_RANDOM), or the mount's read_ahead_kb is small. "
        "Without the advice, neighbouring pages come together."
    )


def test_small_requests_backwards() -> None:
    backwards = replace(BY_READ, ordered=0, backwards=5120)
    (finding,) = said_of_reading(small=backwards)
    assert finding.meaning == (
        "They go backwards through the file, and the kernel reads ahead only forwards. The program "
        "can read in larger pieces, or in the order of the file."
    )
    (faults,) = said_of_reading(small=replace(backwards, by_fault=10_240))
    assert faults.meaning.startswith("They go backwards through a mapped file. A page fault ")
    (scattered,) = said_of_reading(small=replace(backwards, backwards=5119))
    assert scattered.meaning.startswith("They lie scattered over 1 file, ")


def test_small_requests_that_bypass_the_page_cache() -> None:
    direct = replace(BY_READ, inserted_bytes=20 * MIB - 1)
    (finding,) = said_of_reading(small=direct)
    assert finding.meaning == (
        "They bypassed the kernel's page cache (O_DIRECT, or the client asked for direct I/O), so "
        "each read of the program is a request of its size. The program can read in larger pieces, "
        "or without O_DIRECT."
    )
    for other in (replace(direct, inserted_bytes=20 * MIB), replace(direct, by_fault=5121)):
        (kept,) = said_of_reading(small=other)
        assert kept.meaning.startswith("They follow one another in the file, ")


def test_the_page_cache_is_not_bypassed_where_nothing_shows_what_it_was_given() -> None:
    small = replace(BY_READ, inserted_bytes=0)
    reading = replace(NO_PATTERNS.reading, small=small)
    for probe, bypassed in ((INSERTIONS, True), (NO_INSERTIONS, False)):
        found = spoken(patterns=replace(NO_PATTERNS, reading=reading), probes=(probe,))
        assert [each.meaning.startswith("They bypassed ") for each in found] == [bypassed]


def test_small_requests_of_many_files() -> None:
    (finding,) = said_of_reading(small=replace(BY_READ, files=5121))
    assert finding.meaning == (
        "They are of 5,121 files, so there was little to read ahead in each. Fewer and larger "
        "files would help."
    )
    (few,) = said_of_reading(small=replace(BY_READ, files=5120))
    assert "files" not in few.meaning


def test_few_or_quick_small_requests_are_not_told() -> None:
    assert said_of_reading(small=replace(SMALL, held=ALMOST)) == []
    assert said_of_reading(small=replace(SMALL, count=99)) == []


ANSWERED = Answered(100, 12 * MIB, WORTH)


def test_requests_that_the_cache_answered() -> None:
    (finding,) = said_of_reading(answered=ANSWERED)
    assert finding == Finding(
        "note",
        "100 requests for 12.0 MiB needed no fetch, and took 5.00 ms of 100 ms.",
        "The client had that in its cache: each went from the kernel to cvmfs2 and back, 50.0 µs "
        "apiece. A faster line or a nearer server would not help. Fewer would, or memory in which "
        "the kernel keeps the pages from one run to the next.",
    )


def test_what_makes_requests_faster_that_the_cache_answered() -> None:
    reading = replace(NO_PATTERNS.reading, answered=ANSWERED)
    patterns = replace(NO_PATTERNS, reading=reading)
    for read_ns, faster in (
        (5 * MS // 2, "Fewer"),
        (5 * MS // 2 + 1, "A faster disk for that cache"),
    ):
        time = command_time(100, cache_read=read_ns, cpu=100 * MS - read_ns)
        (meaning,) = (each.meaning for each in spoken(patterns=patterns, command_time=time)
                      if "needed no fetch" in each.headline)  # fmt: skip
        assert f" would not help. {faster} would, or memory " in meaning


@pytest.mark.parametrize(
    ("own", "others", "since"),
    [
        (1, 0, ", some of it fetched for an earlier request of the command"),
        (0, 1, ", some of it fetched for an earlier request of another process"),
        (1, 1, ", some of it fetched for an earlier request of the command or of another process"),
        (0, 0, ""),
    ],
)  # fmt: skip
def test_for_whom_what_the_cache_answered_was_fetched(own: int, others: int, since: str) -> None:
    found = replace(ANSWERED, fetched_before=own, fetched_for_others=others)
    (finding,) = said_of_reading(answered=found)
    assert finding.meaning.startswith(f"The client had that in its cache{since}: each went ")


def test_requests_that_the_cache_answered_are_told_once_and_if_worth_it() -> None:
    assert said_of_reading(answered=replace(ANSWERED, count=99)) == []
    assert said_of_reading(answered=replace(ANSWERED, held=ALMOST)) == []
    (finding,) = said_of_reading(answered=ANSWERED, small=SMALL)
    assert finding.headline.startswith("10,240 requests")
    (finding,) = said_of_reading(answered=ANSWERED, again=AGAIN)
    assert "had been brought before" in finding.headline
    assert len(said_of_reading(answered=replace(ANSWERED, held=Held(10 * MS, 0)), again=AGAIN)) == 2


AGAIN = ReadAgain(120 * MIB, 80 * MIB, WORTH, "/cvmfs/m.bin", 3.0, 120 * MIB, 60 * MIB)


REASONS = (
    "too little memory, in the command's cgroup or the machine; somebody who emptied the page "
    "cache; the program's own advice (POSIX_FADV_DONTNEED); or CVMFS_KCACHE_TIMEOUT=0"
)
TO_TRY = (
    "During such a run, workingset_refault_file in /proc/vmstat grows where memory is too small, "
    "drop_pagecache where somebody emptied the cache; strace -e fadvise64 shows the advice. "
    "Reading the file once avoids all of them."
)


def test_what_requests_brought_again() -> None:
    (finding,) = said_of_reading(again=AGAIN)
    assert finding == Finding(
        "note",
        "80.0 MiB of 120 MiB that requests brought had been brought before: 5.00 ms of 100 ms "
        "without fetches, copying included.",
        "/cvmfs/m.bin was brought 3.0 times. The kernel had dropped its pages in between: "
        f"{REASONS}. {TO_TRY}",
    )


def test_why_it_was_brought_again() -> None:
    (direct,) = said_of_reading(again=replace(AGAIN, inserted_bytes=60 * MIB - 1))
    assert direct.meaning == (
        "/cvmfs/m.bin was brought 3.0 times. Its pages were not kept in the kernel's page cache: "
        "it is read with O_DIRECT, or the client asked for direct I/O. Reading it once, or without "
        "O_DIRECT, avoids that."
    )
    other = replace(AGAIN, path_asked_bytes=40 * MIB, inserted_bytes=20 * MIB)
    (dropped,) = said_of_reading(again=other)  # the other 80 MiB are of files read once
    assert "memory is too small" in dropped.meaning and "O_DIRECT" not in dropped.meaning
    (renewed,) = said_of_reading(again=replace(AGAIN, renewed=True))
    assert renewed.meaning == (
        "/cvmfs/m.bin was brought 3.0 times. The kernel had dropped its pages in between: a "
        f"remount or reload of the client, which lay in between; {REASONS}. {TO_TRY}"
    )
    assert len(renewed.meaning) <= LONGEST_MEANING


def test_why_it_was_brought_again_where_nothing_shows_what_the_page_cache_was_given() -> None:
    reading = replace(NO_PATTERNS.reading, again=replace(AGAIN, inserted_bytes=0))
    (found,) = (
        each
        for each in spoken(patterns=replace(NO_PATTERNS, reading=reading), probes=(NO_INSERTIONS,))
        if "brought before" in each.headline
    )
    assert found.meaning == (
        f"/cvmfs/m.bin was brought 3.0 times. Why is not known: {REASONS}, or it is read with "
        f"O_DIRECT. {TO_TRY}"
    )


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
        "40.0 MiB were fetched, and requests asked for 10.0 MiB of these files: 5.00 ms of 100 ms.",
        "A fetch brings a whole chunk, or a whole file that is not chunked. The program can read "
        "what lies together; who publishes the files can chunk them, or make the chunks smaller.",
    )
    assert said(unread=replace(UNREAD, held=ALMOST)) == []
    assert said(unread=replace(UNREAD, asked_bytes=10 * MIB + 1)) == []
    assert said(unread=replace(UNREAD, fetched_bytes=16 * MIB - 1, asked_bytes=0)) == []


SHARED = SharedFiles(1, 6, "/cvmfs/m.bin", 240 * MIB, 40 * MIB, 2, WORTH)


def test_processes_that_wait_for_one_file() -> None:
    (finding,) = said(shared=SHARED)
    assert finding == Finding(
        "note",
        "6 processes read the same file, and waited for that 5.00 ms of 100 ms that all threads "
        "lived.",
        "It is /cvmfs/m.bin. Requests brought 40.0 MiB of the 240 MiB that they read: each waited "
        "for the same. More processes do not make that faster. One process that loads the files "
        "before the others start spares those the wait, as long as memory holds the pages. "
        "Processes that begin at different places have several chunks fetched at once.",
    )
    (whole,) = said(shared=replace(SHARED, chunks=1))
    assert whole.meaning.endswith(" as long as memory holds the pages.")


def test_processes_that_wait_for_several_files() -> None:
    (finding,) = said(shared=replace(SHARED, files=12, read_bytes=80 * MIB - 1))
    assert finding.headline.startswith("6 processes read the same 12 files, and waited ")
    assert finding.meaning == (
        "Most of it is /cvmfs/m.bin. Requests brought 40.0 MiB. One process that loads the files "
        "before the others start spares those the wait, as long as memory holds the pages."
    )


def test_processes_that_hardly_wait_are_not_told() -> None:
    assert said(shared=replace(SHARED, held=Held(5 * MS, 5 * MS - 1))) == []
    assert said(shared=replace(SHARED, processes=1)) == []


HANDLE = OneHandle("/cvmfs/m.bin", 300, 10, 1.0, WORTH, 5 * MS // 4)


def test_threads_that_share_an_open_file() -> None:
    (finding,) = said(one_handle=HANDLE)
    assert finding == Finding(
        "note",
        "300 threads read through one open file, for which cvmfs2 fetched 10 chunks one at a time: "
        "5.00 ms of 100 ms.",
        "It is /cvmfs/m.bin. cvmfs2 holds a lock of the open file while it fetches a chunk for it. "
        "Threads that each open the file have chunks fetched at once.",
    )


@pytest.mark.parametrize(
    "change",
    [{"held": ALMOST}, {"fetches": 2}, {"mean_at_once": 1.1}, {"locked_ns": 5 * MS // 4 - 1}],
)
def test_threads_that_do_not_wait_for_each_other_are_not_told(change: dict[str, Any]) -> None:
    assert said(one_handle=replace(HANDLE, **change)) == []


NAMES = Names(
    lookups=60, not_found=0, opens=30, opened_files=20, others={"GETATTR": 7, "STATFS": 3},
    others_of=30, held=WORTH, catalogs=NO_TIME,
)  # fmt: skip


FEWER_FILES = "Fewer files would help: packed into one, or those that are needed in one directory."


def test_names_that_are_searched_for() -> None:
    (failing,) = said(names=replace(NAMES, not_found=15, others={"GETATTR": 10}))
    assert failing.meaning == (
        "60 lookups (15 found nothing), 30 opens of 20 files, 10 for attributes (GETATTR). Fewer "
        "directories to search for files (sys.path, PATH, LD_LIBRARY_PATH) would help, or fewer "
        "files."
    )
    (found,) = said(names=replace(NAMES, not_found=14))
    assert found.meaning.endswith(FEWER_FILES)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("READLINK",
         "CVMFS_CACHE_SYMLINKS=yes lets the kernel remember where symbolic links lead."),
        ("STATFS",
         "Who asks for free space again and again (statfs, df, an IDE) can ask less; "
         "CVMFS_STATFS_CACHE_TIMEOUT lets the client remember the answer."),
        ("GETXATTR",
         "ls -l, cp -a and backups ask for these of each file (access lists, security labels), and "
         "the kernel does not remember them: ask for less, or for fewer files."),
        ("GETATTR", "The program asks for them again and again: it can ask less."),
    ],
)  # fmt: skip
def test_requests_that_are_mostly_of_another_kind(name: str, advice: str) -> None:
    (finding,) = said(names=replace(NAMES, others={name: 91}))
    assert finding.meaning.endswith(f"({name}). {advice}")
    (other,) = said(names=replace(NAMES, others={name: 90}))
    assert other.meaning.endswith(FEWER_FILES)


def test_attributes_of_many_files_each_once() -> None:
    """More than three times of each is again and again."""
    for of, again in ((30, True), (31, False)):
        (finding,) = said(names=replace(NAMES, others={"GETATTR": 91}, others_of=of))
        assert ("again and again" in finding.meaning) is again
        assert finding.meaning.endswith(FEWER_FILES) is not again


def test_names_that_wait_for_catalogs() -> None:
    (finding,) = said(names=replace(NAMES, catalogs=Held(0, 5 * MS // 2 + 1)))
    assert finding.meaning.endswith(
        ". Most of that waited for catalogs, which list what is in a directory, to be fetched: the "
        "number of requests matters less."
    )
    (other,) = said(names=replace(NAMES, catalogs=Held(0, 5 * MS // 2)))
    assert "catalogs" not in other.meaning


def test_requests_for_names() -> None:
    (finding,) = said(names=NAMES)
    assert finding == Finding(
        "note",
        "100 requests for names and attributes took 5.00 ms of 100 ms without fetches of files, "
        "50.0 µs apiece.",
        "60 lookups, 30 opens of 20 files, 7 for attributes (GETATTR), 3 for free space (STATFS). "
        f"{FEWER_FILES}",
    )
    assert said(names=replace(NAMES, others={"GETATTR": 9})) == []
    (listed,) = said(names=replace(NAMES, lookups=0, opens=0, others={"READDIR": 100}))
    assert listed.meaning.startswith("100 to list a directory (READDIR). ")
    assert said(names=replace(NAMES, held=ALMOST)) == []


def test_opening_the_same_files_again_and_again() -> None:
    again = replace(NAMES, lookups=39, opens=61, others={})
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
        "5.00 µs apiece. The program can read in larger pieces, or map the file.",
    )
    assert said(read_calls=replace(CALLS, count=999, bytes=0)) == []
    assert said(read_calls=replace(CALLS, bytes=CALLS.bytes + 1)) == []
    assert said(read_calls=replace(CALLS, ns=5 * MS - 1)) == []
