"""Phases of threads in pid namespaces, and lines that are no marks."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.probes.events import BLOCKED, ROLE_DAEMON, ROLE_TARGET, TASK
from cvmprof.profiler.kernel.host_ids import HostIds
from cvmprof.profiler.kernel.phases import MOST_OPEN
from cvmprof.profiler.kernel.phases import phases as paired

FORK, EXIT = 2, 4


def phases(lines: list[dict[str, Any]], events: Any = None, **options: Any) -> pl.DataFrame:
    """The phases of a run with these TASK records."""
    return paired(lines, HostIds(events), **options)


def mark(time_ns: Any = 20, **values: Any) -> dict[str, Any]:
    return {"name": "load", "event": "begin", "time_ns": time_ns, "pid": 1, "tid": 2, **values}


def life(host: int, start_ns: int, exit_ns: int | None, **values: int) -> list[dict[str, Any]]:
    """Records of a thread that its namespace calls (1, 2)."""
    thread = {
        "pid": host, "tid": host + 1, "start_ns": start_ns, "namespace_pid": 1,
        "namespace_tid": 2, "role": ROLE_TARGET, **values,
    }  # fmt: skip
    born = {**thread, "kind": FORK, "time_ns": start_ns}
    return [born] if exit_ns is None else [born, {**thread, "kind": EXIT, "time_ns": exit_ns}]


@pytest.mark.parametrize(
    ("time_ns", "written_by"),
    [
        (9, (1, 2)), (10, (100, 101)), (39, (100, 101)), (40, (200, 201)), (60, (200, 201)),
        (61, (100, 101)), (70, (100, 101)), (71, (1, 2)),
    ],
)  # fmt: skip
def test_the_youngest_thread_alive_at_the_time_wrote_it(
    make_raw: Any, time_ns: int, written_by: tuple[int, int]
) -> None:
    events = make_raw(TASK, *life(200, 40, 60), *life(100, 10, 70))
    assert phases([mark(time_ns)], events).select("pid", "tid").rows() == [written_by]


@pytest.mark.parametrize(
    ("off_cpu", "written_by"),
    [
        ([], 200),
        ([(200, 40, 50)], 100),
        ([(200, 45, 0)], 100),
        ([(200, 41, 45)], 200),
        ([(200, 40, 45), (200, 46, 55)], 200),
        ([(100, 40, 50)], 200),
        ([(100, 40, 50), (200, 40, 50)], 200),
    ],
)
def test_a_thread_that_was_off_the_cpu_did_not_write(
    make_raw: Any, off_cpu: list[tuple[int, int, int]], written_by: int
) -> None:
    """100 is the older one, 200 the younger; the end is of the one whose phase is open."""
    events = make_raw(TASK, *life(100, 10, 70), *life(200, 40, 60))
    sleeps = [
        {"pid": host, "tid": host + 1, "start_ns": start_ns, "end_ns": end_ns}
        for host, start_ns, end_ns in off_cpu
    ]
    host_ids = HostIds(events, lambda: make_raw(BLOCKED, *sleeps))
    found = paired([mark(45), mark(55, event="end")], host_ids)
    assert found.select("pid", "end_ns").rows() == [(written_by, 55)]


def test_a_thread_that_never_exits_writes_for_ever_and_no_daemon_writes(make_raw: Any) -> None:
    events = make_raw(TASK, *life(100, 10, None), *life(200, 20, None, role=ROLE_DAEMON))
    assert phases([mark(1 << 50)], events).select("pid", "tid").rows() == [(100, 101)]


def test_a_thread_lives_until_the_last_of_its_exits(make_raw: Any) -> None:
    """A leader that exits before another thread's exec goes on."""
    events = make_raw(TASK, *life(100, 10, 70), *life(100, 10, 30))
    written_by = [phases([mark(at)], events)["pid"].to_list() for at in (31, 70, 71)]
    assert written_by == [[100], [100], [1]]


@pytest.mark.parametrize(
    "line",
    [
        mark(name=None), mark(event="middle"), mark("20"), mark(pid=None), mark(tid="2"),
        mark(framework=3), mark(-1), mark(1 << 61), mark(10**30), mark(True), mark(1.5),
        mark(pid=1 << 31), mark(pid=-1), mark(tid=10**30), mark(pid=True), mark(tid=2.0),
        {"name": "load", "event": "begin"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_mark_is_skipped(line: dict[str, Any]) -> None:
    assert phases([line, mark(30)])["start_ns"].to_list() == [30]


def test_phases_are_in_order_of_their_beginnings() -> None:
    assert phases([mark(30), mark(20), mark(25, event="end")]).select(
        "start_ns", "end_ns"
    ).rows() == [(20, 25), (30, None)]


def test_an_end_closes_the_innermost_open_phase_of_its_name_and_thread() -> None:
    """One that closes none is dropped."""
    found = phases(
        [
            mark(1),
            mark(2, name="run"),
            mark(3, name="run"),
            mark(4, name="run", event="end"),
            mark(4, name="run", tid=3),
            mark(5, name="run", event="end"),
            mark(6, event="end", tid=3),
            mark(7, name="stray", event="end"),
        ]
    )
    assert found.select("name", "start_ns", "end_ns", "tid").rows() == [
        ("load", 1, None, 2),
        ("run", 2, 5, 2),
        ("run", 3, 4, 2),
        ("run", 4, None, 3),
    ]


def test_a_call_of_a_framework_that_the_program_named_itself_is_one_phase() -> None:
    torch: dict[str, Any] = {"framework": "torch"}
    found = phases(
        [
            mark(1),
            mark(2, **torch),
            mark(3, name="first forward", **torch),
            mark(4, name="first forward", event="end", **torch),
            mark(5, tid=3, **torch),
            mark(6, event="end", **torch),
            mark(7, event="end"),
            mark(8, **torch),
            mark(9, event="end", **torch),
            mark(9, tid=3, event="end", **torch),
        ]
    )
    assert found.select("name", "start_ns", "end_ns", "tid", "framework").rows() == [
        ("load", 1, 7, 2, None),
        ("first forward", 3, 4, 2, "torch"),
        ("load", 5, 9, 3, "torch"),
        ("load", 8, 9, 2, "torch"),
    ]


# --- left open, and more than a program means -----------------------------------------------------


def test_a_phase_that_its_thread_left_open_ends_with_the_thread(make_raw: Any) -> None:
    events = make_raw(TASK, *life(100, 10, 70))
    assert phases([mark(20)], events).select("start_ns", "end_ns", "pid").rows() == [(20, 70, 100)]


def test_one_that_ended_before_its_thread_keeps_its_end(make_raw: Any) -> None:
    events = make_raw(TASK, *life(100, 10, 70))
    found = phases([mark(20), mark(30, event="end")], events)
    assert found.select("start_ns", "end_ns").rows() == [(20, 30)]


def test_of_phases_of_one_name_that_were_left_open_the_first_covers_the_others() -> None:
    left = [mark(time_ns) for time_ns in range(1, 1000)]
    others = [mark(5, tid=3), mark(6, name="other"), mark(7, name="other"), mark(8, event="end")]
    found = phases([*left, *others])
    assert found.select("name", "start_ns", "end_ns", "tid").rows() == [
        ("load", 1, None, 2),
        ("load", 5, None, 3),
        ("other", 6, None, 2),
    ]


@pytest.mark.parametrize("depth", [MOST_OPEN, MOST_OPEN + 1, 30_000])
@pytest.mark.parametrize("ends", [True, False])
def test_of_nested_phases_the_outermost_sixteen_of_a_thread_are_kept(
    depth: int, *, ends: bool
) -> None:
    names = [f"step {number}" for number in range(depth)]
    begun = [mark(time_ns, name=name) for time_ns, name in enumerate(names, 1)]
    ended = [mark(1 << 20, name=name, event="end") for name in reversed(names) if ends]
    after = [mark(1 << 20), mark(1 << 21, event="end"), mark(1 << 21, tid=3)]
    found = phases([*begun, *ended, *after])
    outermost = [(time_ns, 1 << 20 if ends else None) for time_ns in range(1, MOST_OPEN + 1)]
    assert found.select("start_ns", "end_ns").rows() == [
        *outermost,
        (1 << 20, 1 << 21),
        (1 << 21, None),
    ]


# --- outside of the run ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([mark(9), mark(15, event="end")], []),
        ([mark(10), mark(20, event="end")], [(10, 20)]),
        ([mark(15), mark(21, event="end")], [(15, None)]),
        ([mark(21), mark(22, event="end")], []),
        ([mark(9), mark(15), mark(16, event="end"), mark(17, event="end")], [(15, 16)]),
        ([mark(15), mark(14, event="end")], [(15, None)]),
    ],
    ids=str,
)
def test_what_lies_outside_the_recorded_time_is_left_out(
    marks: list[dict[str, Any]], expected: list[tuple[int, int | None]]
) -> None:
    """Also an end that is before its begin."""
    assert phases(marks, span=(10, 20)).select("start_ns", "end_ns").rows() == expected


def test_a_name_is_cut_after_256_characters() -> None:
    found = phases([mark(name="n" * 300), mark(30, name="n" * 300, event="end")])
    assert found.select("name", "end_ns").rows() == [("n" * 256, 30)]
