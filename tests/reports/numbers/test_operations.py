from __future__ import annotations

from typing import Any

from cvmprof.reports.numbers.operations import counts, unfinished_operations
from cvmprof.tests.reports.rows import statistics_of
from cvmprof.tests.reports.synthetic import (
    MAIN,
    MODEL,
    MS,
    PID,
    START,
    Rows,
    tiny_rows,
)


def test_operations_that_never_ended_are_named() -> None:
    rows = tiny_rows()
    rows.add(
        "operations",
        op_id=9,
        kind="read",
        start_ns=START + 97 * MS,
        pid=100,
        tid=101,
        file_id=0,
        offset_bytes=77,
        size_bytes=1,
        result=0,
    )
    assert statistics_of(rows).unfinished == (f"read of {MODEL} by thread 101 at offset 77",)


def operation(rows: Rows, number: int, kind: str = "read", **row: Any) -> None:
    plain = {"start_ns": number, "end_ns": number + 1, "pid": PID, "tid": MAIN, "result": 0}
    rows.add("operations", op_id=number, kind=kind, **{**plain, **row})


def test_counts() -> None:
    rows = Rows()
    for number, kind in enumerate(("read", "fault", "open", "read")):
        operation(rows, number, kind)
    for count, ns in ((3, 40), (4, 50)):
        rows.add("hits", pid=PID, tid=MAIN, file_id=0, kind="read", start_ns=0, end_ns=1,
                 count=count, bytes=9, ns=ns, max_ns=9)  # fmt: skip
    for unique, opcode in enumerate((14, 15, 15, 16, 1)):
        rows.add("fuse_requests", mount_id=0, unique=unique, opcode=opcode, node_id=1, pid=PID,
                 tid=MAIN, error=0)  # fmt: skip
    for number, status in enumerate((399, 400, 401, None, 200, 500)):
        rows.add("downloads", download_id=number, host="h", attempt=1, status=status)
    rows.add("cache_lookups", start_ns=0, pid=1, tid=1, object_hash="a", hit=True)
    for tid, role in enumerate(("target", "daemon", "target", "target")):
        rows.add("tasks", pid=1, tid=tid, parent_pid=0, name="n", role=role, start_ns=0)
    found = counts(rows.frames())
    assert found == {
        "operations": 4, "operations_fault": 1, "operations_open": 1, "operations_read": 2,
        "page_cache_hits": 7, "page_cache_ns": 90, "fuse_requests": 5, "fuse_reads": 2,
        "fuse_reads_of_no_operation": 2,
        "cache_lookups": 1, "downloads": 6, "download_errors": 3, "target_threads": 3,
    }  # fmt: skip
    assert [name for name in found if name.startswith("operations_")] == [
        "operations_fault", "operations_open", "operations_read",
    ]  # fmt: skip


def test_twenty_of_the_operations_that_never_ended_the_oldest_first() -> None:
    rows = Rows()
    for number in range(30, 0, -1):
        operation(rows, number, end_ns=None, tid=number, file_id=number)
        rows.add("files", file_id=number, mount_id=0, inode=number, generation=0,
                 path=f"/f{number}")  # fmt: skip
    operation(rows, 0, end_ns=5)
    found = unfinished_operations(rows.frames())
    assert found == tuple(f"read of /f{n} by thread {n}" for n in range(1, 21))
    assert len(unfinished_operations(rows.frames(), 3)) == 3


def test_an_operation_on_no_known_file() -> None:
    rows = Rows()
    operation(rows, 0, "open", end_ns=None, offset_bytes=0)
    assert unfinished_operations(rows.frames()) == (
        f"open of an unknown file by thread {MAIN} at offset 0",
    )
