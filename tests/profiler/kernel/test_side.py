"""When the command began and when the recording ended."""

from __future__ import annotations

from typing import Any

from cvmprof.probes import events
from cvmprof.probes.events import TASK
from cvmprof.profiler.kernel.side import command_start_ns, file_accesses, kernel_side
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.run.spool import Spool

START = {"kind": "start", "time_ns": 5}
CHILD = {"kind": "child", "pid": 7, "time_ns": 8}


def test_the_command_begins_with_its_first_exec(make_raw: Any) -> None:
    records = make_raw(
        TASK,
        {"pid": 7, "kind": 3, "time_ns": 30},
        {"pid": 7, "kind": 3, "time_ns": 20},
        {"pid": 7, "kind": 2, "time_ns": 10},
        {"pid": 9, "kind": 3, "time_ns": 15},
    )
    assert command_start_ns(Journal((START, CHILD)), records) == 20
    assert command_start_ns(Journal((START, CHILD)), records.clear()) == 8
    assert command_start_ns(Journal((START,)), records) == 5


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
        spool, journal = Spool(spool_writer.run), Journal((START,))
        stops.append(kernel_side(spool, journal, file_accesses(spool, journal)[0]).stop_ns)
    assert stops == [20, 30, 40, 50, 60, 70]
    stopped = Journal((START, {"kind": "stop", "time_ns": 99}))
    assert kernel_side(spool, stopped, file_accesses(spool, stopped)[0]).stop_ns == 99
