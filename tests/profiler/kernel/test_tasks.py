from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import TASK
from cvmprof.profiler.kernel.tasks import (
    tasks,
    with_daemons_at_start,
    with_founders,
    with_unannounced,
)
from cvmprof.profiler.run.journal import Journal


def test_events_fold_into_tasks(make_raw: Any) -> None:
    events = make_raw(
        TASK,
        {
            "time_ns": 50,
            "start_ns": 10,
            "pid": 7,
            "tid": 7,
            "parent_pid": 1,
            "kind": 2,
            "role": 1,
            "name": b"sh",
        },
        {
            "time_ns": 60,
            "start_ns": 10,
            "pid": 7,
            "tid": 7,
            "kind": 3,
            "role": 1,
            "name": b"python",
            "argv": b"python\0-c\0\0x y\0",
            "arguments": 15,
        },
        {
            "time_ns": 90,
            "start_ns": 10,
            "pid": 7,
            "tid": 7,
            "kind": 4,
            "role": 1,
            "name": b"python",
            "exit_code": 3 << 8,
        },
        {"time_ns": 70, "start_ns": 65, "pid": 7, "tid": 8, "kind": 2, "role": 1, "name": b"t\xff"},
        {"time_ns": 95, "start_ns": 5, "pid": 9, "tid": 9, "kind": 4, "role": 2, "exit_code": 139},
        {"time_ns": 99, "start_ns": 98, "pid": 7, "tid": 7, "kind": 2, "role": 1, "name": b"again"},
    )
    found = tasks(events)
    assert found.select("tid", "start_ns", "end_ns", "parent_pid", "name", "role").rows() == [
        (9, 5, 95, 0, "", "daemon"),
        (7, 10, 90, 1, "python", "target"),
        (8, 65, None, 0, "t\\xff", "target"),
        (7, 98, None, 0, "again", "target"),
    ]
    assert found["argv"].to_list()[1] == ["python", "-c", "", "x y"]
    assert found.select("exit_code", "signal").rows() == [
        (None, 11),
        (3, None),
        (None, None),
        (None, None),
    ]


def test_an_exec_by_another_thread_than_the_leader(make_raw: Any) -> None:
    """The leader exits, then the caller execs under its number; the third dies as any thread."""
    thread: dict[str, Any] = {"pid": 7, "role": 1}
    fork, executed, exited = ({**thread, "kind": kind} for kind in (2, 3, 4))
    before_end = [
        {**fork, "time_ns": 10, "start_ns": 10, "tid": 7},
        {**executed, "time_ns": 20, "start_ns": 10, "tid": 7},
        {**fork, "time_ns": 30, "start_ns": 30, "tid": 8},
        {**fork, "time_ns": 31, "start_ns": 31, "tid": 9},
        {**exited, "time_ns": 50, "start_ns": 31, "tid": 9, "exit_code": 9},
        {**exited, "time_ns": 55, "start_ns": 10, "tid": 7, "exit_code": 9},
        {**executed, "time_ns": 60, "start_ns": 10, "tid": 7},
        {**fork, "time_ns": 70, "start_ns": 70, "tid": 8},
        {**fork, "time_ns": 71, "start_ns": 71, "pid": 70, "tid": 80},
    ]
    names = ("tid", "start_ns", "end_ns", "exit_code", "signal")
    running = tasks(make_raw(TASK, *before_end)).select(names).rows()
    assert running == [
        (7, 10, None, None, None),
        (8, 30, 60, None, None),
        (9, 31, 50, None, 9),
        (8, 70, None, None, None),
        (80, 71, None, None, None),
    ]
    end = {**exited, "time_ns": 90, "start_ns": 10, "tid": 7, "exit_code": 3 << 8}
    ended = tasks(make_raw(TASK, *before_end, end)).select(names).rows()
    assert ended == [(7, 10, 90, 3, None), *running[1:]]


def test_argv_that_was_cut(make_raw: Any) -> None:
    row = {
        "time_ns": 1,
        "start_ns": 1,
        "tid": 1,
        "kind": 3,
        "role": 1,
        "arguments": 9000,
        "argv": b"a\0" + b"b" * 254,
    }
    assert tasks(make_raw(TASK, row))["argv"].to_list() == [["a", "b" * 254]]


def test_a_thread_without_events_is_there_from_its_first_operation(make_raw: Any) -> None:
    known = tasks(
        make_raw(TASK, {"time_ns": 5, "start_ns": 5, "pid": 7, "tid": 7, "role": 1, "kind": 1})
    )
    operations = pl.DataFrame(
        {"pid": [7, 7, 7], "tid": [7, 8, 8], "start_ns": [9, 20, 15]},
        schema={"pid": pl.Int32, "tid": pl.Int32, "start_ns": pl.Int64},
    )
    found = with_unannounced(known, operations)
    assert found.select("tid", "start_ns", "role").rows() == [(7, 5, "target"), (8, 15, "target")]


def test_daemons_of_the_start_of_which_nothing_was_heard(make_raw: Any) -> None:
    known = tasks(
        make_raw(TASK, {"time_ns": 5, "start_ns": 5, "pid": 9, "tid": 12, "role": 2, "kind": 4})
    )
    line = {"kind": "daemon", "pid": 9, "name": "cvmfs2", "threads": [9, 11, 12]}
    lines = Journal((line, {**line, "start_ns": 3}, {**line, "pid": 70, "threads": [70]}))
    found = with_daemons_at_start(known, lines, pl.Series([9], dtype=pl.Int32))
    assert found.select("tid", "start_ns", "role", "name").rows() == [
        (9, 0, "daemon", "cvmfs2"),
        (11, 0, "daemon", "cvmfs2"),
        (12, 5, "daemon", ""),
    ]


def test_a_client_that_became_the_daemon_by_forking_twice_worked_for_the_same_mount(
    make_raw: Any,
) -> None:
    fork: dict[str, Any] = {"kind": 2, "role": 2}
    events = make_raw(
        TASK,
        {**fork, "pid": 30, "tid": 30, "parent_pid": 9, "role": 1},  # a shell forks the client
        {**fork, "pid": 31, "tid": 31, "parent_pid": 30},
        {**fork, "pid": 32, "tid": 32, "parent_pid": 31},
        {**fork, "pid": 32, "tid": 33, "parent_pid": 1},
        {**fork, "pid": 50, "tid": 50, "parent_pid": 49},
    )
    serving = pl.DataFrame(
        {"pid": [32], "mount_id": [4]}, schema=dict.fromkeys(("pid", "mount_id"), pl.Int32)
    )
    assert with_founders(serving, events).rows() == [(32, 4), (31, 4), (30, 4)]
