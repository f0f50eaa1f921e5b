"""Ways in which the command used its files that cost it time, and who can change them."""

from __future__ import annotations

from collections.abc import Iterator

from ..numbers.held import Held
from ..numbers.patterns import Names
from ..numbers.reading import PAGE_BYTES, SMALL_BYTES, ReadAgain, SmallRequests
from ..numbers.shared_files import SharedFiles
from ..numbers.statistics import Statistics
from ..words import duration, plural, size
from .finding import ONE_AT_A_TIME, WORTH, Finding, matters

#: fewer are not called many: requests, files, reads
_MANY_REQUESTS, _MANY_FILES, _MANY_READS = 100, 10, 1000
#: a file up to this size costs what its round trip costs
_SMALL_FILE_BYTES = 128 << 10
#: what the kernel reads ahead in one request unless it is set otherwise
_READAHEAD_BYTES = 128 << 10
_LEAST_AGAIN_BYTES, _LEAST_UNREAD_BYTES = 1 << 20, 16 << 20
#: opens of each file, from which on they are too many
_OPENED_AGAIN = 3


def is_worth(s: Statistics, held: Held) -> bool:
    """Whether something held enough of the command's wall time to be said."""
    return matters(s, held.wall_ns)


def _threads_waited(s: Statistics, held: Held) -> bool:
    return 0 < held.threads_ns >= WORTH * s.command_time.threads_ns


def _of_wall(s: Statistics, held: Held) -> str:
    return f"{duration(held.wall_ns)} of {duration(s.command_time.wall_ns)}"


def many_small_files(s: Statistics) -> Iterator[Finding]:
    """Say that many small files were fetched one by one."""
    files = s.patterns.whole_files
    is_many = files.count >= _MANY_FILES and files.median_bytes <= _SMALL_FILE_BYTES
    if not is_many or not is_worth(s, files.held):
        return
    in_turn = files.mean_at_once < ONE_AT_A_TIME
    how = "one at a time" if in_turn else f"{files.mean_at_once:.1f} at a time on average"
    after = ", and the next one only after that" if in_turn else ""
    yield Finding(
        "note",
        f"{files.count:,} files of {size(files.median_bytes)} (median) were fetched {how}: "
        f"{_of_wall(s, files.held)}.",
        f"Each took {duration(files.each_ns)}, most of it whatever its size: a file that is not "
        f"chunked is fetched whole when it is opened{after}. Their number is what costs. Who "
        "publishes them can pack them into one file (a squashfs image, an archive; Python imports "
        "from a zip), which comes in few fetches.",
        files.held.wall_ns,
    )


def small_requests(s: Statistics) -> Iterator[Finding]:
    """Say that the kernel asked for a file in small pieces, and what that cost without fetches."""
    small = s.patterns.reading.small
    if not _is_told(s):
        return
    average = "each" if small.bytes == small.count * PAGE_BYTES else "on average"
    yield Finding(
        "note",
        f"{small.count:,} requests of {size(small.bytes / small.count)} {average} took "
        f"{_of_wall(s, small.held)} without fetches, {_each(small.held.threads_ns, small.count)}.",
        _why_small(small),
        small.held.wall_ns,
    )


def _is_told(s: Statistics) -> bool:
    small = s.patterns.reading.small
    return small.count >= _MANY_REQUESTS and is_worth(s, small.held)


def _why_small(small: SmallRequests) -> str:
    if small.ordered < small.count / 2:
        return (
            "They lie scattered over the file, so nothing is read ahead. The program can read "
            "neighbouring parts together, or in the order of the file."
        )
    large = plural(-(-small.bytes // _READAHEAD_BYTES), "request")
    return (
        "They follow one another in the file, and yet nothing was read ahead: the program advised "
        "against it (MADV_RANDOM, POSIX_FADV_RANDOM), or the mount's read_ahead_kb is small. With "
        f"readahead the same bytes take {large} of {size(_READAHEAD_BYTES)}: leave out the advice, "
        "or read the file once in order before."
    )


def _each(ns: int, count: int) -> str:
    return f"{duration(ns / max(count, 1))} apiece"


def answered_from_cache(s: Statistics) -> Iterator[Finding]:
    """Say what requests took for which nothing had to be fetched, unless they were too small."""
    answered = s.patterns.reading.answered
    if answered.count < _MANY_REQUESTS or not is_worth(s, answered.held) or _is_told(s):
        return
    yield Finding(
        "note",
        f"{answered.count:,} requests for {size(answered.bytes)} that the client had in its cache "
        f"took {_of_wall(s, answered.held)}.",
        "Nothing was fetched for them: each went from the kernel to cvmfs2 and back. A faster line "
        "or a nearer server would not help; pages that stay in the kernel's page cache would.",
        answered.held.wall_ns,
    )


def read_again(s: Statistics) -> Iterator[Finding]:
    """Say that requests brought the same bytes more than once, and why as far as is known."""
    again = s.patterns.reading.again
    enough = max(_LEAST_AGAIN_BYTES, again.asked_bytes // 10)
    if again.again_bytes < enough or not is_worth(s, again.held):
        return
    yield Finding(
        "note",
        f"{size(again.again_bytes)} of {size(again.asked_bytes)} that requests brought had been "
        f"brought before: {_of_wall(s, again.held)} without fetches.",
        f"{again.path} was brought {again.times:.1f} times. {_why_again(s, again)}",
        again.held.wall_ns,
    )


def _why_again(s: Statistics, again: ReadAgain) -> str:
    if again.inserted_bytes < again.path_asked_bytes / 2:
        return (
            "Its pages were not kept in the kernel's page cache: it is read with O_DIRECT, or the "
            "client asked for direct I/O."
        )
    if any(incident["kind"] in ("remount", "reload") for incident in s.incidents):
        return "A remount or reload of the client in between made the kernel drop its pages."
    return (
        "The kernel had dropped its pages in between: the memory limit of the command's cgroup, or "
        "the machine's memory, is too small for them. A higher limit would help, or reading the "
        "file once."
    )


def unread(s: Statistics) -> Iterator[Finding]:
    """Say that far more was fetched than was asked for."""
    found = s.patterns.unread
    enough = max(_LEAST_UNREAD_BYTES, 4 * found.asked_bytes)
    if found.fetched_bytes < enough or not is_worth(s, found.held):
        return
    yield Finding(
        "note",
        f"{size(found.fetched_bytes)} were fetched, and {size(found.asked_bytes)} of these files "
        f"were read: {_of_wall(s, found.held)}.",
        "A fetch brings a whole chunk, or a whole file that is not chunked. The program can read "
        "what lies together; who publishes the files can make the chunks smaller.",
        found.held.wall_ns,
    )


def shared_files(s: Statistics) -> Iterator[Finding]:
    """Say that several processes waited for the same files."""
    shared, threads_ns = s.patterns.shared, s.command_time.threads_ns
    if shared.processes < 2 or not _threads_waited(s, shared.held):
        return
    files, which = "the same file", f"It is {shared.path}."
    if shared.files > 1:
        files, which = f"the same {shared.files:,} files", f"Most of it is {shared.path}."
    waited = f"{duration(shared.held.threads_ns)} of {duration(threads_ns)} that all threads lived"
    yield Finding(
        "note",
        f"{shared.processes:,} processes read {files}, and waited for that {waited}.",
        f"{which} {_how_shared(shared)}",
        shared.held.wall_ns,
    )


def _how_shared(shared: SharedFiles) -> str:
    brought = f"Requests brought {size(shared.asked_bytes)}"
    if shared.read_bytes < 2 * shared.asked_bytes:
        return f"{brought}. A process that loads the files before it forks spares the others that."
    return (
        f"{brought} of the {size(shared.read_bytes)} that they read: each waited for the same. "
        "More processes do not make that faster; loading the files before forking spares the "
        "others the wait, and processes that begin at different places have several chunks "
        "fetched at once."
    )


def one_handle(s: Statistics) -> Iterator[Finding]:
    """Say that threads waited for each other's fetches through one open file."""
    found = s.patterns.one_handle
    if found is None or found.fetches < 3 or found.mean_at_once >= ONE_AT_A_TIME:
        return
    if not is_worth(s, found.held):
        return
    yield Finding(
        "note",
        f"{found.threads:,} threads read through one open file, for which cvmfs2 fetched "
        f"{found.fetches:,} chunks one at a time: {_of_wall(s, found.held)}.",
        f"It is {found.path}. cvmfs2 holds a lock of the open file while it fetches a chunk for "
        "it. Threads that each open the file have chunks fetched at once.",
        found.held.wall_ns,
    )


def names(s: Statistics) -> Iterator[Finding]:
    """Say what requests for names and attributes took."""
    asked = s.patterns.names
    if asked.count < _MANY_REQUESTS or not is_worth(s, asked.held):
        return
    nothing = f" ({asked.not_found:,} found nothing)" if asked.not_found else ""
    yield Finding(
        "note",
        f"{asked.count:,} requests for names and attributes took {_of_wall(s, asked.held)} without "
        f"fetches of files, {_each(asked.held.threads_ns, asked.count)}.",
        f"{plural(asked.lookups, 'lookup')}{nothing}, {plural(asked.opens, 'open')} of "
        f"{plural(asked.opened_files, 'file')}. {_fewer_names(asked)}",
        asked.held.wall_ns,
    )


def _fewer_names(asked: Names) -> str:
    if asked.opens > max(asked.lookups, _OPENED_AGAIN * asked.opened_files):
        return "The program opens the same files again and again: it can keep them open."
    return (
        "Fewer files, or fewer directories to search for them (sys.path, PATH, LD_LIBRARY_PATH), "
        "would help."
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
        f"{_each(calls.ns, calls.count)}, on the CPU. The program can read in larger "
        "pieces, or map the file.",
    )
