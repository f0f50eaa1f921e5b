from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import TASK
from cvmprof.profiler.kernel.tasks import (
    tasks,
    with_daemons_at_start,
    with_founders,
    with_neighbours,
    with_unannounced,
)
from cvmprof.profiler.run.journal import Journal
from cvmprof.tests.profiler.rows import rows


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


def test_neighbours_are_the_processes_that_were_named() -> None:
    """Once each, and not where the process is known to be something else."""
    line = {"kind": "neighbour", "pid": 30, "name": "rsync", "start_ns": 7}
    lines = Journal((line, line, {**line, "pid": 9, "name": "cvmfs2"}))
    daemon = rows("tasks", {"pid": 9, "tid": 9, "name": "cvmfs2", "role": "daemon", "start_ns": 5})
    found = with_neighbours(daemon, lines)
    assert found.select("pid", "tid", "start_ns", "role", "name").rows() == [
        (9, 9, 5, "daemon", "cvmfs2"),
        (30, 30, 7, "neighbour", "rsync"),
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


def test_names_at_the_same_time_stay_with_their_threads(make_raw: Any) -> None:
    """Sorting by time alone once moved names between rows of equal time."""
    events = [
        {"time_ns": 5, "start_ns": 5, "pid": 7, "tid": tid, "kind": 3, "role": 1,
         "name": f"n{tid}".encode(), "argv": f"a{tid}\0".encode(), "arguments": len(f"a{tid}") + 1}
        for tid in range(1000, 3000)
    ]  # fmt: skip
    found = tasks(make_raw(TASK, *reversed(events))).select("tid", "name", "argv").rows()
    assert found == [(tid, f"n{tid}", [f"a{tid}"]) for tid in range(1000, 3000)]


def test_the_latest_record_of_a_task_wins_but_the_first_parent(make_raw: Any) -> None:
    """Also where records are out of order. A thread of another process that execs becomes it."""
    one = {"start_ns": 10, "tid": 7, "role": 1}
    found = tasks(
        make_raw(
            TASK,
            {**one, "time_ns": 40, "pid": 7, "kind": 4, "exit_code": 2 << 8, "name": b"last"},
            {
                **one,
                "time_ns": 30,
                "pid": 7,
                "kind": 3,
                "name": b"b",
                "argv": b"b\0",
                "arguments": 2,
                "parent_pid": 6,
            },
            {**one, "time_ns": 10, "pid": 6, "kind": 2, "name": b"a", "parent_pid": 0},
            {
                **one,
                "time_ns": 20,
                "pid": 6,
                "kind": 3,
                "argv": b"a\0",
                "arguments": 2,
                "parent_pid": 5,
            },
            {"time_ns": 8, "pid": 1, "tid": 1, "kind": 1, "role": 1, "arguments": 9},
        )
    )
    assert found.rows() == [
        (1, 1, 0, "", None, "target", 8, None, None, None),
        (7, 7, 5, "last", ["b"], "target", 10, 40, 2, None),
    ]


def test_an_exit_at_or_before_the_last_exec_is_no_end(make_raw: Any) -> None:
    one = {"start_ns": 10, "pid": 7, "tid": 7, "role": 1}
    executed = ({**one, "time_ns": at, "kind": 3} for at in (20, 30))
    exits = ({**one, "time_ns": at, "kind": 4, "exit_code": 9} for at in (25, 30))
    found = tasks(make_raw(TASK, *executed, *exits))
    assert found.select("end_ns", "signal", "exit_code").rows() == [(None, None, None)]


def test_a_thread_ends_at_the_next_exec_of_its_own_process(make_raw: Any) -> None:
    def record(tid: int, time_ns: int, kind: int, **more: int) -> dict[str, Any]:
        start = {"start_ns": time_ns} if kind == 2 else {"start_ns": 10}
        return {"pid": 7, "tid": tid, "time_ns": time_ns, "kind": kind, "role": 1, **start, **more}

    found = tasks(
        make_raw(
            TASK,
            record(7, 10, 2),
            record(8, 20, 2),
            record(9, 60, 2),
            record(5, 30, 3, pid=5),
            record(7, 50, 3),
            record(7, 40, 3),
        )
    )
    assert found.select("tid", "end_ns").rows() == [(5, None), (7, None), (8, 40), (9, None)]


def test_a_crash_signal_of_any_thread_outranks_the_signal_that_ended_the_process(
    make_raw: Any,
) -> None:
    daemon = {"start_ns": 10, "role": 2}
    found = tasks(
        make_raw(
            TASK,
            {**daemon, "pid": 7, "tid": 7, "time_ns": 40, "kind": 4, "exit_code": 9},
            {**daemon, "pid": 7, "tid": 8, "time_ns": 30, "kind": 5, "exit_code": 11},
            {**daemon, "pid": 7, "tid": 9, "time_ns": 35, "kind": 5, "exit_code": 6},
            {**daemon, "pid": 5, "tid": 5, "time_ns": 41, "kind": 4, "exit_code": 9},
            {**daemon, "pid": 6, "tid": 6, "time_ns": 42, "kind": 4, "exit_code": 128 | 9},
        )
    )
    assert found.select("tid", "signal", "exit_code", "role").rows() == [
        (5, 9, None, "daemon"),
        (6, 9, None, "daemon"),
        (7, 11, None, "daemon"),
        (8, None, None, "daemon"),
        (9, None, None, "daemon"),
    ]


def test_one_record_as_a_daemon_makes_a_daemon(make_raw: Any) -> None:
    one = {"start_ns": 10, "pid": 7, "tid": 7}
    found = tasks(
        make_raw(TASK, {**one, "time_ns": 1, "role": 2}, {**one, "time_ns": 2, "role": 1})
    )
    assert found["role"].to_list() == ["daemon"]


def test_founders_are_found_once_and_by_the_last_fork_of_a_pid(make_raw: Any) -> None:
    """A pid that was given again; two daemons of one mount with the same parent."""
    fork: dict[str, Any] = {"kind": 2, "role": 2}
    events = make_raw(
        TASK,
        {**fork, "pid": 32, "tid": 32, "parent_pid": 90},
        {**fork, "pid": 32, "tid": 32, "parent_pid": 31},
        {**fork, "pid": 33, "tid": 33, "parent_pid": 31},
        {**fork, "pid": 31, "tid": 31, "parent_pid": 33},
        {**fork, "pid": 32, "tid": 32, "parent_pid": 91, "kind": 3},
    )
    serving = pl.DataFrame(
        {"pid": [32, 33], "mount_id": [4, 4]}, schema=dict.fromkeys(("pid", "mount_id"), pl.Int32)
    )
    assert with_founders(serving, events).rows() == [(32, 4), (33, 4), (31, 4)]


def test_added_threads_are_in_order_of_time(make_raw: Any) -> None:
    seen = tasks(
        make_raw(TASK, {"time_ns": 5, "start_ns": 5, "pid": 7, "tid": 7, "role": 1, "kind": 2})
    )
    operations = pl.DataFrame(
        {"pid": [7, 7], "tid": [9, 8], "start_ns": [5, 2]},
        schema={"pid": pl.Int32, "tid": pl.Int32, "start_ns": pl.Int64},
    )
    assert with_unannounced(seen, operations)["tid"].to_list() == [8, 7, 9]


def test_the_last_of_several_exits_counts(make_raw: Any) -> None:
    one = {"start_ns": 10, "pid": 7, "tid": 7, "role": 1, "kind": 4}
    exits = ({**one, "time_ns": at, "exit_code": code << 8} for at, code in ((40, 2), (30, 1)))
    found = tasks(make_raw(TASK, *exits))
    assert found.select("end_ns", "exit_code").rows() == [(40, 2)]


def test_a_record_after_the_exit_leaves_the_end_as_it_is(make_raw: Any) -> None:
    one = {"start_ns": 10, "pid": 7, "tid": 7, "role": 2}
    records = [{**one, "time_ns": 40, "kind": 4, "exit_code": 9}, {**one, "time_ns": 41, "kind": 2}]
    found = tasks(make_raw(TASK, *records))
    assert found.select("end_ns", "exit_code", "signal").rows() == [(40, None, 9)]
