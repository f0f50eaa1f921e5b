from __future__ import annotations

from dataclasses import replace

from cvmprof.reports.numbers.phases import MAX_PHASES
from cvmprof.tests.reports.rows import fetch, phase, statistics_of, tile
from cvmprof.tests.reports.synthetic import (
    MAIN,
    MS,
    PID,
    START,
    Rows,
    tiny_rows,
)


def test_phase_is_its_threads_tiling() -> None:
    (load,) = statistics_of(tiny_rows()).phases
    assert load.name == "load"
    assert load.duration_ns == 100 * MS
    assert load.causes_ns == {
        "first_byte": 40 * MS,
        "transfer": 30 * MS,
        "cpu": 25 * MS,
        "unknown": 5 * MS,
    }
    assert load.cvmfs_ns == 70 * MS


def test_many_phases_stand_together_by_name() -> None:
    rows = tiny_rows()
    rows.rows["phases"] = [
        {
            "name": "step",
            "start_ns": START + n * MS,
            "end_ns": START + (n + 1) * MS,
            "pid": 100,
            "tid": 101,
        }
        for n in range(100)
    ]
    (steps,) = statistics_of(rows).phases
    assert (steps.title, steps.times, steps.duration_ns) == ("step ×100", 100, 100 * MS)
    assert steps.causes_ns["transfer"] == 30 * MS
    assert steps.fetches.chunks_downloaded == 2


def test_page_cache_hits_within_the_cpu_time_of_a_phase() -> None:
    """Of a run of 10 ms from 55 to 65, half the time is on the CPU: at 60 a wait begins."""
    rows = tiny_rows()
    rows.add(
        "hits",
        pid=PID,
        tid=MAIN,
        file_id=0,
        kind="read",
        start_ns=START + 55 * MS,
        end_ns=START + 65 * MS,
        count=1000,
        bytes=1,
        ns=8 * MS,
        max_ns=MS,
    )
    rows.add(
        "hits",
        pid=PID,
        tid=MAIN,
        file_id=0,
        kind="read",
        start_ns=START + 2 * MS,
        end_ns=START + 4 * MS,
        count=10,
        bytes=1,
        ns=MS,
        max_ns=MS,
    )
    rows.add("phases", name="first", start_ns=START, end_ns=START + 3 * MS, pid=PID, tid=MAIN)
    phases = {phase.name: phase for phase in statistics_of(rows).phases}
    load, first = phases["load"], phases["first"]
    assert (load.page_cache_hits, load.page_cache_ns) == (1108, 6 * MS)
    assert (first.page_cache_hits, first.page_cache_ns) == (5, MS // 2)


def mark(rows: Rows, name: str, start: int, end: int | None, tid: int = MAIN) -> None:
    rows.add("phases", name=name, start_ns=start, end_ns=end, pid=PID, tid=tid)


def test_phases_stand_in_the_order_of_their_start() -> None:
    rows = Rows()
    tile(rows, 0, 100, "cpu")
    mark(rows, "second", 50, None)
    mark(rows, "first", 10, 30)
    first, second = statistics_of(rows).phases
    assert (first.name, first.start_ns, first.end_ns, first.duration_ns) == ("first", 10, 30, 20)
    assert (second.name, second.end_ns, second.duration_ns) == ("second", None, 50)
    assert (first.times, first.title) == (1, "first")


def test_causes_the_largest_first_and_by_name_where_equal() -> None:
    rows = Rows()
    for start, end, cause in ((0, 5, "transfer"), (5, 10, "cpu"), (10, 30, "disk"),
                              (30, 33, "transfer"), (33, 36, "cpu"), (36, 36, "copy"),
                              (36, 44, "daemon")):  # fmt: skip
        tile(rows, start, end, cause)
    for start, end, ids in ((44, 50, {"unique": 1}), (50, 53, {"unique": 1, "fetch_id": 2})):
        tile(rows, start, end, "runqueue", **ids)
    mark(rows, "p", 0, 53)
    (found,) = statistics_of(rows).phases
    assert list(found.causes_ns.items()) == [
        ("disk", 20), ("runqueue", 9), ("cpu", 8), ("daemon", 8), ("transfer", 8),
    ]  # fmt: skip
    assert (found.cvmfs_ns, found.fetch_ns) == (9, 3)


def test_up_to_twenty_four_phases_stand_alone() -> None:
    rows = Rows()
    tile(rows, 0, 1000, "cpu")
    for number in range(MAX_PHASES):
        mark(rows, "step", number, number + 1)
    assert MAX_PHASES == 24
    assert [found.times for found in statistics_of(rows).phases] == [1] * 24
    mark(rows, "step", 24, 25)
    assert [found.times for found in statistics_of(rows).phases] == [25]


def test_of_more_the_names_that_lasted_longest_are_kept() -> None:
    rows = Rows()
    tile(rows, 0, 1000, "cpu")
    for number in range(26):
        mark(rows, f"{number}", 0, 100 + number)
    mark(rows, "0", 500, 900)
    found = statistics_of(rows).phases
    assert [each.name for each in found] == ["0", *(f"{n}" for n in range(25, 2, -1))]
    assert (found[0].times, found[0].duration_ns, found[0].end_ns) == (2, 500, 900)
    assert found[0].title.endswith("2") and found[1].title == "25"


def test_of_names_that_lasted_equally_long_the_first_ones_are_kept() -> None:
    rows = Rows()
    tile(rows, 0, 1000, "cpu")
    for number in range(26):
        mark(rows, f"{number}", 100 - number, 200 - number)
    assert [each.name for each in statistics_of(rows).phases] == [
        f"{number}" for number in range(24)
    ]


def test_phases_of_one_name_together_end_never_if_one_does_not() -> None:
    rows = Rows()
    tile(rows, 0, 1000, "cpu")
    for number in range(24):
        mark(rows, "p", number, 900 - number)
    mark(rows, "p", 980, None)
    (found,) = statistics_of(rows).phases
    assert (found.start_ns, found.end_ns) == (0, None)
    rows.rows["phases"][-1]["end_ns"] = 990
    rows.rows["phases"].append(rows.rows["phases"].pop(0))
    (found,) = statistics_of(rows).phases
    assert (found.start_ns, found.end_ns) == (1, 990)


def test_a_phase_has_its_own_fetches_and_hits() -> None:
    rows = Rows()
    tile(rows, 0, 50, "transfer", fetch_id=0)
    tile(rows, 50, 100, "cpu")
    tile(rows, 100, 150, "transfer", fetch_id=1)
    tile(rows, 150, 200, "transfer", fetch_id=2)
    for number in range(4):
        fetch(rows, 50 * number, 50 * number + 10)
    for start, count in ((60, 5), (70, 6)):
        rows.add("hits", pid=PID, tid=MAIN, file_id=0, kind="read", start_ns=start,
                 end_ns=start + 5, count=count, bytes=9, ns=4, max_ns=3)  # fmt: skip
    mark(rows, "one", 0, 100)
    mark(rows, "two", 100, 200)
    one, two = statistics_of(rows).phases
    assert (one.fetches.downloaded, one.page_cache_hits, one.page_cache_ns) == (1, 11, 8)
    assert (two.fetches.downloaded, two.page_cache_hits, two.page_cache_ns) == (2, 0, 0)
    assert (one.causes_ns, two.causes_ns) == ({"cpu": 50, "transfer": 50}, {"transfer": 100})


def test_the_title_of_phases_that_stand_together() -> None:
    one = phase("a")
    assert one.title == "a"
    assert replace(one, times=2).title.endswith("2")
    assert replace(one, times=1234).title.endswith("1,234")


def test_a_phase_counts_its_time_once_for_each_device() -> None:
    rows = Rows()
    tile(rows, 0, 100, "transfer")
    for start, end in ((0, 40), (50, 60)):
        rows.add("phases", name="load", start_ns=start, end_ns=end, pid=PID, tid=MAIN)
    for number, device in enumerate("ab"):
        rows.add("gpu_ops", device=device, kind="kernel", start_ns=90, end_ns=95, pid=PID,
                 source="cupti")  # fmt: skip
        rows.add("stalls", stall_id=number, device=device, start_ns=30, end_ns=55,
                 waiting_tid=MAIN)  # fmt: skip
    first, second = statistics_of(rows).phases
    assert (first.device_ns, first.stalled_ns) == (80, {"transfer": 20})
    assert (second.device_ns, second.stalled_ns) == (20, {"transfer": 10})


def test_without_a_device_a_phase_has_no_device_time() -> None:
    (load,) = statistics_of(tiny_rows()).phases
    assert (load.device_ns, load.stalled_ns) == (0, {})
