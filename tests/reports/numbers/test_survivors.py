from __future__ import annotations

from typing import Any

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.survivors import Survivor, Survivors, survivors
from cvmprof.tests.reports.synthetic import MS, START, Rows, run_of


def task(rows: Rows, pid: int, begun_ms: int, ended_ms: int | None, **row: Any) -> None:
    end_ns = None if ended_ms is None else START + ended_ms * MS
    plain = {"pid": pid, "tid": pid, "parent_pid": 1, "name": f"name {pid}", "role": "target"}
    rows.add("tasks", start_ns=START + begun_ms * MS, end_ns=end_ns, **{**plain, **row})


def segment(rows: Rows, pid: int, tid: int, end_ms: int, cause: str, **ids: int) -> None:
    times = {"start_ns": START + (end_ms - 1) * MS, "end_ns": START + end_ms * MS}
    rows.add("segments", pid=pid, tid=tid, cause=cause, **times, **ids)


def of(rows: Rows, **changes: Any) -> Survivors:
    return survivors(gather(run_of(rows, **changes)))


def test_processes_without_an_end_are_named_with_what_they_did_last() -> None:
    rows = Rows()
    task(rows, 7, 0, 50)
    task(rows, 9, 20, None, argv=["cat", "model"])
    task(rows, 8, 10, None)
    for at_ms, cause in ((40, "cpu"), (50, "disk")):
        segment(rows, 9, 9, at_ms, cause)
    assert of(rows) == Survivors((Survivor(8, "name 8", (), None),
                                  Survivor(9, "name 9", ("cat", "model"), "disk")))  # fmt: skip


def test_a_thread_inside_a_request_says_what_its_process_waits_for() -> None:
    rows = Rows()
    task(rows, 7, 0, 50)
    task(rows, 8, 10, None)
    task(rows, 8, 11, None, tid=81)
    segment(rows, 8, 8, 50, "blocked")
    segment(rows, 8, 81, 50, "runqueue", mount_id=0, unique=4)
    (survivor,) = of(rows).processes
    assert (survivor.pid, survivor.cause) == (8, "runqueue")


def test_a_process_lives_while_one_of_its_threads_does() -> None:
    rows = Rows()
    task(rows, 7, 0, 50)
    task(rows, 8, 10, 20)
    task(rows, 8, 11, None, tid=81)
    assert [each.pid for each in of(rows).processes] == [8]


def test_none_where_all_ended_or_recording_was_cut_off() -> None:
    ended, cut_off = Rows(), Rows()
    task(ended, 7, 0, 50)
    task(ended, 900, 0, None, role="daemon")
    task(cut_off, 7, 0, None)
    assert of(ended) == of(cut_off, complete=False) == Survivors()


def test_the_command_itself_outlives_a_recording_of_limited_duration() -> None:
    rows = Rows()
    task(rows, 7, 0, None)
    found = of(rows, options={"until": "all"})
    assert (found.command_did, found.until) == (True, "all")
