"""Who could run and had no CPU, who had it, and which quotas there were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.cpu import DOWNLOADING, SERVING, Cpu, Holder, Lack, Quota, cpu
from cvmprof.tests.reports.synthetic import DAEMON, MAIN, MS, PID, START, Rows, run_of

DOWNLOADER, WORKER, NEIGHBOUR = DAEMON + 1, DAEMON + 2, 4000


def at(ms: float) -> int:
    return START + round(ms * MS)


def segments(rows: Rows, *given: tuple[float, float, str], tid: int = MAIN, **ids: Any) -> None:
    """Segments of a target thread, in milliseconds after the start."""
    for start, end, cause in given:
        links = {} if cause in ("cpu", "copy", "blocked") else ids
        rows.add(
            "segments", pid=PID, tid=tid, start_ns=at(start), end_ns=at(end), cause=cause, **links
        )


def waited(rows: Rows, start: float, end: float, tid: int = MAIN, **more: Any) -> None:
    """A wait for a CPU behind the neighbour, unless said otherwise."""
    rows.add(
        "cpu_waits",
        **{
            "pid": DAEMON if tid > DAEMON else PID, "tid": tid, "start_ns": at(start),
            "end_ns": at(end), "ran_pid": NEIGHBOUR, "ran_tid": NEIGHBOUR,
            "ran_name": "burn", "ran_user": "ann", "throttled": False, **more,
        },
    )  # fmt: skip


def of(rows: Rows) -> Cpu:
    return cpu(gather(run_of(rows)))


def world(**main: Any) -> Rows:
    """A target thread, and a daemon whose thread `WORKER` serves request 7 by fetch 3."""
    rows = Rows()
    rows.add("tasks", pid=PID, tid=MAIN, parent_pid=1, name="loader", role="target", start_ns=START)
    for tid in (DAEMON, DOWNLOADER, WORKER):
        rows.add(
            "tasks", pid=DAEMON, tid=tid, parent_pid=1, name="cvmfs2", role="daemon", start_ns=0
        )
    rows.add("mounts", mount_id=0, device="0:55", daemon_pid=DAEMON)
    rows.add(
        "fetches", fetch_id=3, mount_id=0, unique=7, start_ns=START, end_ns=at(90), pid=DAEMON,
        tid=WORKER, object_hash="aa", object_kind="chunk", outcome="downloaded",
    )  # fmt: skip
    return rows


def test_the_command_waits_behind_a_neighbour_and_its_own_threads() -> None:
    rows = world()
    segments(rows, (0, 40, "cpu"), (40, 70, "runqueue"), (70, 80, "blocked"), (80, 100, "runqueue"))
    waited(rows, 40, 60)
    waited(rows, 60, 70, ran_pid=NEIGHBOUR + 1, ran_user="bob")
    waited(rows, 85, 100, ran_pid=PID, ran_name="loader")
    (lack,) = of(rows).lacks
    assert lack == Lack(
        "whole command", 100 * MS, "command", 50 * MS, {"loader": 45 * MS},
        (Holder("neighbour", 30 * MS, "burn", NEIGHBOUR, 2, ("ann", "bob")),
         Holder("command", 15 * MS)),
    )  # fmt: skip
    assert (lack.share, lack.held_ns) == (0.5, 45 * MS), "5 ms are of a wait without a row"


def test_each_piece_of_a_wait_is_behind_who_ran_in_it() -> None:
    """Another thread computes in the first half, so the second is the command's time."""
    rows = world()
    segments(rows, (0, 100, "runqueue"))
    segments(rows, (0, 50, "cpu"), (50, 100, "blocked"), tid=MAIN + 1)
    waited(rows, 0, 60, ran_pid=PID)
    waited(rows, 60, 80)
    waited(rows, 80, 100, ran_pid=None, ran_name=None, ran_user=None)
    (lack,) = of(rows).lacks
    assert (lack.ns, lack.holders) == (
        50 * MS,
        (Holder("neighbour", 20 * MS, "burn", NEIGHBOUR, 1, ("ann",)), Holder("command", 10 * MS)),
    )


def test_what_is_waited_for_while_another_thread_computes_keeps_nobody_up() -> None:
    """It is counted over all threads, not as the command's time."""
    rows = world()
    segments(rows, (0, 100, "cpu"))
    segments(rows, (0, 60, "runqueue"), (60, 100, "cpu"), tid=MAIN + 1)
    waited(rows, 0, 60, tid=MAIN + 1)
    found = of(rows)
    assert found.lacks == ()
    assert (found.ran_ns, found.lacked_ns, found.wanting) == (140 * MS, 60 * MS, 2)


def test_in_a_phase_it_is_the_phases_thread_that_counts() -> None:
    rows = world()
    segments(rows, (0, 40, "cpu"), (40, 90, "runqueue"), (90, 100, "cpu"))
    segments(rows, (0, 100, "cpu"), tid=MAIN + 1)
    waited(rows, 40, 90, ran_pid=PID, ran_name="worker")
    rows.add("phases", name="load", start_ns=at(30), end_ns=at(80), pid=PID, tid=MAIN)
    assert of(rows).lacks == (
        Lack(
            "load", 50 * MS, "command", 40 * MS, {"loader": 40 * MS}, (Holder("command", 40 * MS),)
        ),
    )


def test_a_throttled_client_is_held_up_by_its_quota_whoever_ran_before() -> None:
    """By the thread that serves the request, else the download thread, else any other."""
    rows = world()
    links = {"mount_id": 0, "unique": 7, "fetch_id": 3}
    segments(rows, (0, 80, "runqueue"), (80, 100, "first_byte"), **links)
    waited(rows, 0, 20, WORKER, throttled=True)
    waited(rows, 10, 50, DOWNLOADER, throttled=True, ran_pid=0, ran_name="swapper/0")
    waited(rows, 50, 60, DAEMON + 9)
    waited(rows, 60, 75, DOWNLOADER, ran_pid=DAEMON, ran_name="cvmfs2")
    (lack,) = of(rows).lacks
    assert lack == Lack(
        "whole command", 100 * MS, "client", 80 * MS,
        {DOWNLOADING: 55 * MS, SERVING: 20 * MS},
        (Holder("quota", 50 * MS), Holder("client", 15 * MS),
         Holder("neighbour", 10 * MS, "burn", NEIGHBOUR, 1, ("ann",))),
    )  # fmt: skip


def test_an_answered_thread_that_waits_for_a_cpu_is_the_commands() -> None:
    rows = world()
    segments(rows, (0, 40, "cpu"), (40, 90, "reply"), mount_id=0, unique=7)
    waited(rows, 50, 90)
    waited(rows, 40, 90, WORKER)
    (lack,) = of(rows).lacks
    assert (lack.whose, lack.ns, lack.replied_ns) == ("command", 40 * MS, 40 * MS)


def test_an_idle_cpu_only_wakes_up_unless_a_quota_was_used_up() -> None:
    rows = world()
    segments(rows, (0, 40, "cpu"), (40, 90, "runqueue"))
    waited(rows, 40, 40.9, ran_pid=0, ran_name="swapper/0")
    waited(rows, 50, 60, ran_pid=0, ran_name="swapper/0")
    assert of(rows).lacks == ()
    sample = {"pid": PID, "path": "/job", "quota_us": 15000, "period_us": 100000}
    rows.add("cgroups", time_ns=at(0), **sample, periods=5, throttled_periods=2, throttled_ns=100)
    rows.add("cgroups", time_ns=at(50), **sample, periods=7, throttled_periods=2, throttled_ns=100)
    rows.add("cgroups", time_ns=at(90), **sample, periods=9, throttled_periods=5, throttled_ns=700)
    found = of(rows)
    assert found.quotas == (Quota("/job", "command", 0.15, 4, 3, 600),)
    assert [lack.holders for lack in found.lacks] == [(Holder("quota", 10 * MS),)]


def test_a_clients_quota_says_nothing_of_the_command() -> None:
    rows = world()
    segments(rows, (0, 40, "cpu"), (40, 90, "runqueue"))
    waited(rows, 50, 60, ran_pid=0, ran_name="swapper/0")
    for ms, count in ((0, 0), (90, 8)):
        rows.add("cgroups", time_ns=at(ms), pid=DAEMON, path="/c", quota_us=200, period_us=100,
                 periods=count, throttled_periods=count, throttled_ns=count)  # fmt: skip
    assert of(rows) == replace(
        Cpu(8, quotas=(Quota("/c", "client", 2.0, 8, 8, 8),)), ran_ns=40 * MS, lacked_ns=50 * MS,
        wanting=1,
    )  # fmt: skip


def test_nobody_lacks_a_cpu_in_an_empty_run() -> None:
    assert of(Rows()) == Cpu(8)
