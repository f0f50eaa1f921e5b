"""Incidents: mounts, deaths, hangs, and what daemons did when they crashed; stalls."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import TASK
from cvmprof.profiler.health.incidents import IncidentEvidence, incidents, last_calls
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.tables import conform, empty
from cvmprof.tests.profiler.rows import rows

#: no daemon died of a signal
NO_CALLS = pl.DataFrame(
    schema={"pid": pl.Int32, "crash_ns": pl.Int64, "crash_tid": pl.Int32, "doing": pl.String}
)


def test_a_hang_lasts_a_second_of_its_tasks_life() -> None:
    """Of four that read without end, one is killed early, one late, one has its tid from a task
    that ended before, and one outlasts the recording.
    """
    second = 1_000_000_000
    tasks = conform(
        "tasks",
        pl.DataFrame(
            {
                "pid": [1, 2, 3, 3, 4],
                "tid": [1, 2, 3, 3, 4],
                "parent_pid": 0,
                "name": "cat",
                "role": "target",
                "start_ns": [1, 1, 1, 40, 1],
                "end_ns": [second + 49, second + 50, 20, None, None],
            }
        ),
    )
    operations = conform(
        "operations",
        pl.DataFrame(
            {
                "op_id": [0, 1, 2, 3],
                "kind": "read",
                "start_ns": 50,
                "pid": [1, 2, 3, 4],
                "tid": [1, 2, 3, 4],
                "result": 0,
                "passthrough": False,
            }
        ),
    )
    evidence = IncidentEvidence(
        mounts=empty("mounts"),
        tasks=tasks,
        operations=operations,
        requests=empty("fuse_requests"),
        files=empty("files"),
        last_calls=NO_CALLS,
        stop_ns=9 * second,
    )
    found = incidents(Journal(()), evidence)
    assert found.select("kind", "pid").rows() == [("hang", 2), ("hang", 3), ("hang", 4)]


def test_incidents_in_order() -> None:
    mounted = conform(
        "mounts",
        pl.DataFrame(
            {
                "mount_id": [0, 1, 2, 3],
                "device": ["0:50", "0:50", "0:51", "8:1"],
                "mountpoint": ["/m", "/m", None, "/"],
                "daemon_pid": [200, 201, None, None],
                "filesystem": ["fuse", "fuse", "fuse", "ext4"],
                "start_ns": [None, 700, 100, 5],
            }
        ),
    ).with_columns(dev=pl.Series([50, 50, 51, 8], dtype=pl.UInt32))
    tasks = conform(
        "tasks",
        pl.DataFrame(
            {
                "pid": [200, 200, 201, 1, 300, 301],
                "tid": [200, 202, 201, 1, 300, 301],
                "parent_pid": [0] * 6,
                "name": ["cvmfs2"] * 6,
                "role": ["daemon", "daemon", "daemon", "target", "daemon", "daemon"],
                "start_ns": [1] * 6,
                "end_ns": [600, 601, 800, None, 910, 920],
                "exit_code": [None, None, 1, None, 0, None],
                "signal": [9, 9, None, None, None, 15],
            }
        ),
    )
    operations = conform(
        "operations",
        pl.DataFrame(
            {
                "op_id": [0, 1, 2, 3],
                "kind": ["read", "read", "read", "open"],
                "start_ns": [50, 2_000_000_000, 50, 60],
                "end_ns": [None, None, 60, None],
                "pid": [1] * 4,
                "tid": [1] * 4,
                "file_id": [4, 4, 4, None],
                "result": [0] * 4,
                "passthrough": [False] * 4,
            }
        ),
    )
    files = conform(
        "files",
        pl.DataFrame(
            {"file_id": [4], "mount_id": [0], "inode": [7], "generation": [0], "path": ["/m/x"]}
        ),
    )
    requests = conform(
        "fuse_requests",
        pl.DataFrame(
            {
                "mount_id": [0],
                "unique": [2],
                "opcode": [14],
                "node_id": [7],
                "pid": [1],
                "tid": [1],
                "error": [0],
                "op_id": [3],
            }
        ),
    )
    journal = Journal(
        ({"kind": "incident", "time_ns": 650, "incident": "reload", "pid": 200, "detail": "d"},)
    )
    evidence = IncidentEvidence(
        mounts=mounted,
        tasks=tasks,
        operations=operations,
        requests=requests,
        files=files,
        last_calls=NO_CALLS,
        stop_ns=2_500_000_000,
    )
    found = incidents(journal, evidence)
    assert found.select("time_ns", "kind", "pid", "mount_id", "signal", "detail").rows() == [
        (50, "hang", 1, 0, None, "read of /m/x never ended"),
        (60, "hang", 1, 0, None, "open of /m/x never ended"),
        (100, "mount", None, 2, None, "0:51 mounted at an unknown place"),
        (600, "crash", 200, 0, 9, "daemon 200 (cvmfs2) killed by signal 9"),
        (650, "reload", 200, None, None, "d"),
        (700, "remount", 201, 1, None, "0:50 mounted at /m"),
        (800, "exit", 201, 1, None, "daemon 201 (cvmfs2) exited with status 1"),
        (920, "crash", 301, None, 15, "daemon 301 (cvmfs2) killed by signal 15"),
    ]


SECOND = 1_000_000_000


def incidents_of(stop_ns: int = 99 * SECOND, **frames: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Incidents: time, kind, tid, mount, detail."""
    nothing = {
        "mounts": empty("mounts"), "tasks": empty("tasks"), "operations": empty("operations"),
        "requests": empty("fuse_requests"), "files": empty("files"), "last_calls": NO_CALLS,
    }  # fmt: skip
    found = incidents(Journal(()), IncidentEvidence(**{**nothing, **frames}, stop_ns=stop_ns))
    return found.select("time_ns", "kind", "tid", "mount_id", "detail").rows()


def test_a_mount_at_a_place_where_one_was_is_a_remount() -> None:
    """Not one at an unknown place, nor of another file system."""
    mount = {"device": "0:50", "mountpoint": "/m", "filesystem": "fuse.cvmfs2"}
    found = incidents_of(
        mounts=rows(
            "mounts",
            {**mount, "mount_id": 0, "start_ns": 300},
            {**mount, "mount_id": 1, "start_ns": 200, "filesystem": "cvmfs"},
            {**mount, "mount_id": 2, "mountpoint": None, "start_ns": 5},
            {**mount, "mount_id": 3, "mountpoint": None, "start_ns": 6},
            {**mount, "mount_id": 4, "mountpoint": "/n", "start_ns": 7},
            {**mount, "mount_id": 5, "mountpoint": "/p", "filesystem": None, "start_ns": 8},
            {**mount, "mount_id": 6, "mountpoint": "/o"},
            {**mount, "mount_id": 7, "mountpoint": "/o", "start_ns": 9},
        )
    )
    assert [row[:2] + row[3:4] for row in found] == [
        (5, "mount", 2), (6, "mount", 3), (7, "mount", 4), (9, "remount", 7), (200, "mount", 1),
        (300, "remount", 0),
    ]  # fmt: skip


def test_a_daemon_of_several_mounts_dies_once() -> None:
    """Only the end of its process; of the last mount; one that goes on does not die."""
    daemon = {"pid": 9, "tid": 9, "role": "daemon", "name": "c", "end_ns": 5}
    served = ({"mount_id": number, "daemon_pid": 9} for number in (0, 1))
    found = incidents_of(
        mounts=rows("mounts", *served, {"mount_id": 2}),
        tasks=rows(
            "tasks",
            {**daemon, "exit_code": 3},
            {**daemon, "tid": 8, "exit_code": 3},
            {**daemon, "role": "target"},
            {**daemon, "pid": 7, "tid": 7, "exit_code": 0},
            {**daemon, "end_ns": None},
        ),
    )
    assert found == [(5, "exit", 9, 1, "daemon 9 (c) exited with status 3")]


CRASHED = {"pid": pl.Int32, "crash_ns": pl.Int64, "crash_tid": pl.Int32, "doing": pl.String}


def test_a_crash_is_dated_by_its_signal_and_an_exit_is_not() -> None:
    ended = {"role": "daemon", "name": "c", "end_ns": 50}
    found = incidents_of(
        mounts=rows("mounts", {"daemon_pid": 7}),
        tasks=rows(
            "tasks",
            {**ended, "pid": 9, "tid": 9, "signal": 11},
            {**ended, "pid": 8, "tid": 8, "signal": 9},
            {**ended, "pid": 7, "tid": 7, "exit_code": 0},
            {**ended, "pid": 6, "tid": 6, "signal": 6},
        ),
        last_calls=pl.DataFrame(
            [(9, 40, 12, "in f"), (7, 41, 13, "in g"), (6, 42, 14, None)],
            schema=CRASHED,
            orient="row",
        ),
    )
    assert found == [
        (40, "crash", 12, None, "daemon 9 (c) killed by signal 11, in f"),
        (42, "crash", 14, None, "daemon 6 (c) killed by signal 6"),
        (50, "crash", None, None, "daemon 8 (c) killed by signal 9"),
        (50, "exit", 7, 0, "daemon 7 (c) exited with status 0"),
    ]


def call(number: int, tid: int, start: int, end: int | None, **more: Any) -> dict[str, Any]:
    return {"call_id": number, "pid": 9, "tid": tid, "function": f"f{number}", "start_ns": start,
            "end_ns": end, **more}  # fmt: skip


def doing(make_raw: Any, *calls: dict[str, Any]) -> list[Any]:
    """What process 9 did when its thread 5 got the first of two signals, at 100 ms."""
    at = 100_000_000
    signal = {"pid": 9, "kind": 5, "role": 2}
    events = make_raw(
        TASK,
        {**signal, "time_ns": at + 1, "tid": 6},
        {**signal, "time_ns": at, "tid": 5},
        {**signal, "time_ns": 1, "tid": 7, "kind": 4},
    )
    found = last_calls(events, rows("daemon_calls", *calls))
    assert found.select("pid", "crash_ns", "crash_tid").rows() == [(9, at, 5)]
    return found["doing"].to_list()


def test_the_innermost_call_of_the_thread_then_of_the_process_then_the_last(make_raw: Any) -> None:
    """A call that returns with the signal is inside; one that begins with it too."""
    at = 100_000_000
    own = (call(1, 5, 20_000_000, None), call(2, 5, 30_000_000, at))
    other = (call(3, 6, 40_000_000, None), call(4, 6, 50_000_000, None, object_hash="ab" * 20))
    done = (call(5, 5, 60_000_000, at - 1), call(6, 6, 55_000_000, at - 1))
    later = call(7, 5, at + 1, None)
    assert doing(make_raw, *done, *other, *own, later) == ["in f2, begun 70.0 ms before"]
    assert doing(make_raw, *done, *other) == [
        "while thread 6 was in f4 of abababab, begun 50.0 ms before"
    ]
    assert doing(make_raw, *done, later) == ["after its last call f5, begun 40.0 ms before"]
    assert doing(make_raw, call(8, 5, at, None)) == ["in f8, begun 0.0 ms before"]
    assert doing(make_raw, later, call(9, 5, 1, None, pid=8)) == [None]


def test_an_operation_hangs_from_a_second_on() -> None:
    """Until its task died, both ends of whose life count, else until the recording ended."""
    operation = {"pid": 1, "start_ns": 100}
    life = {"pid": 1, "start_ns": 100}
    found = incidents_of(
        stop_ns=SECOND + 103,
        operations=rows(
            "operations",
            {**operation, "op_id": 0, "tid": 1},
            {**operation, "op_id": 1, "tid": 2},
            {**operation, "op_id": 2, "tid": 3, "start_ns": 103},
            {**operation, "op_id": 3, "tid": 4, "start_ns": 104},
            {**operation, "op_id": 4, "tid": 5, "end_ns": 2 * SECOND},
            {**operation, "op_id": 5, "tid": 6, "start_ns": 102},
        ),
        tasks=rows(
            "tasks",
            {**life, "tid": 1, "end_ns": SECOND + 99},
            {**life, "tid": 2, "end_ns": SECOND + 100},
            {**life, "tid": 3, "end_ns": 9 * SECOND},
            {**life, "tid": 6, "end_ns": 101},
            {**life, "tid": 6, "start_ns": 103, "end_ns": 104},
            {**life, "tid": 6, "pid": 2, "end_ns": 105},
        ),
    )
    assert [row[2] for row in found] == [2, 6, 3]


def test_a_hang_without_a_file_is_of_the_request_that_was_not_answered() -> None:
    """Of its own file where that is known; each operation once."""
    files = rows(
        "files",
        {"file_id": 0, "mount_id": 3, "inode": 7, "path": "/own"},
        {"file_id": 1, "mount_id": 4, "inode": 7, "path": "/asked"},
        {"file_id": 2, "mount_id": 4, "inode": 7, "generation": 1, "path": "/asked"},
    )
    asked = {"mount_id": 4, "node_id": 7}
    found = incidents_of(
        files=files,
        operations=rows(
            "operations",
            {"op_id": 0, "tid": 0, "file_id": 0},
            {"op_id": 1, "tid": 1, "start_ns": 1, "kind": "open"},
            {"op_id": 2, "tid": 2, "start_ns": 2},
            {"op_id": 3, "tid": 3, "start_ns": 3},
        ),
        requests=rows(
            "fuse_requests",
            {**asked, "unique": 2, "op_id": 0},
            {**asked, "unique": 4, "op_id": 1},
            {**asked, "unique": 6, "op_id": 1},
            {**asked, "unique": 8, "op_id": 2, "end_ns": 5},
            {**asked, "unique": 10, "op_id": 3, "node_id": 8},
        ),
    )
    assert found == [
        (0, "hang", 0, 3, "read of /own never ended"),
        (1, "hang", 1, 4, "open of /asked never ended"),
        (2, "hang", 2, None, "read of an unknown file never ended"),
        (3, "hang", 3, 4, "read of an unknown file never ended"),
    ]


def test_a_dead_mount_is_an_incident_of_its_first_failed_access() -> None:
    operations = rows(
        "operations",
        {"op_id": 0, "start_ns": 5, "pid": 1, "tid": 2, "result": -5},
        {"op_id": 1, "start_ns": 8, "pid": 1, "tid": 2, "result": -107},
        {"op_id": 2, "start_ns": 7, "pid": 1, "tid": 3, "result": -107},
        {"op_id": 3, "start_ns": 9, "pid": 1, "tid": 3, "result": -107},
    )
    mounted = [{"mount_id": 4, "mountpoint": "/m"}, {"mount_id": 6, "mountpoint": "/whole"}]
    failed = [
        {"op_id": 0, "mount_id": 6},
        *({"op_id": n, "mount_id": 4} for n in (1, 2)),
        {"op_id": 3},
    ]
    evidence = IncidentEvidence(
        mounts=rows("mounts", *mounted),
        tasks=empty("tasks"),
        operations=operations,
        requests=empty("fuse_requests"),
        files=empty("files"),
        last_calls=NO_CALLS,
        stop_ns=99,
        failed=rows("failed_operations", *failed),
    )
    found = incidents(Journal(()), evidence)
    assert found.select("time_ns", "kind", "tid", "mount_id").rows() == [
        (7, "dead", 3, 4),
        (9, "dead", 3, None),
    ]
    assert found["detail"].str.extract("^(.*) is dead: its client has ended").to_list() == [
        "/m", "an unknown mount",
    ]  # fmt: skip
