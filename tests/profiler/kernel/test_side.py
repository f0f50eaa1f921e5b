"""When the command began and when the recording ended; files and daemons of each mount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvmprof.probes import events, fuse
from cvmprof.probes.events import TASK
from cvmprof.profiler.kernel.side import KernelSide, command_start_ns, file_accesses, kernel_side
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.run.spool import Spool
from cvmprof.tests.profiler.rows import rows

START = {"kind": "start", "time_ns": 5}
OTHER_MOUNT = {"kind": "mountinfo", "text": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"}
CHILD = {"kind": "child", "pid": 7, "time_ns": 8}


def side_of(run: Path, *lines: dict[str, Any]) -> KernelSide:
    """The side of a run before which another device was mounted."""
    spool, journal = Spool(run), Journal((START, OTHER_MOUNT, *lines))
    return kernel_side(spool, journal, file_accesses(spool, journal)[0])


def test_the_command_begins_with_its_first_exec(make_raw: Any) -> None:
    records = make_raw(
        TASK,
        {"pid": 7, "kind": 3, "time_ns": 30},
        {"pid": 7, "kind": 3, "time_ns": 20},
        {"pid": 7, "kind": 2, "time_ns": 10},
        {"pid": 9, "kind": 3, "time_ns": 15},
    )
    none = rows("operations")
    assert command_start_ns(Journal((START, CHILD)), records, none) == 20
    assert command_start_ns(Journal((START, CHILD)), records.clear(), none) == 8
    assert command_start_ns(Journal((START,)), records, none) == 5


def test_the_command_begins_when_exec_is_called(make_raw: Any) -> None:
    """Also the first of two calls, which failed."""
    records = make_raw(
        TASK,
        {"pid": 7, "kind": 3, "time_ns": 30, "began_ns": 25},
        {"pid": 7, "kind": 3, "time_ns": 50, "began_ns": 40},
    )
    journal = Journal((START, CHILD))
    assert command_start_ns(journal, records, rows("operations")) == 25
    others = ({"pid": 7, "kind": "read", "start_ns": 9}, {"pid": 9, "kind": "open", "start_ns": 9})
    failed = {"pid": 7, "kind": "open", "start_ns": 12, "result": -8}
    assert command_start_ns(journal, records, rows("operations", *others)) == 25
    assert command_start_ns(journal, records, rows("operations", *others, failed)) == 12


def test_a_recording_without_a_stop_ends_with_the_last_time_in_it(spool_writer: Any) -> None:
    thread = {"pid": 1, "tid": 1}
    stops = list[int]()
    for layout, values in (
        (events.OPERATION, {"start_ns": 20, "kind": 1}),
        (events.OPERATION, {"start_ns": 11, "kind": 1, "end_ns": 30}),
        (events.TASK, {**thread, "time_ns": 40, "kind": 2, "role": 1}),
        (events.BLOCKED, {**thread, "start_ns": 50, "state": 1}),
        (events.BLOCKED, {**thread, "start_ns": 12, "end_ns": 60, "state": 1}),
        (events.REQUEST, {"queued_ns": 13, "end_ns": 70, "unique": 2, "opcode": 15}),
    ):
        spool_writer.ring(layout, **values)
        stops.append(side_of(spool_writer.run).stop_ns)
    assert stops == [20, 30, 40, 50, 60, 70]
    assert side_of(spool_writer.run, {"kind": "stop", "time_ns": 99}).stop_ns == 99


def test_operations_are_numbered_by_time_and_files_by_their_first_use(spool_writer: Any) -> None:
    """Whatever the order of the records; hits and touches name files too."""
    used = {"dev": 50, "flags": events.OPERATION_KNOWN_FILE}
    for start_ns, ino in ((30, 7), (20, 8), (25, 7)):
        spool_writer.ring(events.OPERATION, start_ns=start_ns, ino=ino, kind=1, **used)
    spool_writer.ring(events.HIT, start_ns=22, end_ns=23, ino=9, dev=50, kind=1)
    spool_writer.touch({"dev": 50, "ino": 6, "bucket": 1}, {"bytes_read": 5})
    spool = Spool(spool_writer.run)
    accesses, parts = file_accesses(spool, Journal((START,)))
    assert accesses.operations.select("op_id", "start_ns", "file_id").rows() == [
        (0, 20, 2), (1, 25, 1), (2, 30, 1),
    ]  # fmt: skip
    assert accesses.files["inode"].to_list() == [6, 7, 8, 9]
    tables = dict(parts)
    assert tables["hits"]["file_id"].to_list() == [3]
    assert tables["touches"].select("file_id", "start_ns").rows() == [(0, 100_000_000)]


def test_a_file_of_each_mount_of_a_device(spool_writer: Any) -> None:
    """Both mounts may give their files the same numbers."""
    for at in (100, 200):
        request = {"queued_ns": at, "end_ns": at, "unique": 2, "dev": 50, "opcode": fuse.INIT}
        spool_writer.ring(events.REQUEST, **request)
        spool_writer.ring(events.OPERATION, start_ns=at + 1, ino=7, dev=50, kind=1, flags=2)
    spool = Spool(spool_writer.run)
    accesses, _ = file_accesses(spool, Journal((START, OTHER_MOUNT)))
    assert accesses.files.select("mount_id", "inode").rows() == [(0, 7), (1, 7)]
    assert accesses.operations["file_id"].to_list() == [0, 1]


def test_no_daemon_serves_a_request_from_before_the_mount(spool_writer: Any) -> None:
    for at, opcode in ((50, fuse.READ), (100, fuse.INIT), (200, fuse.INIT)):
        request = {"queued_ns": at, "end_ns": at, "unique": 2, "dev": 50, "opcode": opcode}
        spool_writer.ring(events.REQUEST, end_pid=at, **request)
    assert side_of(spool_writer.run).serving.sort("pid").rows() == [(100, 0), (200, 1)]


def test_requests_that_were_in_flight_belong_to_the_mount_of_the_time_that_is_known(
    spool_writer: Any,
) -> None:
    for unique, queued_ns, end_ns, opcode in (
        (1, 100, 101, fuse.INIT), (2, 150, 0, fuse.READ), (3, 200, 201, fuse.INIT),
        (4, 250, 0, fuse.READ), (5, 0, 260, fuse.READ),
    ):  # fmt: skip
        request = {"queued_ns": queued_ns, "end_ns": end_ns, "unique": unique, "opcode": opcode}
        spool_writer.ring(events.REQUEST, dev=50, **request)
    found = side_of(spool_writer.run).requests.select("unique", "mount_id").rows()
    assert found == [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]
