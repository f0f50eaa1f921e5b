"""File operations that failed, counted by what failed alike."""

from __future__ import annotations

import errno

from cvmprof.reports.material import Window
from cvmprof.reports.numbers.failed_operations import FailedOperation, failed_operations
from cvmprof.tests.reports.synthetic import Rows

WINDOW = Window(100, 200)


def failed(rows: Rows, end_ns: int, error: int, mount_id: int | None, path: str | None) -> None:
    op_id = len(rows.rows.get("operations", []))
    rows.add("operations", op_id=op_id, kind="open", start_ns=end_ns - 15, end_ns=end_ns, pid=1,
             tid=1, result=-error)  # fmt: skip
    rows.add("failed_operations", op_id=op_id, mount_id=mount_id, path=path)


def test_operations_that_failed_alike_are_counted() -> None:
    rows = Rows()
    rows.add("mounts", mount_id=3, device="0:40", mountpoint="/m")
    failed(rows, 150, errno.ENOTCONN, 3, "/m/x")
    failed(rows, 130, errno.ENOTCONN, 3, "/m/x")
    failed(rows, 120, errno.EIO, 3, "/m/x")
    failed(rows, 140, 999, None, None)
    rows.add("operations", op_id=9, kind="open", start_ns=110, pid=1, tid=1, result=-errno.ENOENT)
    assert failed_operations(rows.frames(), WINDOW) == (
        FailedOperation("open", "EIO", "/m/x", "/m", 1, 20),
        FailedOperation("open", "ENOTCONN", "/m/x", "/m", 2, 30),
        FailedOperation("open", "999", None, None, 1, 40),
    )


def test_a_run_in_which_nothing_failed() -> None:
    assert failed_operations(Rows().frames(), WINDOW) == ()
