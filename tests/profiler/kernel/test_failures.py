"""Which failed calls were on FUSE, and what they asked for."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from cvmprof.probes import fuse
from cvmprof.probes.events import (
    FAILURE,
    OPERATION,
    OPERATION_KINDS,
    OPERATION_KNOWN_FILE,
    OPERATION_LINKED,
    OPERATION_TRACED_FILE,
)
from cvmprof.profiler.kernel.failures import asked_paths, failed_operations, without_others
from cvmprof.profiler.run.journal import Journal
from cvmprof.tests.profiler.rows import rows

OPEN, METADATA, READ = (OPERATION_KINDS.index(kind) for kind in ("open", "metadata", "read"))
MOUNTS = """22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:30 / /cvmfs rw - autofs /etc/auto.cvmfs rw
24 23 0:40 / /cvmfs/one rw - fuse cvmfs2 rw
25 22 0:41 / /home/mnt rw - fuse.sshfs host: rw
26 25 0:42 / /home/mnt/tmp rw - tmpfs none rw
27 22 0:43 / /sys/fs/fuse/connections rw - fusectl none rw
"""
AGAIN = "28 23 0:50 / /cvmfs/one rw - fuse cvmfs2 rw\n"
JOURNAL = Journal((
    {"kind": "mountinfo", "time_ns": 50, "text": MOUNTS},
    {"kind": "mountinfo", "time_ns": 90, "text": AGAIN},
))  # fmt: skip


def asked(make_raw: Any, *given: dict[str, Any]) -> list[tuple[object, ...]]:
    records = make_raw(FAILURE, *({"tid": 1, "start_ns": 60, **each} for each in given))
    return asked_paths(records, JOURNAL).select("path", "dev", "filesystem").rows()


@pytest.mark.parametrize(
    ("path", "at_ns", "device", "filesystem"),
    [
        ("/cvmfs/one/a/b", 60, 40, "fuse"),
        ("/cvmfs/one", 1, 40, "fuse"),  # as mounted when recording began
        ("/cvmfs/one/./c/../a", 95, 50, "fuse"),
        ("/cvmfs/oneself", 60, 30, "autofs"),
        ("/cvmfs/../etc/x", 60, None, None),
        ("/home/mnt/x", 60, 41, "fuse.sshfs"),
        ("/home/mnt/tmp/x", 60, None, None),
        ("/sys/fs/fuse/connections/5", 60, None, None),
        ("/etc/shadow", 60, None, None),
    ],
)
def test_the_mount_that_a_path_leads_to(
    make_raw: Any, path: str, at_ns: int, device: int | None, filesystem: str | None
) -> None:
    (found,) = asked(make_raw, {"asked": path.encode(), "start_ns": at_ns})
    assert found[1:] == (device, filesystem)


def test_a_relative_path_begins_at_a_directory(make_raw: Any) -> None:
    on_disk = {"time_ns": 60, "components": b"user\0home\0", "text": 10, "mount_text": 10}
    on_fuse = {
        "time_ns": 60,
        "components": b"dir\0one\0cvmfs\0",
        "text": 14,
        "mount_text": 4,
        "magic": fuse.SUPER_MAGIC,
        "dev": 77,
    }
    found = asked(
        make_raw,
        {"asked": b"../mnt/x", "complete": 1, **on_disk},
        {"asked": b"x", "complete": 1, **on_fuse},
        {"asked": b"", "complete": 1, **on_fuse},
        {"asked": b"x", **on_fuse},
        {"asked": b"x"},
    )
    assert found == [
        ("/home/mnt/x", 41, "fuse.sshfs"),
        ("/cvmfs/one/dir/x", 40, "fuse"),
        ("/cvmfs/one/dir", 40, "fuse"),
        ("x", 77, "fuse"),
        ("x", None, None),
    ]


#: how an operation on a path that leads to this file system ended, and whether it is kept
ENDS: list[tuple[str | None, int, dict[str, int], bool]] = [
    ("fuse", errno.EIO, {}, True),
    ("fuse", errno.ENOENT, {}, False),
    ("autofs", errno.ENOENT, {}, True),
    (None, errno.EIO, {}, False),
    (None, errno.EACCES, {"kind": METADATA}, False),
    (None, errno.ENOTCONN, {}, True),
    (None, errno.ENOENT, {"requests": 1}, True),
    (None, errno.EIO, {"flags": OPERATION_TRACED_FILE | OPERATION_LINKED}, True),
    (None, errno.EIO, {"flags": OPERATION_TRACED_FILE | OPERATION_KNOWN_FILE}, True),
    (None, errno.EIO, {"kind": READ}, True),
    (None, 0, {"end_ns": 70}, True),
    (None, 0, {}, False),  # it has not ended: an open of a FIFO, say
    (None, 0, {"requests": 1}, True),
]


@pytest.mark.parametrize(("filesystem", "error", "values", "kept"), ENDS)
def test_failures_that_other_file_systems_explain_are_left_out(
    make_raw: Any, filesystem: str | None, error: int, values: dict[str, int], kept: bool
) -> None:
    paths = {"fuse": b"/cvmfs/one/x", "autofs": b"/cvmfs/x", None: b"/x"}
    key = {"tid": 1, "start_ns": 60}
    failure = make_raw(FAILURE, {**key, "asked": paths[filesystem]})
    plain = {"kind": OPEN, "flags": OPERATION_TRACED_FILE, "result": -error}
    operation = make_raw(OPERATION, {**key, **plain, **values})
    found = without_others(operation, asked_paths(failure, JOURNAL))
    assert found.height == kept
    assert found.columns == operation.columns


def test_a_failure_whose_path_was_not_seen_is_on_fuse_only_by_its_error(make_raw: Any) -> None:
    nothing = asked_paths(make_raw(FAILURE), JOURNAL)
    failed = [{"kind": OPEN, "start_ns": error, "result": -error} for error in (5, 107)]
    assert without_others(make_raw(OPERATION, *failed), nothing)["start_ns"].to_list() == [107]


def test_failed_operations_have_their_mount_and_path(make_raw: Any) -> None:
    paths = {1: b"/cvmfs/one/x", 2: b"/cvmfs/new", 3: b"x"}
    records = [{"tid": tid, "start_ns": 60, "asked": path} for tid, path in paths.items()]
    asked = asked_paths(make_raw(FAILURE, *records), JOURNAL)
    with_mounts = asked.with_columns(
        mount_id=asked["dev"].cast(int).replace_strict({40: 4}, default=None)
    )
    ends = [
        (1, "open", errno.ENOTCONN, None), (2, "open", errno.ENOENT, None),
        (3, "metadata", errno.ENOTCONN, None), (4, "read", errno.EIO, 9),
        (5, "open", errno.ENOENT, None), (6, "metadata", errno.EACCES, 9),
        (7, "open", errno.EACCES, 9), (8, "read", errno.EINTR, 9), (9, "read", 0, 9),
    ]  # fmt: skip
    operations = rows("operations", *(
        {"op_id": tid, "tid": tid, "start_ns": 60, "kind": kind, "result": -error, "file_id": file}
        for tid, kind, error, file in ends
    ))  # fmt: skip
    files = rows("files", {"file_id": 9, "mount_id": 7, "path": "/m/f"})
    assert failed_operations(operations, with_mounts, files).rows() == [
        (1, 4, "/cvmfs/one/x"),
        (2, None, "/cvmfs/new"),
        (3, None, "x"),
        (4, 7, "/m/f"),
        (7, 7, "/m/f"),
    ]
