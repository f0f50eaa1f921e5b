"""Views of the tiling: chains of wakers, phases, stalls, classes."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.profiler.attribution import causes
from cvmprof.profiler.tables import conform
from cvmprof.tests.profiler.rows import rows


def segments(*rows: tuple[int, int, int, str, int | None]) -> pl.DataFrame:
    """Tiles of (tid, start, end, cause, via)."""
    frame = pl.DataFrame(
        rows,
        schema=["tid", "start_ns", "end_ns", "cause", "via_tid"],
        orient="row",
        schema_overrides={"via_tid": pl.Int32},
    )
    return conform("segments", frame.with_columns(pid=pl.lit(1)))


def phases(*rows: tuple[str, int, int | None, int]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["name", "start_ns", "end_ns", "tid"], orient="row")
    return conform("phases", frame.with_columns(pid=pl.lit(1)))


CHAIN = segments(
    (1, 0, 10, "cpu", None),
    (1, 10, 90, "blocked", 2),
    (1, 90, 100, "cpu", None),
    (2, 0, 20, "cpu", None),
    (2, 20, 70, "blocked", 3),
    (2, 70, 100, "cpu", None),
    (3, 0, 30, "blocked", None),
    (3, 30, 60, "transfer", 201),
    (3, 60, 100, "cpu", None),
)


def test_a_phase_without_following() -> None:
    found = causes.phase_causes(CHAIN, phases(("load", 5, 95, 1)), follow_wakers=False)
    assert found.rows() == [(0, "load", "blocked", 80), (0, "load", "cpu", 10)]


def test_a_phase_follows_wakers_of_wakers() -> None:
    found = causes.phase_causes(CHAIN, phases(("load", 5, 95, 1)))
    # 5-10 cpu · 10-20 cpu of 2 · 20-30 blocked 3 · 30-60 transfer · 60-70 cpu of 3 · 70-90 of 2 ·
    # 90-95
    assert dict(found.select("cause", "ns").rows()) == {"blocked": 10, "transfer": 30, "cpu": 50}


def test_who_did_it_and_who_woke() -> None:
    asked = pl.DataFrame({"interval": [0], "tid": [1], "start_ns": [0], "end_ns": [100]})
    found = causes.clipped_segments(CHAIN, asked, follow_wakers=True)
    rows = found.filter(cause="transfer").select("tid", "start_ns", "end_ns", "via_tid").rows()
    assert rows == [(3, 30, 60, 201)]
    assert found["start_ns"].to_list() == [0, *found["end_ns"].to_list()[:-1]]


def test_threads_that_wake_each_other_end_blocked() -> None:
    circle = segments((1, 0, 100, "blocked", 2), (2, 0, 100, "blocked", 1))
    found = causes.phase_causes(circle, phases(("p", 0, 100, 1)))
    assert found.rows() == [(0, "p", "blocked", 100)]


def test_a_waker_that_lived_for_a_part_only() -> None:
    young = segments((1, 0, 100, "blocked", 2), (2, 40, 60, "cpu", None))
    found = causes.phase_causes(young, phases(("p", 0, 100, 1)))
    assert found.rows() == [(0, "p", "blocked", 80), (0, "p", "cpu", 20)]


def test_a_waker_that_is_not_watched_leaves_it_blocked() -> None:
    alone = segments((1, 0, 100, "blocked", 99))
    assert causes.phase_causes(alone, phases(("p", 10, None, 1))).rows() == [
        (0, "p", "blocked", 90)
    ]


def test_phases_nest_and_each_has_its_sum() -> None:
    both = phases(("outer", 0, 100, 1), ("inner", 0, 10, 1))
    found = causes.phase_causes(CHAIN, both)
    sums = found.group_by("phase").agg(pl.col("ns").sum()).sort("phase")
    assert sums.rows() == [(0, 100), (1, 10)]


def idle(*given: dict[str, Any]) -> pl.DataFrame:
    """Stalls that end with a kernel submitted at its start."""
    return rows("stalls", *({"submitted_ns": row["end_ns"], **row} for row in given))


def spent(stalls: pl.DataFrame, tiles: pl.DataFrame = CHAIN, **tasks: Any) -> list[tuple[Any, ...]]:
    """The causes of stalls: stall_id, cause, ns."""
    living = rows("tasks", *({"tid": int(tid[1:]), **row} for tid, row in tasks.items()))
    return causes.stall_causes(causes.stall_chains(tiles, stalls, living)).rows()


def test_stalls_take_the_waiting_thread() -> None:
    one = idle({"stall_id": 7, "start_ns": 30, "end_ns": 80, "waiting_tid": 3})
    assert spent(one) == [(7, "cpu", 20), (7, "transfer", 30)]


def test_what_follows_the_submit_is_launch() -> None:
    gap = {"start_ns": 30, "end_ns": 80, "waiting_tid": 3}
    stalls = idle(
        {**gap, "stall_id": 1, "submitted_ns": 65},
        {**gap, "stall_id": 2, "submitted_ns": 30},
        {**gap, "stall_id": 3},
    )
    assert spent(stalls) == [
        (1, "cpu", 5), (1, "launch", 15), (1, "transfer", 30),
        (2, "launch", 50),
        (3, "cpu", 20), (3, "transfer", 30),
    ]  # fmt: skip


def test_a_chain_tiles_its_stall_in_order() -> None:
    stall = idle({"stall_id": 4, "start_ns": 5, "end_ns": 97, "waiting_tid": 1, "submitted_ns": 95})
    chain = causes.stall_chains(CHAIN, stall, rows("tasks"))
    assert chain.select("tid", "start_ns", "end_ns", "cause").rows() == [
        (1, 5, 10, "cpu"), (2, 10, 20, "cpu"), (3, 20, 30, "blocked"), (3, 30, 60, "transfer"),
        (3, 60, 70, "cpu"), (2, 70, 90, "cpu"), (1, 90, 95, "cpu"), (1, 95, 97, "launch"),
    ]  # fmt: skip


def test_before_its_birth_a_thread_waits_for_who_made_it() -> None:
    """Thread 6 of process 5, which process 4 started; nobody is known before that."""
    tiles = segments((6, 60, 100, "cpu", None), (5, 40, 100, "copy", None),
                     (4, 20, 100, "disk", None))  # fmt: skip
    stall = idle({"stall_id": 0, "start_ns": 10, "end_ns": 100, "waiting_tid": 6})
    found = spent(
        stall,
        tiles,
        t6={"pid": 5, "parent_pid": 4, "start_ns": 60},
        t5={"pid": 5, "parent_pid": 4, "start_ns": 40},
        t4={"pid": 4, "parent_pid": 1, "start_ns": 20},
    )
    assert found == [(0, "unknown", 10), (0, "cpu", 40), (0, "copy", 20), (0, "disk", 20)]


def test_a_stall_whose_thread_is_not_known_is_unknown() -> None:
    stall = idle({"stall_id": 0, "start_ns": 10, "end_ns": 100})
    assert spent(stall) == [(0, "unknown", 90)]


def test_a_reused_tid_is_asked_by_its_own_birth() -> None:
    """The first thread 6 had died by then; the second was made by process 5."""
    tiles = segments((6, 0, 20, "copy", None), (6, 60, 100, "cpu", None), (5, 0, 100, "disk", None))
    stall = idle({"stall_id": 0, "start_ns": 30, "end_ns": 100, "waiting_tid": 6})
    living = pl.concat(
        rows("tasks", {"tid": 6, "pid": pid, "start_ns": start, "parent_pid": 1})
        for pid, start in ((9, 0), (5, 60))
    )
    chain = causes.stall_chains(tiles, stall, living)
    assert causes.stall_causes(chain).rows() == [(0, "cpu", 40), (0, "disk", 30)]


def test_a_sleep_in_the_driver_leads_on_to_a_wait_for_a_file_alone() -> None:
    """Thread 2 holds a lock of the driver, and waits for a chunk from 30 to 60."""
    tiles = segments(
        (1, 0, 80, "driver", 2), (1, 80, 100, "cpu", None),
        (2, 0, 30, "blocked", None), (2, 30, 60, "transfer", 201), (2, 60, 100, "driver", None),
    )  # fmt: skip
    waited = pl.when(pl.col("cause") == "transfer").then(pl.lit(8, pl.UInt64))
    tiles = tiles.with_columns(unique=waited)
    stall = idle({"stall_id": 0, "start_ns": 10, "end_ns": 90, "waiting_tid": 1})
    assert spent(stall, tiles) == [(0, "cpu", 10), (0, "driver", 40), (0, "transfer", 30)]


def operations(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [
        {"op_id": n, "pid": 1, "tid": 1, "result": 0, "kind": "read", "passthrough": False, **r}
        for n, r in enumerate(rows)
    ]
    return conform("operations", pl.DataFrame(filled, infer_schema_length=None))


def test_an_outer_operation_includes_its_faults() -> None:
    ops = operations(
        {"start_ns": 0, "end_ns": 50},
        {"start_ns": 10, "end_ns": 30, "kind": "fault"},
        {"start_ns": 60, "end_ns": 70, "kind": "fault"},
    )
    rows = [(0, 10, 0, "copy"), (10, 30, 1, "transfer"), (30, 50, 0, "copy"), (60, 70, 2, "copy")]
    tiles = conform(
        "segments",
        pl.DataFrame(
            rows, schema=["start_ns", "end_ns", "op_id", "cause"], orient="row"
        ).with_columns(pid=pl.lit(1), tid=pl.lit(1)),
    )
    assert causes.read_causes(tiles, ops).rows() == [
        (0, "copy", 30),
        (0, "transfer", 20),
        (1, "transfer", 20),
        (2, "copy", 10),
    ]


def test_classes_take_the_deepest_source() -> None:
    ops = operations(*({"start_ns": n, "end_ns": n + 1} for n in range(6)))
    rows = [
        (0, "copy", None, None), (0, "first_byte", 2, 0),
        (1, "fetch_joined", 2, 1), (1, "cache_read", 2, None),
        (2, "cache_read", 4, None), (2, "unknown", None, None),
        (3, "copy", None, None),
        (4, "copy", None, None), (4, "unknown", None, None),
    ]  # fmt: skip
    tiles = conform(
        "segments",
        pl.DataFrame(
            rows, schema=["op_id", "cause", "unique", "fetch_id"], orient="row"
        ).with_columns(pid=pl.lit(1), tid=pl.lit(1), start_ns=pl.lit(0), end_ns=pl.lit(1)),
    )
    found = causes.operation_classes(tiles, ops)
    assert found["class"].to_list() == [
        "http",
        "joined",
        "cvmfs cache",
        "page cache",
        "unknown",
        "unknown",
    ]


def test_total_is_longest_first() -> None:
    found = causes.total(causes.phase_causes(CHAIN, phases(("load", 5, 95, 1))))
    assert found.rows() == [("cpu", 50), ("transfer", 30), ("blocked", 10)]


def asked(start: int, end: int, tid: int = 1) -> pl.DataFrame:
    return pl.DataFrame({"interval": [0], "tid": [tid], "start_ns": [start], "end_ns": [end]})


def followed(*rows_: tuple[int, int, int, str, int | None]) -> list[tuple[Any, ...]]:
    """What thread 1 spent 0 to 100 on, wakers followed: thread, start, end, cause, waker."""
    found = causes.clipped_segments(segments(*rows_), asked(0, 100), follow_wakers=True)
    return found.select("tid", "start_ns", "end_ns", "cause", "via_tid").rows()


def test_only_a_sleep_that_another_watched_thread_ended_is_followed() -> None:
    waker = (2, 0, 100, "cpu", None)
    assert followed((1, 0, 100, "blocked", 2), waker) == [(2, 0, 100, "cpu", 2)]
    assert followed((1, 0, 100, "transfer", 2), waker) == [(1, 0, 100, "transfer", 2)]
    assert followed((1, 0, 100, "blocked", None), waker) == [(1, 0, 100, "blocked", None)]
    assert followed((1, 0, 100, "blocked", 1), waker) == [(1, 0, 100, "blocked", 1)]
    assert followed((1, 0, 100, "blocked", 3), waker) == [(1, 0, 100, "blocked", 3)]


def test_what_the_wakers_life_does_not_cover_stays_the_sleepers() -> None:
    """In order of time; who ended the wakers own wait is kept."""
    assert followed(
        (1, 0, 60, "blocked", 2), (1, 60, 100, "cpu", None), (2, 20, 30, "transfer", 9),
        (2, 30, 40, "cpu", None),
    ) == [
        (1, 0, 20, "blocked", None), (2, 20, 30, "transfer", 9), (2, 30, 40, "cpu", 2),
        (1, 40, 60, "blocked", None), (1, 60, 100, "cpu", None),
    ]  # fmt: skip


def test_time_between_two_lives_of_the_wakers_number_stays_blocked() -> None:
    """The number went to another thread while thread 1 slept: nothing of the sleep is lost."""
    tiles = ((1, 0, 100, "blocked", 2), (2, 10, 30, "cpu", None), (2, 50, 90, "runqueue", None))
    assert followed(*tiles) == [
        (1, 0, 10, "blocked", None),
        (2, 10, 30, "cpu", 2),
        (1, 30, 50, "blocked", None),
        (2, 50, 90, "runqueue", 2),
        (1, 90, 100, "blocked", None),
    ]


def test_wakers_are_followed_eight_threads_far() -> None:
    """The ninth's sleep stays one."""
    assert causes.CHAIN_PASSES == 8
    chain = [(tid, 0, 100, "blocked", tid + 1) for tid in range(1, 12)]
    for last, expected in (
        (8, (8, 0, 100, "cpu", 8)), (9, (9, 0, 100, "cpu", 9)), (10, (9, 0, 100, "blocked", 10)),
    ):  # fmt: skip
        assert followed(*chain[: last - 1], (last, 0, 100, "cpu", None)) == [expected]


def test_a_fault_is_inside_the_latest_call_of_its_thread_that_goes_on() -> None:
    """From the call's beginning until before its end; a fault holds none."""
    fault = {"kind": "fault", "end_ns": 99}
    ops = operations(
        {"start_ns": 10, "end_ns": 20},
        {"start_ns": 40, "end_ns": None},
        {"start_ns": 15, "end_ns": 99, "tid": 2},
        *({**fault, "start_ns": at} for at in (9, 10, 19, 20, 30, 50)),
        {**fault, "start_ns": 16, "tid": 2},
        {**fault, "start_ns": 16, "tid": 3},
    )
    found = causes.nested_operations(ops).sort("op_id")
    assert found.select("op_id", "outer_id").rows() == [(4, 0), (5, 0), (8, 1), (9, 2)]


def classes(*tiles: dict[str, Any], **operation: Any) -> list[str]:
    filled = [{"op_id": 0, **each} for each in tiles]
    found = causes.operation_classes(
        rows("segments", *filled, {"cause": "cpu", "unique": 9}),
        operations({"start_ns": 0, "end_ns": 9, **operation}),
    )
    assert found["op_id"].to_list() == [0]
    return found["class"].to_list()


def test_the_class_of_each_kind_of_wait() -> None:
    for tile, class_ in (
        ({"cause": "transfer", "fetch_id": 3}, "http"),
        ({"cause": "fetch_joined", "fetch_id": 3}, "joined"),
        ({"cause": "cache_read", "unique": 2}, "cvmfs cache"),
        ({"cause": "unknown", "unique": 2}, "unknown"),
        ({"cause": "disk"}, "disk"),
        ({"cause": "copy"}, "page cache"),
        ({"cause": "unknown"}, "unknown"),
    ):
        assert classes(tile) == [class_], tile
    assert classes({"cause": "disk"}, passthrough=True) == ["passthrough"]
    assert classes({"cause": "copy"}, passthrough=True) == ["page cache"]


def test_the_deepest_wait_counts_and_an_unknown_one_only_over_the_page_cache() -> None:
    http, joined, cache, disk, page, unknown = (
        {"cause": "transfer", "fetch_id": 3}, {"cause": "fetch_joined", "fetch_id": 3},
        {"cause": "cache_read", "unique": 2}, {"cause": "disk"}, {"cause": "copy"},
        {"cause": "unknown"},
    )  # fmt: skip
    order: list[dict[str, Any]] = [http, joined, cache, disk, unknown, page]
    names = ["http", "joined", "cvmfs cache", "disk", "unknown", "page cache"]
    for at, name in enumerate(names):
        assert classes(*order[at:]) == classes(*reversed(order[at:])) == [name]


def test_sums_are_in_order() -> None:
    """Each view by what it is of, then by cause; the total by length, then by cause."""
    tiles = segments(
        (2, 0, 10, "copy", None), (1, 0, 10, "transfer", None), (1, 10, 20, "cpu", None),
        (1, 20, 30, "transfer", None), (2, 10, 20, "cpu", None),
    )  # fmt: skip
    views = causes.phase_causes(tiles, phases(("b", 0, 30, 1), ("a", 0, 20, 2)))
    assert views.rows() == [
        (0, "b", "cpu", 10), (0, "b", "transfer", 20), (1, "a", "cpu", 10), (1, "a", "copy", 10),
    ]  # fmt: skip
    assert causes.total(views).rows() == [("cpu", 20), ("transfer", 20), ("copy", 10)]
    owned = tiles.with_columns(op_id=pl.Series([1, 0, 0, 0, None], dtype=pl.Int32))
    ops = operations({"start_ns": 0, "end_ns": 30}, {"start_ns": 0, "end_ns": 20, "tid": 2})
    assert causes.read_causes(owned, ops).rows() == [
        (0, "cpu", 10), (0, "transfer", 20), (1, "copy", 10),
    ]  # fmt: skip


def test_a_stall_follows_wakers_unless_told_not_to() -> None:
    stall = idle({"stall_id": 7, "start_ns": 10, "end_ns": 20, "waiting_tid": 1})
    assert spent(stall) == [(7, "cpu", 10)]
    alone = causes.stall_chains(CHAIN, stall, rows("tasks"), follow_wakers=False)
    assert causes.stall_causes(alone).rows() == [(7, "blocked", 10)]


def test_a_wait_is_cvmfss_by_its_request_or_fetch_whatever_its_cause() -> None:
    given = (("cpu", None, None), ("runqueue", 1, 2), ("reply", 1, None), ("blocked", None, None),
             ("catalog", None, 2), ("runqueue", None, None))  # fmt: skip
    tiles = rows("segments", *(
        {"pid": 1 + n // 4, "start_ns": 0, "end_ns": 1 << n, "cause": cause, "unique": unique,
         "fetch_id": fetch_id} for n, (cause, unique, fetch_id) in enumerate(given)
    ))  # fmt: skip
    assert causes.spent(tiles, "pid").rows() == [(1, 15, 6, 2), (2, 48, 16, 16)]
    assert causes.spent(tiles, "pid", "cause").filter(cause="runqueue").rows() == [
        (1, "runqueue", 2, 2, 2), (2, "runqueue", 32, 0, 0),
    ]  # fmt: skip
    assert causes.spent(tiles.clear(), "pid").is_empty()


def test_a_chain_to_a_request_in_the_queue_waited_for_cvmfs_and_for_no_fetch() -> None:
    """The client has not taken it: it may find in its cache what is asked for."""
    chain = segments((1, 0, 100, "blocked", 2), (2, 0, 80, "fuse_queue", None)).with_columns(
        unique=pl.when(cause="fuse_queue").then(7)
    )
    asked = pl.DataFrame({"interval": [0], "tid": [1], "start_ns": [0], "end_ns": [100]})
    followed = causes.clipped_segments(chain, asked, follow_wakers=True)
    assert causes.spent(followed, "interval").rows() == [(0, 100, 80, 0)]
