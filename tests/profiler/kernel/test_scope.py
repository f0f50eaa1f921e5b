"""Which records are about the mounts that the command used."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes import events, fuse
from cvmprof.profiler.kernel.scope import ScopedSpool, scoped
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.run.spool import Spool

USED, UNUSED, BY_HELPER, TOUCHED = 50, 51, 52, 53
TARGET, HELPER = 100, 77
DAEMON, OTHER = 200, 300


def scope_of(writer: Any, *lines: dict[str, Any]) -> ScopedSpool:
    return scoped(Spool(writer.run), Journal(lines))


def uniques(frame: pl.DataFrame) -> list[int]:
    return sorted(frame["unique"])


def write_requests(writer: Any) -> None:
    """Reads by the target and a helper of one mount, by a helper of another; a mount and an
    unmount.
    """
    for values in (
        {"unique": 1, "dev": USED, "pid": 0, "end_pid": DAEMON, "opcode": fuse.INIT},
        {"unique": 2, "dev": USED, "pid": TARGET, "end_pid": DAEMON, "opcode": fuse.READ},
        {"unique": 4, "dev": USED, "pid": HELPER, "end_pid": DAEMON, "opcode": fuse.READ},
        {"unique": 6, "dev": USED, "pid": TARGET, "end_pid": 0, "opcode": fuse.READ},
        {"unique": 1, "dev": UNUSED, "pid": 0, "end_pid": OTHER, "opcode": fuse.INIT},
        {"unique": 8, "dev": UNUSED, "pid": 0, "end_pid": OTHER, "opcode": fuse.DESTROY},
        {"unique": 5, "dev": BY_HELPER, "pid": HELPER, "end_pid": OTHER, "opcode": fuse.READ},
    ):
        writer.ring(events.REQUEST, queued_ns=10, end_ns=20, **values)


READER = {"kind": "reader", "pid": HELPER}


def test_mounts_that_only_helpers_or_mounting_touched_are_out_of_scope(spool_writer: Any) -> None:
    write_requests(spool_writer)
    known = events.OPERATION_KNOWN_FILE
    spool_writer.ring(events.OPERATION, start_ns=5, dev=TOUCHED, flags=known, pid=TARGET)
    spool_writer.ring(events.OPERATION, start_ns=6, dev=99, pid=TARGET)
    spool_writer.ring(events.HIT, start_ns=5, dev=54, pid=TARGET)
    scope = scope_of(spool_writer, READER)
    assert scope.devices == {USED, TOUCHED, 54}
    assert uniques(scope.requests()) == [1, 2, 6]
    assert uniques(scope.own_requests()) == [4, 5]
    assert scope.readers == {HELPER}


def test_daemons_answer_take_or_say_that_they_serve(spool_writer: Any) -> None:
    """201 took the request that nobody answered; 202 took another kind with the same number."""
    write_requests(spool_writer)
    for pid, opcode in ((201, fuse.READ), (202, fuse.INIT)):
        spool_writer.ring(events.SERVED, time_ns=11, unique=6, pid=pid, opcode=opcode)
    for pid in (OTHER, 202):
        spool_writer.ring(events.TASK, time_ns=1, pid=pid, tid=pid, kind=4, role=events.ROLE_DAEMON)
    spool_writer.ring(events.TASK, time_ns=1, pid=TARGET, tid=TARGET, kind=4, role=1)
    lines: list[dict[str, Any]] = [
        {"kind": "attributes", "attributes": {"user.pid": "203"}},
        {"kind": "attributes", "attributes": {"user.pid": "none"}},
        {"kind": "attributes", "attributes": {}},
        {"kind": "daemon", "pid": 301},
        {"kind": "daemon", "pid": DAEMON},
    ]
    scope = scope_of(spool_writer, READER, *lines)
    assert scope.daemons == {DAEMON, 201, 203}
    assert scope.others == {OTHER, 202, 301}


def test_records_of_daemons_out_of_scope_are_left_out(spool_writer: Any) -> None:
    write_requests(spool_writer)
    for pid in (DAEMON, OTHER, TARGET):
        spool_writer.ring(events.TASK, time_ns=1, pid=pid, tid=pid, kind=4, role=1 + (pid == OTHER))
        spool_writer.ring(events.BLOCKED, start_ns=1, end_ns=2, pid=pid, tid=pid, state=1)
        spool_writer.ring(events.DOWNLOAD, sent_ns=1, pid=pid)
        spool_writer.ring(events.WORK, start_ns=1, pid=pid)
        spool_writer.ring(events.CACHE_FILE, start_ns=1, end_ns=2, pid=pid, syscall=1)
        spool_writer.ring(events.CACHE_FILE, start_ns=3, end_ns=4, pid=pid, syscall=3)
    scope = scope_of(spool_writer, READER)
    assert sorted(scope.tasks()["pid"]) == [TARGET, DAEMON]
    assert sorted(scope.blocked()["pid"]) == [TARGET, DAEMON]
    assert scope.downloads()["pid"].to_list() == [DAEMON]
    assert scope.work()["pid"].to_list() == [DAEMON]
    assert scope.cache_files()["pid"].to_list() == [DAEMON, DAEMON]
    removals = scope.removals()
    assert removals["start_ns"].to_list() == [3, 3, 3]
    assert sorted(removals["pid"]) == [TARGET, DAEMON, OTHER]


def test_what_a_daemon_did_for_a_helper_is_left_out(spool_writer: Any) -> None:
    """Named by the request, and, before requests are recorded, by the time of the reading."""
    write_requests(spool_writer)
    for unique, time_ns, pid in (
        (2, 15, DAEMON), (4, 15, DAEMON), (9, 100, DAEMON), (9, 104, DAEMON), (9, 105, DAEMON),
        (9, 99, DAEMON), (2, 102, OTHER),
    ):  # fmt: skip
        spool_writer.ring(events.SERVED, time_ns=time_ns, unique=unique, pid=pid, opcode=fuse.READ)
        spool_writer.ring(events.CALL, start_ns=time_ns, unique=unique, pid=pid, function=1)
    reading: dict[str, Any] = {"kind": "attributes_before", "asked_ns": 100, "answered_ns": 104}
    lines: list[dict[str, Any]] = [
        {**reading, "attributes": {"user.pid": str(DAEMON)}},
        {**reading, "attributes": {}, "answered_ns": 200},
    ]
    scope = scope_of(spool_writer, READER, *lines)
    assert scope.readings == ((DAEMON, 100, 104),)
    assert scope.served().select("unique", "time_ns").rows() == [(2, 15), (9, 105), (9, 99)]
    assert scope.calls().select("unique", "start_ns").rows() == [(2, 15), (9, 105), (9, 99)]
    assert scope_of(spool_writer, READER).served().height == 5


def test_the_parents_of_processes_that_daemons_started(spool_writer: Any) -> None:
    forked = {"time_ns": 1, "parent_pid": DAEMON, "kind": 2, "role": events.ROLE_DAEMON}
    for values in (
        {**forked, "pid": 400, "tid": 400},
        {**forked, "pid": 400, "tid": 401, "parent_pid": 400},
        {**forked, "pid": 402, "tid": 402, "kind": 3},
        {**forked, "pid": 403, "tid": 403, "role": events.ROLE_TARGET},
    ):
        spool_writer.ring(events.TASK, **values)
    assert scope_of(spool_writer).daemon_parents() == {400: DAEMON}
