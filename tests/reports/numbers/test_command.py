"""What the command as a whole waited for, in numbers."""

from __future__ import annotations

import re
from pathlib import Path

from cvmprof.reports import material
from cvmprof.tests.reports.rows import command_time, fetch, statistics_of, tile
from cvmprof.tests.reports.synthetic import MAIN, MS, PID, Rows, tiny_rows

OTHER = 7


def task(rows: Rows, tid: int, start: int, end: int | None, **row: object) -> None:
    usual = {"pid": PID, "parent_pid": 1, "name": "python3", "role": "target"}
    rows.add("tasks", tid=tid, start_ns=start, end_ns=end, **{**usual, **row})


def two_processes() -> Rows:
    """The main thread looks on while a worker of its waits, and another process computes."""
    rows = Rows()
    task(rows, MAIN, 0, 100, pid=MAIN, argv=["python3", "launch.py"])
    task(rows, 102, 10, 100, pid=MAIN, name="worker")
    task(rows, OTHER, 40, None, pid=OTHER, name="compute")
    task(rows, 9, 0, 100, pid=9, role="daemon")
    tile(rows, 0, 40, "blocked")
    tile(rows, 40, 44, "cpu")
    tile(rows, 44, 100, "blocked")
    tile(rows, 10, 40, "transfer", tid=102, unique=1, fetch_id=1)
    tile(rows, 40, 90, "runqueue", tid=102, unique=2)
    tile(rows, 90, 100, "blocked", tid=102)
    for row in rows.rows["segments"]:
        row["pid"] = MAIN
    tile(rows, 50, 60, "cpu", tid=OTHER)
    rows.rows["segments"][-1]["pid"] = OTHER
    return rows


def test_one_cause_at_each_instant() -> None:
    found = statistics_of(two_processes()).command_time
    assert found.wall_ns == 100
    assert found.causes_ns == {"runqueue": 40, "transfer": 30, "blocked": 20, "cpu": 10}
    assert (found.cvmfs_ns, found.fetch_ns, found.polled_ns) == (70, 30, 4)


def test_the_time_of_all_threads() -> None:
    found = statistics_of(two_processes()).command_time
    assert found.threads_ns == 200
    assert found.thread_causes_ns == {"blocked": 106, "runqueue": 50, "transfer": 30, "cpu": 14}
    assert found.thread_cvmfs_ns == 80


def test_the_fetches_that_any_thread_waited_for() -> None:
    rows = two_processes()
    for fetch_id, start, end, joined in ((1, 10, 30, None), (2, 20, 40, None), (3, 20, 50, 2),
                                         (4, 0, 90, None)):  # fmt: skip
        fetch(rows, start, end, fetch_id=fetch_id, joined_fetch_id=joined,
              outcome="downloaded" if joined is None else "joined")  # fmt: skip
    tile(rows, 60, 70, "fetch_joined", tid=OTHER, fetch_id=3)
    found = statistics_of(rows).command_time.fetches
    assert (found.downloaded, found.joined) == (2, 0)
    assert (found.summed_ns, found.busy_ns, found.most_at_once) == (40, 30, 2)


def test_each_process_the_longest_first() -> None:
    launch, compute = statistics_of(two_processes()).command_time.processes
    assert (launch.pid, launch.name, launch.threads) == (MAIN, "python3", 2)
    assert (launch.argv, launch.start_ns, launch.end_ns) == (("python3", "launch.py"), 0, 100)
    assert (launch.wall_ns, launch.cvmfs_ns) == (100, 80)
    assert launch.causes_ns == {"runqueue": 50, "transfer": 30, "blocked": 20}
    assert (compute.pid, compute.name, compute.argv, compute.threads) == (OTHER, "compute", None, 1)
    assert (compute.start_ns, compute.end_ns, compute.wall_ns) == (40, None, 10)
    assert (compute.causes_ns, compute.cvmfs_ns) == ({"cpu": 10}, 0)


def test_of_many_processes_the_longest_are_told() -> None:
    rows = Rows()
    for pid in range(1, material.MAX_PROCESSES + 3):
        tile(rows, 0, pid, "cpu", tid=pid)
        rows.rows["segments"][-1]["pid"] = pid
    found = statistics_of(rows).command_time
    assert found.process_count == material.MAX_PROCESSES + 2
    assert [each.pid for each in found.processes] == list(range(material.MAX_PROCESSES + 2, 2, -1))


def test_an_asynchronous_read_in_flight_is_waited_for() -> None:
    rows = Rows()
    tile(rows, 0, 100, "blocked")
    rows.add("fuse_requests", mount_id=0, unique=1, opcode=15, node_id=1, pid=PID, tid=MAIN,
             queued_ns=20, served_ns=20, end_ns=70, error=0)  # fmt: skip
    found = statistics_of(rows).command_time
    assert found.causes_ns == {"blocked": 50, "daemon": 50}
    assert (found.cvmfs_ns, found.thread_cvmfs_ns) == (50, 0)


def test_a_lock_whose_holder_fetched_counts_as_a_fetch_in_phases_too() -> None:
    rows = Rows()
    tile(rows, 0, 100, "daemon_lock", mount_id=0, unique=1)
    rows.add("phases", name="load", start_ns=20, end_ns=80, pid=PID, tid=MAIN)
    rows.add("lock_waits", mount_id=0, unique=1, start_ns=0, end_ns=100, pid=9, tid=9,
             holder_tid=8, holder_fetch_id=3, kind="same_handle")  # fmt: skip
    rows.add("fetches", fetch_id=3, start_ns=10, end_ns=60, pid=9, tid=8, object_kind="chunk",
             outcome="downloaded")  # fmt: skip
    found = statistics_of(rows)
    assert found.command_time.causes_ns == {"daemon_lock": 100}
    assert (found.command_time.cvmfs_ns, found.command_time.fetch_ns) == (100, 50)
    (load,) = found.phases
    assert (load.cvmfs_ns, load.fetch_ns) == (60, 40)


def test_of_a_run_without_segments_nothing_is_said() -> None:
    found = statistics_of(Rows()).command_time
    assert (found.wall_ns, found.threads_ns, found.processes) == (0, 0, ())


def test_a_run_lasts_as_long_as_its_command() -> None:
    for rows in (tiny_rows(), two_processes()):
        found = statistics_of(rows)
        assert found.duration_ns == found.command_time.wall_ns > 0


def test_json_has_the_commands_time() -> None:
    written = statistics_of(tiny_rows()).as_json()["command_time"]
    assert written["wall_ns"] == sum(written["causes_ns"].values()) == 100 * MS
    assert written["processes"][0]["pid"] == PID


def test_its_keys_are_documented(repository_root: Path) -> None:
    text = (repository_root / "docs" / "summary.md").read_text(encoding="utf-8")
    written = statistics_of(tiny_rows()).as_json()["command_time"]
    gains = written["gains"]
    keys = {"command_time", *written, *written["processes"][0], *gains, *gains["first_byte"]}
    assert keys <= set(re.findall(r"`(\w+)`", text))


def test_the_tests_own_command_time_adds_up() -> None:
    made = command_time(10, transfer=6 * MS, cpu=4 * MS)
    assert (made.wall_ns, made.cvmfs_ns, made.fetch_ns) == (10 * MS, 6 * MS, 6 * MS)
    assert made.processes[0].causes_ns == made.causes_ns
