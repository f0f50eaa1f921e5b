from __future__ import annotations

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.stalls import stalls
from cvmprof.tests.reports.rows import fetch, statistics_of, tile
from cvmprof.tests.reports.synthetic import (
    MAIN,
    MS,
    START,
    Rows,
    run_of,
    tiny_rows,
)


def test_stalls_lead_to_what_their_thread_waited_for() -> None:
    rows = tiny_rows()
    rows.add(
        "stalls",
        stall_id=0,
        device="cpu",
        start_ns=START + 20 * MS,
        end_ns=START + 50 * MS,
        waiting_tid=101,
    )
    stalls = statistics_of(rows).stalls
    assert (stalls.count, stalls.total_ns) == (1, 30 * MS)
    expected = {"transfer": 15 * MS, "first_byte": 10 * MS, "cpu": 5 * MS}
    assert stalls.causes_ns == expected
    assert stalls.longest[0].causes_ns == expected


def test_stalls_the_longest_first() -> None:
    rows = Rows()
    for start, end, cause in ((0, 10, "cpu"), (10, 40, "transfer"), (40, 60, "cpu"),
                              (60, 80, "disk"), (80, 90, "copy")):  # fmt: skip
        tile(rows, start, end, cause)
    for number, (start, end) in enumerate(((80, 90), (60, 80), (5, 35), (40, 60), (50, 50))):
        rows.add("stalls", stall_id=number, device="d", start_ns=start, end_ns=end,
                 waiting_tid=MAIN)  # fmt: skip
    rows.rows["stalls"].reverse()
    found = stalls(gather(run_of(rows)), 3)
    assert (found.count, found.total_ns) == (5, 80)
    assert list(found.causes_ns.items()) == [
        ("cpu", 25), ("transfer", 25), ("disk", 20), ("copy", 10),
    ]  # fmt: skip
    assert [(each.stall_id, each.causes_ns) for each in found.longest] == [
        (2, {"transfer": 25, "cpu": 5}), (1, {"disk": 20}), (3, {"cpu": 20}),
    ]  # fmt: skip
    assert list(found.longest[0].causes_ns) == ["transfer", "cpu"]
    assert (found.longest[0].start_ns, found.longest[0].end_ns) == (5, 35)
    last = stalls(gather(run_of(rows))).longest[-1]
    assert (last.stall_id, last.causes_ns) == (4, {})


def test_equal_causes_of_a_stall_stand_by_name() -> None:
    rows = Rows()
    for start, cause in enumerate(("transfer", "cpu", "disk")):
        tile(rows, start, start + 1, cause)
    rows.add("stalls", stall_id=0, device="d", start_ns=0, end_ns=3, waiting_tid=MAIN)
    found = statistics_of(rows).stalls
    assert list(found.longest[0].causes_ns) == ["cpu", "disk", "transfer"]
    assert list(found.causes_ns.items()) == [("cpu", 1), ("disk", 1), ("transfer", 1)]


def test_by_itself_the_list_has_fifty_stalls() -> None:
    rows = Rows()
    for number in range(52):
        rows.add("stalls", stall_id=number, device="d", start_ns=0, end_ns=1, waiting_tid=1)
    assert len(statistics_of(rows).stalls.longest) == 50


def test_of_a_stall_waits_for_chunks_count_by_what_is_fetched() -> None:
    rows = Rows()
    for start, cause, number in ((0, "transfer", 0), (10, "first_byte", 1), (20, "connect", 2),
                                 (30, "fetch_joined", 3), (40, "runqueue", 0),
                                 (50, "daemon", None)):  # fmt: skip
        tile(rows, start, start + 10, cause, fetch_id=number)
    for object_hash, kind in (("a", "chunk"), ("b", "file"), ("c", "catalog"), ("a", "chunk")):
        fetch(rows, 0, 60, object_hash=object_hash, object_kind=kind)
    rows.add("stalls", stall_id=0, device="d", start_ns=5, end_ns=60, waiting_tid=MAIN,
             copying_in_ns=3, copying_out_ns=2)  # fmt: skip
    found = stalls(gather(run_of(rows)))
    (stall,) = found.longest
    assert (stall.chunk_ns, stall.chunks, found.chunk_ns) == (35, 2, 35)
    assert stall.fetches == (0, 1, 2, 3)
    assert (stall.copying_in_ns, stall.copying_out_ns, stall.duration_ns) == (3, 2, 55)


def test_a_wait_for_a_lock_leads_to_the_chunk_for_which_it_was_held() -> None:
    rows = Rows()
    tile(rows, 0, 10, "cpu")
    tile(rows, 10, 60, "daemon_lock", mount_id=0, unique=5)
    fetch(rows, 5, 40)
    rows.add("lock_waits", mount_id=0, unique=5, start_ns=10, end_ns=60, pid=9, tid=9,
             holder_tid=8, holder_unique=4, holder_fetch_id=0, kind="same_handle")  # fmt: skip
    rows.add("stalls", stall_id=0, device="d", start_ns=0, end_ns=60, waiting_tid=MAIN)
    found = stalls(gather(run_of(rows)))
    (stall,) = found.longest
    assert stall.causes_ns == {"daemon_lock": 50, "cpu": 10}
    assert (stall.chunk_ns, stall.chunks, stall.fetches) == (30, 1, (0,))
    assert stall.worst_chunk is not None
    assert stall.worst_chunk.fetch is not None


def test_the_worst_chunk_is_the_longest_wait_for_a_chunk() -> None:
    rows = Rows()
    for number, (start, end, kind) in enumerate(((0, 30, "catalog"), (30, 40, "chunk"),
                                                 (40, 60, "file"))):  # fmt: skip
        tile(rows, start, end, "transfer", fetch_id=number)
        fetch(rows, start, end, object_kind=kind)
    rows.add("stalls", stall_id=0, device="d", start_ns=0, end_ns=60, waiting_tid=MAIN)
    (stall,) = stalls(gather(run_of(rows))).longest
    assert stall.worst_chunk is not None
    assert (stall.worst_chunk.fetch.fetch_id if stall.worst_chunk.fetch else None) == 2
    rows.rows["fetches"] = rows.rows["fetches"][:1]
    assert stalls(gather(run_of(rows))).longest[0].worst_chunk is None
