"""Numbers of patterns of access, from the smallest rows that show them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cvmprof.probes import fuse
from cvmprof.reports.numbers.held import Held
from cvmprof.reports.numbers.patterns import Names, PageCache, Patterns, ReadCalls, Unread
from cvmprof.reports.numbers.reading import RequestSize, SmallRequests
from cvmprof.reports.numbers.shared_files import OneHandle, SharedFiles
from cvmprof.tests.reports.rows import (
    NO_PATTERNS,
    NO_TIME,
    download,
    fetch,
    statistics_of,
    tile,
)
from cvmprof.tests.reports.synthetic import MAIN, MIB, PID, START, Rows

PATH = "/cvmfs/m.bin"
KIB = 1 << 10
OTHER = MAIN + 1


def patterns(rows: Rows) -> Patterns:
    return statistics_of(rows).patterns


def world() -> Rows:
    """One process with two threads and one file."""
    rows = Rows()
    for tid in (MAIN, OTHER):
        rows.add("tasks", pid=PID, tid=tid, parent_pid=1, name="p", role="target", start_ns=START)
    rows.add("files", file_id=0, mount_id=0, inode=17, generation=0, path=PATH, size_bytes=8 * MIB)
    return rows


def request(rows: Rows, unique: int, opcode: int = fuse.READ, **row: Any) -> None:
    usual = {"node_id": 17, "pid": PID, "tid": MAIN, "error": 0, "end_ns": START + 1}
    usual |= {"queued_ns": START + unique}
    rows.add("fuse_requests", mount_id=0, unique=unique, opcode=opcode, **{**usual, **row})


def read(rows: Rows, unique: int, offset: int, size: int = 4 * KIB, **row: Any) -> None:
    request(rows, unique, offset_bytes=offset, size_bytes=size, **row)


def operation(rows: Rows, number: int, kind: str = "read", **row: Any) -> None:
    usual = {"start_ns": START, "end_ns": START + 1, "pid": PID, "tid": MAIN, "file_id": 0}
    rows.add("operations", op_id=number, kind=kind, **{**usual, "result": 0, **row})


def wait(rows: Rows, begin: int, end: int, tid: int = MAIN, **ids: Any) -> None:
    names = {"mount_id": 0} if "unique" in ids else {}
    tile(rows, START + begin, START + end, "cache_read", tid, **names, **ids)


def test_its_keys_are_documented(repository_root: Path) -> None:
    text = (repository_root / "docs" / "summary.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(\w+)`", text))
    rows = world()
    read(rows, 1, 0, handle=70)
    read(rows, 2, MIB, handle=70, tid=OTHER)
    wait(rows, 0, 4, unique=1)
    written = statistics_of(rows).as_json()["patterns"]
    reads = written["reading"]
    names = (
        "page_cache",
        "whole_files",
        "small_files",
        "names",
        "read_calls",
        "unread",
        "shared",
        "one_handle",
    )
    parts: list[dict[str, Any]] = [written, *(written[name] for name in names), reads]
    parts += [reads["small"], reads["answered"], reads["again"], *reads["sizes"]]
    assert {key for part in parts for key in part} <= documented


def test_a_quiet_run_has_no_pattern() -> None:
    assert patterns(world()) == NO_PATTERNS


def test_requests_by_size_with_what_was_waited_for_them() -> None:
    rows = world()
    for unique, size in ((1, 4 * KIB), (2, 68 * KIB), (3, 128 * KIB), (4, 256 * KIB)):
        read(rows, unique, 0, size)
    wait(rows, 0, 10, unique=1)
    wait(rows, 10, 30, unique=3)
    wait(rows, 20, 30, OTHER, unique=2)
    assert patterns(rows).reading.sizes == (
        RequestSize(4 * KIB, 1, 4 * KIB, Held(10, 10)),
        RequestSize(128 * KIB, 2, 196 * KIB, Held(20, 30)),
        RequestSize(256 * KIB, 1, 256 * KIB, NO_TIME),
    )


def test_small_requests_their_order_and_the_time_of_their_operations() -> None:
    rows = world()
    operation(rows, 0, "fault")
    operation(rows, 1)
    operation(rows, 2)
    read(rows, 1, 0, op_id=0)
    read(rows, 2, 4 * KIB, 16 * KIB, op_id=1)
    read(rows, 3, 20 * KIB, tid=OTHER)  # what another thread read before it does not count
    read(rows, 4, 20 * KIB, 20 * KIB, op_id=2)
    tile(rows, START, START + 3, "copy", op_id=0)
    wait(rows, 3, 10, op_id=0, unique=1)
    wait(rows, 10, 30, op_id=1, unique=2, fetch_id=0)
    wait(rows, 30, 31, op_id=2, unique=4)
    fetch(rows, START, START + 1, file_id=0)
    small = patterns(rows).reading.small
    assert small == SmallRequests(3, 24 * KIB, 1, 1, 0, 1, 0, Held(10, 10))


def test_small_requests_backwards_of_two_files_and_what_the_page_cache_was_given() -> None:
    rows = world()
    rows.add("files", file_id=1, mount_id=0, inode=18, generation=0, size_bytes=MIB)
    rows.add("files", file_id=2, mount_id=0, inode=19, generation=0, size_bytes=MIB)
    for unique, offset in ((1, 12), (2, 8), (3, 4), (4, 5)):
        read(rows, unique, offset * KIB, node_id=17 + unique // 4, size=4 * KIB)
    touched = {"granule": 0, "start_ns": 0, "bytes_read": 0, "pages_mapped": 0}
    for file_id, pages in ((0, 3), (0, 4), (1, 5), (2, 9)):
        rows.add("touches", file_id=file_id, pages_inserted=pages, **touched)
    small = patterns(rows).reading.small
    assert (small.files, small.backwards, small.ordered) == (2, 2, 0)
    assert small.inserted_bytes == 12 * 4096


def test_the_rest_of_a_file_after_large_requests_is_no_small_request() -> None:
    rows = world()
    rows.rows["files"][0]["size_bytes"] = 132 * KIB
    read(rows, 1, 0, 128 * KIB)
    read(rows, 2, 128 * KIB)
    assert patterns(rows).reading.small.count == 0
    rows.rows["files"][0]["size_bytes"] += 1
    assert patterns(rows).reading.small.count == 1
    rows.rows["files"][0]["size_bytes"] -= 1
    rows.rows["fuse_requests"][0] |= {"size_bytes": 16 * KIB, "offset_bytes": 112 * KIB}
    assert patterns(rows).reading.small.count == 2


def test_requests_for_a_small_file_are_not_small_requests() -> None:
    rows = world()
    read(rows, 1, 0)
    rows.rows["files"][0]["size_bytes"] = 16 * KIB
    assert patterns(rows).reading.small.count == 0
    rows.rows["files"][0]["size_bytes"] += 1
    assert patterns(rows).reading.small.count == 1


def test_requests_that_the_clients_cache_answered() -> None:
    rows = world()
    for unique in (1, 2, 3):
        read(rows, unique, 0)
    fetch(rows, START, START + 5, unique=1, mount_id=0)
    fetch(rows, START, START + 5, unique=3, mount_id=1)
    wait(rows, 0, 5, unique=1, fetch_id=0)
    wait(rows, 5, 9, unique=2, fetch_id=0)
    wait(rows, 9, 12, unique=3)
    answered = patterns(rows).reading.answered
    assert (answered.count, answered.bytes, answered.held) == (2, 8 * KIB, Held(3, 3))
    rows.rows["files"][0]["size_bytes"] = 7
    assert patterns(rows).reading.answered.bytes == 14


@pytest.mark.parametrize(
    ("row", "own", "others"),
    [
        ({"unique": 1}, 1, 0),
        ({"unique": 9}, 0, 1),
        ({"unique": 9, "object_hash": "b"}, 0, 0),
        ({"unique": 9, "mount_id": 1}, 0, 0),
        ({"unique": 9, "outcome": "failed"}, 0, 0),
        ({"unique": None}, 0, 0),
    ],
)
def test_for_whom_was_fetched_what_the_clients_cache_answered(
    row: dict[str, Any], own: int, others: int
) -> None:
    """Request 2 came when that fetch had ended, request 3 before."""
    rows = world()
    rows.add("chunks", file_id=0, index=0, object_hash="a", offset_bytes=0, size_bytes=MIB)
    for unique, queued in ((1, 0), (2, 5), (3, 4)):
        read(rows, unique, 0, queued_ns=START + queued)
    read(rows, 9, 0, pid=9, queued_ns=START)
    read(rows, 7, MIB, queued_ns=START + 6)  # beyond that chunk
    fetch(rows, START, None, mount_id=0, unique=1, object_hash="c", outcome=None)
    fetch(rows, START, START + 5, **{"mount_id": 0, **row})
    answered = patterns(rows).reading.answered
    assert (answered.fetched_before, answered.fetched_for_others) == (own, others)


def test_what_was_read_again() -> None:
    rows = world()
    operation(rows, 0)
    operation(rows, 1)
    read(rows, 1, 0, 8 * KIB)
    read(rows, 2, 4 * KIB, 8 * KIB, op_id=0)  # half of it again
    read(rows, 3, 8 * KIB, 8 * KIB, node_id=18, op_id=1)
    read(rows, 4, 0, 4 * KIB, error=-5)
    wait(rows, 0, 4, op_id=0)
    wait(rows, 4, 9, op_id=1)
    rows.add("touches", file_id=0, granule=0, start_ns=0, bytes_read=0, pages_mapped=0,
             pages_inserted=4)  # fmt: skip
    again = patterns(rows).reading.again
    assert (again.asked_bytes, again.again_bytes) == (24 * KIB, 4 * KIB)
    assert (again.held, again.path) == (Held(4, 4), PATH)
    assert (again.times, again.inserted_bytes) == (16 / 12, 16 * KIB)
    assert again.path_asked_bytes == 16 * KIB
    assert not again.renewed


@pytest.mark.parametrize(
    ("kind", "at", "mount", "renewed"),
    [
        ("remount", 1, 0, True), ("reload", 2, None, True), ("remount", 1, 1, False),
        ("crash", 1, 0, False), ("remount", 0, 0, False), ("remount", 3, 0, False),
    ],
)  # fmt: skip
def test_a_mount_that_was_renewed_between_reads_of_the_same(
    kind: str, at: int, mount: int | None, renewed: bool
) -> None:
    rows = world()
    read(rows, 1, 0)
    read(rows, 2, 0)
    rows.add("incidents", time_ns=START + at, kind=kind, mount_id=mount, detail="")
    assert patterns(rows).reading.again.renewed is renewed


def test_less_than_half_again_holds_no_time() -> None:
    rows = world()
    operation(rows, 0)
    read(rows, 1, 0, 8 * KIB)
    read(rows, 2, 4 * KIB + 1, 8 * KIB, op_id=0)
    wait(rows, 0, 4, op_id=0)
    assert patterns(rows).reading.again.held == NO_TIME


def test_what_lay_in_the_page_cache() -> None:
    rows = world()
    touched = {"file_id": 0, "start_ns": 0, "pages_mapped": 0, "pages_inserted": 0}
    rows.add("touches", **touched, granule=0, bytes_read=9000)  # a request brought 8 KiB of it
    rows.add("touches", **touched, granule=1, bytes_read=500)
    rows.add("touches", **touched, granule=2, bytes_read=4096)
    read(rows, 1, 0, 8 * KIB)
    read(rows, 2, 2 * MIB, 8 * KIB)
    used = 9000 + 500 + 4096
    assert patterns(rows).page_cache == PageCache(used, 500, 9000 - 8 * KIB)


def test_files_fetched_whole() -> None:
    rows = world()
    fetch(rows, START, START + 30, object_kind="file", unpacked_bytes=6)
    fetch(rows, START + 30, START + 50, object_kind="file", unpacked_bytes=9)
    fetch(rows, START, START + 50, object_kind="file", unpacked_bytes=9, outcome="failed")
    fetch(rows, START, START + 50, unpacked_bytes=MIB)
    for number, (begin, end) in enumerate(((0, 30), (30, 50), (50, 60), (60, 70))):
        wait(rows, begin, end, fetch_id=number)
    found = patterns(rows).whole_files
    assert (found.count, found.bytes, found.median_bytes, found.each_ns) == (2, 15, 8, 25)
    assert (found.mean_at_once, found.held) == (1.0, Held(50, 50))
    assert (found.before_ns, found.transfer_ns) == (None, None)
    for number, begin in enumerate((0, 30)):
        download(rows, number, START + begin, START + begin + 8, START + begin + 10 + number, None)
        rows.rows["fetches"][number]["download_id"] = number
    download(rows, 2, START, None, None, None)
    rows.rows["fetches"][2]["download_id"] = 2
    found = patterns(rows).whole_files
    assert (found.before_ns, found.transfer_ns) == (8, 2)
    assert found == patterns(rows).small_files


def test_small_files_among_big_ones_have_numbers_of_their_own() -> None:
    """Of 48 files the three big ones take longest; 128 KiB is small, a byte more is not."""
    rows = world()
    for number in range(48):
        begin, is_big = START + 100 * number, number % 16 == 0
        took = (10, 90) if is_big else (30, 32)
        download(rows, number, begin, begin + took[0], begin + took[1], None)
        fetch(rows, begin, begin + took[1], object_kind="file", download_id=number,
              unpacked_bytes=128 * KIB + is_big)  # fmt: skip
        wait(rows, 100 * number, 100 * number + took[1], fetch_id=number)
    found = patterns(rows).small_files
    assert (found.count, found.median_bytes, found.each_ns) == (45, 128 * KIB, 32)
    assert (found.before_ns, found.transfer_ns) == (30, 2)
    assert found.held == Held(45 * 32, 45 * 32)
    assert patterns(rows).whole_files.count == 48


def test_requests_for_names() -> None:
    rows = world()
    for unique, (opcode, error) in enumerate(
        ((fuse.LOOKUP, 0), (fuse.LOOKUP, -2), (fuse.LOOKUP, -5), (fuse.OPEN, -2), (3, 0), (18, 0))
    ):
        request(rows, unique, opcode, error=error)
        wait(rows, 10 * unique, 10 * unique + 10, unique=unique)
    wait(rows, 60, 70, unique=3, fetch_id=0)
    wait(rows, 70, 90, unique=3, fetch_id=1)
    fetch(rows, START, START + 5, object_kind="file", outcome="downloaded")
    fetch(rows, START, START + 5, object_kind="catalog", outcome="downloaded")
    found = patterns(rows).names
    assert found == Names(
        lookups=3, not_found=1, opens=1, opened_files=1, others={"GETATTR": 1}, others_of=1,
        held=Held(70, 70), catalogs=Held(20, 20),
    )  # fmt: skip
    assert found.count == 5


def test_reads_of_what_is_in_memory() -> None:
    rows = world()
    for kind, count in (("read", 3), ("splice", 4), ("fault", 100)):
        rows.add("hits", pid=PID, tid=MAIN, file_id=0, kind=kind, start_ns=START, end_ns=START,
                 count=count, bytes=10 * count, ns=count, max_ns=1)  # fmt: skip
    assert patterns(rows).read_calls == ReadCalls(7, 70, 7)


def test_what_was_fetched_and_not_read() -> None:
    rows = world()
    fetch(rows, START, START + 5, file_id=0, unpacked_bytes=MIB)
    fetch(rows, START, START + 5, file_id=0, unpacked_bytes=MIB, outcome="joined")
    wait(rows, 0, 5, fetch_id=0)
    wait(rows, 5, 9, fetch_id=1)
    read(rows, 1, 0, 8 * KIB)
    read(rows, 2, 4 * KIB, 8 * KIB)
    read(rows, 3, 0, 8 * KIB, node_id=18)
    assert patterns(rows).unread == Unread(1, MIB, 12 * KIB, Held(5, 5))
    operation(rows, 0, passthrough=True)
    assert patterns(rows).unread == Unread(0, 0, 0, NO_TIME)


def test_files_that_several_processes_read() -> None:
    rows = world()
    rows.add("tasks", pid=7, tid=7, parent_pid=1, name="p", role="target", start_ns=START)
    rows.add("files", file_id=1, mount_id=0, inode=18, generation=0, path="/cvmfs/other")
    operation(rows, 0, result=100)
    operation(rows, 1, "fault", pid=7, tid=7)
    operation(rows, 2, file_id=1, result=50)
    operation(rows, 3, file_id=1, pid=7, tid=7, result=-5)
    read(rows, 1, 0, op_id=0)
    read(rows, 2, 0, node_id=18, op_id=2)
    wait(rows, 0, 4, op_id=0, unique=1)
    wait(rows, 0, 5, 7, op_id=1, unique=1)
    wait(rows, 4, 9, op_id=2, unique=2)
    tile(rows, START + 9, START + 20, "copy", op_id=0)
    fetch(rows, START, START + 1, file_id=0, unique=1, mount_id=0)
    fetch(rows, START, START + 1, file_id=1, unique=2, mount_id=0)
    fetch(rows, START, START + 1, file_id=0, unique=1, mount_id=0, outcome="failed")
    assert patterns(rows).shared == SharedFiles(1, 2, PATH, 100, 4 * KIB, 1, Held(5, 9))
    operation(rows, 4, file_id=1, pid=7, tid=7, result=51)
    assert patterns(rows).shared.files == 1, "the second process found what the first had fetched"
    wait(rows, 9, 10, 7, op_id=4, unique=2)
    shared = patterns(rows).shared
    assert (shared.files, shared.path, shared.read_bytes) == (2, "/cvmfs/other", 201)


def test_hits_are_bytes_that_were_read_but_no_waits() -> None:
    rows = world()
    operation(rows, 0, result=100)
    read(rows, 1, 0, op_id=0)
    wait(rows, 0, 4, op_id=0, unique=1)
    hit = {"tid": 7, "file_id": 0, "kind": "read", "start_ns": START, "end_ns": START, "ns": 1,
           "max_ns": 1}  # fmt: skip
    rows.add("hits", pid=7, count=1, bytes=9, **hit)
    assert patterns(rows).shared.processes == 0
    operation(rows, 1, "fault", pid=7, tid=7)
    wait(rows, 0, 5, 7, op_id=1, unique=1)
    shared = patterns(rows).shared
    assert (shared.processes, shared.read_bytes) == (2, 109)


def test_threads_that_read_through_one_open_file() -> None:
    rows = world()
    read(rows, 1, 0, handle=70)
    read(rows, 2, MIB, handle=70, tid=OTHER)
    read(rows, 3, MIB, handle=71)
    for number, unique in enumerate((1, 2, 3)):
        fetch(rows, START + 10 * number, START + 10 * number + 10, unique=unique, mount_id=0)
        wait(rows, 10 * number, 10 * number + 10, unique=unique, fetch_id=number)
    for unique, kind in ((2, "same_handle"), (3, "same_handle"), (2, "collision")):
        rows.add("lock_waits", mount_id=0, unique=unique, start_ns=START, end_ns=START + 6, pid=9,
                 tid=9, holder_tid=8, holder_unique=1, kind=kind)  # fmt: skip
    assert patterns(rows).one_handle == OneHandle(PATH, 2, 2, 1.0, Held(20, 20), 6)
    assert patterns(rows).lock_kinds_ns == {"same_handle": 6, "collision": 6, "readahead": 6}
    rows.rows["fuse_requests"][1]["handle"] = 72
    assert patterns(rows).one_handle is None
