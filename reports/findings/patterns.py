"""Ways in which the command used its files that cost it time, and who can change them."""

from __future__ import annotations

from collections.abc import Iterator

from ..numbers.patterns import Names, WholeFiles
from ..numbers.shared_files import SharedFiles
from ..numbers.statistics import Statistics
from ..words import duration, plural, size
from .finding import ONE_AT_A_TIME, Finding
from .worth import MANY_REQUESTS, each_took, is_worth, of_wall, threads_waited

#: fewer files are not called many
_MANY_FILES = 10
_LEAST_UNREAD_BYTES = 16 << 20
#: share of what threads wait for an open file from which on they wait for each other
_LOCKED = 0.25
#: opens of each file, or requests for its attributes, from which on they are too many
_OPENED_AGAIN = 3
#: other requests for names, in words, by the name of the opcode
_OTHERS = {
    "GETATTR": "for attributes", "STATX": "for attributes", "READLINK": "for symbolic links",
    "STATFS": "for free space", "GETXATTR": "for an extended attribute",
    "LISTXATTR": "for extended attributes", "OPENDIR": "to open a directory",
    "READDIR": "to list a directory", "READDIRPLUS": "to list a directory",
}  # fmt: skip
#: what saves requests for attributes, by the name of the opcode
_SAVED_BY = {
    "READLINK": "CVMFS_CACHE_SYMLINKS=yes lets the kernel remember where symbolic links lead.",
    "GETXATTR": "ls -l, cp -a and backups ask for these of each file (access lists, security "
    "labels), and the kernel does not remember them: ask for less, or for fewer files.",
    "STATFS": "Who asks for free space again and again (statfs, df, an IDE) can ask less; "
    "CVMFS_STATFS_CACHE_TIMEOUT lets the client remember the answer.",
}  # fmt: skip


def many_small_files(s: Statistics) -> Iterator[Finding]:
    """Say that many small files were fetched, unless their own bytes took most of that."""
    files = s.patterns.small_files
    if files.count < _MANY_FILES or not is_worth(s, files.held):
        return
    if files.before_ns is not None and files.before_ns <= (files.transfer_ns or 0):
        return
    in_turn = files.mean_at_once < ONE_AT_A_TIME
    how = "one at a time" if in_turn else f"{files.mean_at_once:.1f} at a time on average"
    yield Finding(
        "note",
        f"{files.count:,} files of {size(files.median_bytes)} (median) were fetched {how}: "
        f"{of_wall(s, files.held)}.",
        _why_many(files, in_turn),
        files.held.wall_ns,
    )


def _why_many(files: WholeFiles, in_turn: bool) -> str:
    before = files.before_ns
    known = "" if before is None else f", {duration(before)} of it before its first byte came"
    after = ", and the next one only after that" if in_turn else ""
    costs = "" if before is None else " Their number is what costs."
    at_once = " The program can open several at once." if in_turn else ""
    return (
        f"Each took {duration(files.each_ns)}{known}: a file that is not chunked is fetched whole "
        f"when it is opened{after}.{costs} Who publishes them can pack them into one file (a "
        "squashfs image, an archive; Python imports from a zip), which comes in few "
        f"fetches.{at_once}"
    )


def unread(s: Statistics) -> Iterator[Finding]:
    """Say that far more was fetched than was asked for."""
    found = s.patterns.unread
    enough = max(_LEAST_UNREAD_BYTES, 4 * found.asked_bytes)
    if found.fetched_bytes < enough or not is_worth(s, found.held):
        return
    yield Finding(
        "note",
        f"{size(found.fetched_bytes)} were fetched, and requests asked for "
        f"{size(found.asked_bytes)} of these files: {of_wall(s, found.held)}.",
        "A fetch brings a whole chunk, or a whole file that is not chunked. The program can read "
        "what lies together; who publishes the files can chunk them, or make the chunks smaller.",
        found.held.wall_ns,
    )


def shared_files(s: Statistics) -> Iterator[Finding]:
    """Say that several processes waited for the same files."""
    shared, threads_ns = s.patterns.shared, s.command_time.threads_ns
    if shared.processes < 2 or not threads_waited(s, shared.held):
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
    before = (
        "One process that loads the files before the others start spares those the wait, as long "
        "as memory holds the pages."
    )
    if shared.read_bytes < 2 * shared.asked_bytes:
        return f"{brought}. {before}"
    apart = (
        " Processes that begin at different places have several chunks fetched at once."
        if shared.chunks > 1
        else ""
    )
    return (
        f"{brought} of the {size(shared.read_bytes)} that they read: each waited for the same. "
        f"More processes do not make that faster. {before}{apart}"
    )


def one_handle(s: Statistics) -> Iterator[Finding]:
    """Say that threads waited for each other's fetches through one open file."""
    found = s.patterns.one_handle
    if found is None or found.fetches < 3 or found.mean_at_once >= ONE_AT_A_TIME:
        return
    if not is_worth(s, found.held) or found.locked_ns < _LOCKED * found.held.threads_ns:
        return
    yield Finding(
        "note",
        f"{found.threads:,} threads read through one open file, for which cvmfs2 fetched "
        f"{found.fetches:,} chunks one at a time: {of_wall(s, found.held)}.",
        f"It is {found.path}. cvmfs2 holds a lock of the open file while it fetches a chunk for "
        "it. Threads that each open the file have chunks fetched at once.",
        found.held.wall_ns,
    )


def names(s: Statistics) -> Iterator[Finding]:
    """Say what requests for names and attributes took."""
    asked = s.patterns.names
    if asked.count < MANY_REQUESTS or not is_worth(s, asked.held):
        return
    yield Finding(
        "note",
        f"{asked.count:,} requests for names and attributes took {of_wall(s, asked.held)} without "
        f"fetches of files, {each_took(asked.held.threads_ns, asked.count)}.",
        f"{', '.join(_kinds_of_names(asked))}. {_fewer_names(asked)}",
        asked.held.wall_ns,
    )


def _kinds_of_names(asked: Names) -> Iterator[str]:
    """The parts of the requests for names, which sum to all of them."""
    nothing = f" ({asked.not_found:,} found nothing)" if asked.not_found else ""
    if asked.lookups:
        yield f"{plural(asked.lookups, 'lookup')}{nothing}"
    if asked.opens:
        yield f"{plural(asked.opens, 'open')} of {plural(asked.opened_files, 'file')}"
    for name, count in asked.others.items():
        yield f"{count:,} {_OTHERS.get(name, 'others')} ({name})"


def _fewer_names(asked: Names) -> str:
    """What would help most of them."""
    if 2 * asked.catalogs.threads_ns > asked.held.threads_ns:
        return (
            "Most of that waited for catalogs, which list what is in a directory, to be fetched: "
            "the number of requests matters less."
        )
    if asked.opens > max(asked.lookups, _OPENED_AGAIN * asked.opened_files):
        return "The program opens the same files again and again: it can keep them open."
    name, most = next(iter(asked.others.items()), ("", 0))
    if most * 2 > asked.count and name in _SAVED_BY:
        return _SAVED_BY[name]
    if most * 2 > asked.count and most > _OPENED_AGAIN * asked.others_of:
        return "The program asks for them again and again: it can ask less."
    if asked.not_found * 4 >= asked.lookups > asked.opens:
        return (
            "Fewer directories to search for files (sys.path, PATH, LD_LIBRARY_PATH) would help, "
            "or fewer files."
        )
    return "Fewer files would help: packed into one, or those that are needed in one directory."
