"""Incidents, phases, stalls, probes, losses."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.profiler.attribution.stalls import stalls
from cvmprof.profiler.device.runner import runner_operations
from cvmprof.profiler.health.incidents import IncidentEvidence, incidents
from cvmprof.profiler.health.observation import losses, probes
from cvmprof.profiler.kernel.phases import phases
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.tables import conform, empty

#: no daemon died of a signal
NO_CALLS = pl.DataFrame(
    schema={"pid": pl.Int32, "crash_ns": pl.Int64, "crash_tid": pl.Int32, "doing": pl.String}
)


def mark(name: str, event: str, time_ns: int, tid: int = 1) -> dict[str, Any]:
    return {"name": name, "event": event, "time_ns": time_ns, "pid": 1, "tid": tid}


def test_phases_nest_by_name_and_thread() -> None:
    found = phases(
        [
            mark("load", "begin", 1),
            mark("run", "begin", 2),
            mark("run", "begin", 3),
            mark("run", "end", 4),
            mark("run", "begin", 4, tid=2),
            mark("run", "end", 5),
            mark("load", "end", 6, tid=2),
            mark("stray", "end", 7),
            {"name": "x"},
        ]
    )
    assert found.select("name", "start_ns", "end_ns", "tid").rows() == [
        ("load", 1, None, 1),
        ("run", 2, 5, 1),
        ("run", 3, 4, 1),
        ("run", 4, None, 2),
    ]
    assert runner_operations(found).select(
        "device", "kind", "start_ns", "end_ns", "source"
    ).rows() == [
        ("runner", "run", 2, 5, "runner"),
        ("runner", "run", 3, 4, "runner"),
    ]


def test_stalls_are_the_long_gaps_before_the_last_operation() -> None:
    rows = [("d", 100, 200, 1), ("d", 110, 150, 2), ("d", 209, 300, 2), ("d", 400, 410, None),
            ("e", 20, 30, 7), ("d", 430, 440, 3)]  # fmt: skip
    ops = pl.DataFrame(
        rows, schema=["device", "start_ns", "end_ns", "tid"], orient="row"
    ).with_columns(kind=pl.lit("k"), pid=pl.lit(1), source=pl.lit("runner"))
    found = stalls(conform("gpu_ops", ops), start_ns=10, threshold_ns=10)
    assert found.select("stall_id", "device", "start_ns", "end_ns", "waiting_tid").rows() == [
        (0, "d", 10, 100, 1),
        (1, "e", 10, 20, 7),
        (2, "d", 410, 430, 3),
    ]


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


def test_probes_take_their_last_count_and_losses_their_highest() -> None:
    row = {"event": "read", "family": "tracepoint", "target": "t", "build_id": None, "reason": None}
    journal = Journal(
        (
            {"kind": "probes", "rows": [row, {**row, "event": "gpu", "reason": "no device"}]},
            {"kind": "hits", "rows": [{"event": "read", "hits": 4}]},
            {"kind": "probes", "rows": [row]},
            {"kind": "losses", "rows": [{"probe": "blocked", "cause": "ring full", "count": 3}]},
            {"kind": "hits", "rows": [{"event": "read", "hits": 9}]},
            {
                "kind": "losses",
                "rows": [
                    {"probe": "blocked", "cause": "ring full", "count": 5},
                    {"probe": "call", "cause": "map full", "count": 0},
                ],
            },
        )
    )
    found = probes(journal)
    assert found.sort("event").select("event", "hits", "reason").rows() == [
        ("gpu", 0, "no device"),
        ("read", 9, None),
    ]
    assert losses(journal).rows() == [("blocked", "ring full", 5)]
