"""What is said of file operations that failed, and when nothing is."""

from __future__ import annotations

import errno

import pytest

from cvmprof.reports.findings.failures import failed_operations
from cvmprof.reports.numbers.failed_operations import FailedOperation
from cvmprof.tests.reports.rows import headlines, quiet, spoken
from cvmprof.tests.reports.synthetic import MAIN, MS, PID, START, Rows, tiny_rows

DEAD = FailedOperation("open", "ENOTCONN", "/m/x", "/m", 1, 3 * MS)


def failing(error: int, kind: str = "open", path: str | None = "/m/x") -> Rows:
    """The smallest run with an operation that failed."""
    rows = tiny_rows()
    rows.add("mounts", mount_id=77, device="0:77", mountpoint="/m")
    rows.add("operations", op_id=99, kind=kind, start_ns=START, end_ns=START + 1, pid=PID, tid=MAIN,
             result=-error)  # fmt: skip
    if error:
        rows.add("failed_operations", op_id=99, mount_id=77, path=path)
    return rows


def test_one_access_to_a_dead_mount() -> None:
    (finding,) = spoken(failed_operations=(DEAD,))
    assert finding.tone == "warning"
    assert finding.headline == (
        "The open of /m/x failed: the mount /m is dead: its client has ended (ENOTCONN)."
    )
    assert finding.meaning == (
        "That was 3.00 ms after the start. Every access fails until it is detached (umount -l /m) "
        "and mounted again."
    )
    assert finding.headline in headlines(failing(errno.ENOTCONN))


def test_several_accesses_to_a_dead_mount() -> None:
    others = (
        FailedOperation("metadata", "ENOTCONN", "/m", "/m", 4, 1 * MS),
        FailedOperation("open", "ENOTCONN", None, None, 1, 0),
    )
    first, second = failed_operations(quiet(failed_operations=(DEAD, *others)))
    assert first.headline == (
        "The open of an unknown file failed: its mount is dead: its client has ended (ENOTCONN)."
    )
    assert "(umount -l)" in first.meaning
    assert second.headline == (
        "5 file operations failed: the mount /m is dead: its client has ended (ENOTCONN)."
    )
    assert second.meaning.startswith("The first was the look-up of /m, 1.00 ms after the start. ")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errno.EIO, "The client could not supply"),
        (errno.EACCES, "Permissions"),
        (errno.ESTALE, "What was open is not there any more"),
        (errno.ENOENT, "The automounter mounted nothing there"),
        (errno.ECONNABORTED, "The client ended before it answered, or the mount was detached by"),
        (errno.ETIMEDOUT, "What serves that mount could not be reached."),
    ],
)
def test_other_errors_are_named_and_explained(error: int, says: str) -> None:
    name = errno.errorcode[error]
    one = FailedOperation("read", name, "/m/x", "/m", 1, 0)
    (finding,) = spoken(failed_operations=(one,))
    assert finding.headline == f"The read of /m/x failed ({name})."
    assert says in finding.meaning
    several = FailedOperation("read", name, "/m/x", "/m", 3, 0)
    (finding,) = spoken(failed_operations=(several,))
    assert finding.headline == f"3 file operations on /m failed ({name})."


def test_a_dead_mount_that_was_mounted_again() -> None:
    for place, start_ns, renewed in (
        ("/m", 8 * MS + 1, True), ("/m", 8 * MS, False), ("/m", None, False), ("/n", 9 * MS, False),
    ):  # fmt: skip
        mounts = ({"mountpoint": place, "start_ns": start_ns},)
        (finding,) = spoken(failed_operations=(DEAD,), mounts=mounts, start_ns=5 * MS)
        assert finding.meaning.endswith(" It was mounted again later.") is renewed
        assert ("Every access fails" in finding.meaning) is not renewed


def test_nothing_is_said_where_nothing_failed() -> None:
    assert spoken(failed_operations=()) == []
    assert not [each for each in headlines(failing(0)) if "failed" in each]
    assert list(failed_operations(quiet())) == []
