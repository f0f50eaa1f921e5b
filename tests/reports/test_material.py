"""What a report is made from: the window, the phases, and the views of their causes."""

from __future__ import annotations

from typing import Any

import pytest

from cvmprof.reports.material import Material, gather
from cvmprof.tests.reports.synthetic import PID, START, Rows, SyntheticRun

OTHER = 7


def of(rows: Rows, **meta: Any) -> Material:
    return gather(SyntheticRun(meta, rows.frames()))


def tile(rows: Rows, start: int, end: int, cause: str = "cpu", tid: int = 1, **ids: Any) -> None:
    rows.add("segments", pid=PID, tid=tid, start_ns=start, end_ns=end, cause=cause, **ids)


def phase(rows: Rows, start: int, end: int | None, tid: int = 1) -> None:
    rows.add("phases", name="p", start_ns=start, end_ns=end, pid=PID, tid=tid)


def test_the_window_is_the_life_of_all_threads() -> None:
    rows = Rows()
    for tid, start, end in ((1, 300, 500), (2, 200, 400), (3, 350, 360)):
        tile(rows, start, end, tid=tid)
    window = of(rows, start_ns=1, stop_ns=9_999).window
    assert (window.start_ns, window.end_ns, window.duration_ns) == (200, 500, 300)


@pytest.mark.parametrize(("meta", "expected"), [
    ({"start_ns": 100, "stop_ns": 150}, (100, 150)),
    ({"start_ns": 100, "stop_ns": 101}, (100, 101)),
    ({"start_ns": 100, "stop_ns": 100}, (100, 101)),
    ({"start_ns": 100, "stop_ns": None}, (100, 101)),
    ({"start_ns": None, "stop_ns": None}, (0, 1)),
    ({}, (0, 1)),
])  # fmt: skip
def test_without_segments_the_window_is_what_the_recorder_said(
    meta: dict[str, Any], expected: tuple[int, int]
) -> None:
    window = of(Rows(), **meta).window
    assert (window.start_ns, window.end_ns) == expected


def task(rows: Rows, tid: int, start: int, role: str = "target") -> None:
    rows.add("tasks", pid=tid * 10, tid=tid, parent_pid=1, name="n", role=role, start_ns=start)


def test_without_phases_the_first_target_thread_has_one() -> None:
    rows = Rows()
    for tid, start, role in ((5, 30, "target"), (4, 20, "target"), (3, 20, "target"),
                             (9, 10, "daemon"), (2, 40, "target")):  # fmt: skip
        task(rows, tid, start, role)
    tile(rows, 50, 80, tid=3)
    assert of(rows).phases.select("name", "start_ns", "end_ns", "pid", "tid").rows() == [
        ("whole command", 50, 80, 30, 3)
    ]
    assert of(rows).phase_causes.rows() == [(0, "cpu", 30)]


def test_without_target_threads_there_is_no_phase() -> None:
    rows = Rows()
    task(rows, 9, 10, "daemon")
    assert of(rows).phases.is_empty()


def test_marked_phases_stand_as_they_are() -> None:
    rows = Rows()
    task(rows, 1, 0)
    phase(rows, 20, None)
    phase(rows, 5, 10)
    assert of(rows).phases.select("start_ns", "end_ns").rows() == [(20, None), (5, 10)]


def test_causes_are_those_of_the_phases_own_thread_within_it() -> None:
    rows = Rows()
    tile(rows, 0, 10)
    tile(rows, 10, 30, "transfer")
    tile(rows, 30, 60)
    tile(rows, 0, 60, "disk", tid=2)
    phase(rows, 5, 15)
    phase(rows, 20, None)  # lasts as long as its thread
    assert of(rows).phase_causes.rows() == [
        (0, "cpu", 5), (0, "transfer", 5), (1, "cpu", 30), (1, "transfer", 10),
    ]  # fmt: skip


def test_causes_follow_the_wakers() -> None:
    rows = Rows()
    tile(rows, 0, 10, "blocked", via_tid=2)
    tile(rows, 0, 10, "transfer", tid=2, fetch_id=4)
    phase(rows, 0, 10)
    rows.add("stalls", stall_id=3, device="d", start_ns=2, end_ns=6, waiting_tid=1)
    found = of(rows)
    assert found.phase_causes.rows() == [(0, "transfer", 10)]
    assert found.phase_fetches.rows() == [(0, 4)]
    assert found.stall_causes.rows() == [(3, "transfer", 4)]


def test_the_downloads_that_phases_waited_for() -> None:
    """One that joined another's download waited for that; each counts once a phase."""
    rows = Rows()
    for fetch_id, joined in ((1, None), (2, 1), (3, None), (4, None)):
        rows.add("fetches", fetch_id=fetch_id, joined_fetch_id=joined, pid=9, tid=9, start_ns=0)
    waits = ((0, 10, 3), (10, 20, 1), (20, 25, 3), (25, 30, 2), (30, 40, 3), (40, 50, None),
             (50, 60, 8))  # fmt: skip
    for start, end, waited_for in waits:
        tile(rows, start, end, "transfer", fetch_id=waited_for)
    phase(rows, 30, 60)
    phase(rows, 0, 30)
    assert of(rows).phase_fetches.rows() == [(0, 3), (0, 8), (1, 1), (1, 3)]


def hits(rows: Rows, start: int, end: int, count: int, ns: int, **row: Any) -> None:
    plain = {"pid": PID, "tid": 1, "file_id": 0, "kind": "read", "bytes": 1, "max_ns": 1}
    rows.add("hits", start_ns=start, end_ns=end, count=count, ns=ns, **{**plain, **row})


def test_hits_count_by_the_share_that_lies_inside_and_on_the_cpu() -> None:
    rows = Rows()
    tile(rows, 0, 100)
    tile(rows, 100, 150, "runqueue")
    tile(rows, 150, 200)
    phase(rows, 20, 180)
    hits(rows, 0, 40, 100, 40)  # half inside, on the CPU
    hits(rows, 80, 120, 10, 20)  # half of it off the CPU
    hits(rows, 160, 160, 6, 3)  # of no length
    hits(rows, 30, 40, 7, 9, tid=OTHER)
    assert of(rows).phase_hits.rows() == [(0, 50 + 10, 20 + 10)]


def test_hits_of_phases_are_kept_apart_and_rounded() -> None:
    rows = Rows()
    tile(rows, 0, 200)
    phase(rows, 100, 200)
    phase(rows, 0, 100)
    hits(rows, 70, 170, 10, 99)  # 0.7 inside the first: 7, 69.3; 0.3 in the second: 3, 29.7
    assert of(rows).phase_hits.rows() == [(0, 7, 69), (1, 3, 30)]


def test_hits_stand_in_the_order_of_the_phases() -> None:
    rows = Rows()
    tile(rows, 0, 100)
    for number in range(10):
        phase(rows, 90 - 10 * number, 100 - 10 * number)
        hits(rows, 10 * number, 10 * number + 10, 10 - number, 1)
    assert of(rows).phase_hits.rows() == [(number, number + 1, 1) for number in range(10)]


def test_one_hit_of_a_nanosecond() -> None:
    rows = Rows()
    tile(rows, 0, 100)
    phase(rows, 0, 100)
    hits(rows, 50, 51, 1, 1)
    assert of(rows).phase_hits.rows() == [(0, 1, 1)]


def operation(rows: Rows, number: int, kind: str, result: int, **row: Any) -> None:
    rows.add("operations", op_id=number, kind=kind, start_ns=10 * number, end_ns=10 * number + 10,
             pid=PID, tid=1, file_id=0, result=result, **row)  # fmt: skip


def test_bytes_by_the_deepest_source_the_largest_first() -> None:
    rows = Rows()
    causes = {0: ("transfer", 1), 1: ("disk", None), 2: ("disk", None), 3: ("copy", None),
              4: ("transfer", 1), 5: ("disk", None), 6: ("disk", None)}  # fmt: skip
    for number, (cause, fetch_id) in causes.items():
        tile(rows, 10 * number, 10 * number + 10, cause, op_id=number, fetch_id=fetch_id)
    for number, kind, result in ((0, "read", 100), (1, "splice", 7), (2, "read", 1),
                                 (3, "read", 50), (4, "fault", 4096), (5, "open", 3),
                                 (6, "read", -5), (7, "read", 0)):  # fmt: skip
        operation(rows, number, kind, result)
    rows.add("fetches", fetch_id=1, pid=9, tid=9, start_ns=0, outcome="downloaded")
    hits(rows, START, START + 1, 1, 1, bytes=30)
    hits(rows, START, START + 1, 1, 1, bytes=20, kind="fault")
    assert of(rows).source_bytes.rows() == [("http", 100), ("page cache", 100), ("disk", 8)]


def test_what_was_in_memory_is_divided_by_whether_it_came_during_the_run() -> None:
    """Of the first file 60 bytes came, of the second more than was read; the third was not seen."""
    rows = Rows()
    for file, count in ((0, 100), (1, 40), (2, 8)):
        hits(rows, START, START + 1, 1, 1, bytes=count, file_id=file)
    pages = {"start_ns": 0, "pages_mapped": 0}
    rows.add("touches", file_id=0, granule=0, bytes_read=4136, pages_inserted=1, **pages)
    rows.add("touches", file_id=0, granule=1, bytes_read=0, pages_inserted=9, **pages)
    rows.add("touches", file_id=1, granule=0, bytes_read=40, pages_inserted=1, **pages)
    assert of(rows).source_bytes.rows() == [("readahead", 60 + 40), ("page cache", 40 + 8)]


def test_a_run_without_reads_has_no_sources() -> None:
    assert of(Rows()).source_bytes.is_empty()


def stall(rows: Rows, start: int, end: int, tid: int = 1, **row: Any) -> None:
    number = len(rows.rows.get("stalls", []))
    usual = {"device": "d", "source": "cupti", "waiting_tid": tid}
    rows.add("stalls", stall_id=number, start_ns=start, end_ns=end, **{**usual, **row})


def test_the_pieces_of_a_stall_follow_wakers_and_end_with_the_launch() -> None:
    rows = Rows()
    tile(rows, 0, 10)
    tile(rows, 10, 40, "blocked", via_tid=2)
    tile(rows, 40, 60)
    tile(rows, 0, 25, "transfer", tid=2, fetch_id=7)
    tile(rows, 25, 40, "copy", tid=2)
    stall(rows, 5, 58, submitted_ns=50)
    material = of(rows)
    pieces = material.stall_chains.select("start_ns", "end_ns", "tid", "cause", "fetch_id")
    assert pieces.rows() == [
        (5, 10, 1, "cpu", None),
        (10, 25, 2, "transfer", 7),
        (25, 40, 2, "copy", None),
        (40, 50, 1, "cpu", None),
        (50, 58, 1, "launch", None),
    ]
    assert material.stall_causes.sort("ns", "cause").rows() == [
        (0, "launch", 8), (0, "cpu", 15), (0, "copy", 15), (0, "transfer", 15),
    ]  # fmt: skip


def test_what_no_segment_covers_of_a_stall_is_unknown() -> None:
    rows = Rows()
    tile(rows, 20, 30)
    stall(rows, 10, 35)
    stall(rows, 40, 45, tid=9)
    stall(rows, 25, 28, submitted_ns=20)
    pieces = of(rows).stall_chains.select("stall_id", "start_ns", "end_ns", "cause")
    assert pieces.rows() == [
        (0, 10, 20, "unknown"), (0, 20, 30, "cpu"), (0, 30, 35, "unknown"), (1, 40, 45, "unknown"),
        (2, 25, 28, "launch"),
    ]  # fmt: skip


def kernel(rows: Rows, device: str, pid: int) -> None:
    rows.add("gpu_ops", device=device, kind="kernel", start_ns=0, end_ns=1, pid=pid,
             source="cupti")  # fmt: skip


def test_phases_lose_what_stalls_of_their_processes_devices_share_with_them() -> None:
    rows = Rows()
    tile(rows, 0, 50, "transfer")
    tile(rows, 50, 100)
    phase(rows, 10, 30)
    phase(rows, 40, None)
    kernel(rows, "a", PID)
    kernel(rows, "b", OTHER)
    stall(rows, 0, 20, device="a")
    stall(rows, 45, 60, device="a")
    stall(rows, 0, 100, device="b")
    material = of(rows)
    assert material.phase_devices.rows() == [(0, "a"), (1, "a")]
    assert material.phase_stalls.rows() == [(0, "transfer", 10), (1, "cpu", 10), (1, "transfer", 5)]


def test_a_device_of_which_only_stalls_are_known_counts_for_every_phase() -> None:
    rows = Rows()
    tile(rows, 0, 50)
    phase(rows, 10, 30)
    stall(rows, 0, 20)
    assert of(rows).phase_devices.rows() == [(0, "d")]
    assert of(rows).phase_stalls.rows() == [(0, "cpu", 10)]
