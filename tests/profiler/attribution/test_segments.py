"""The tiling: its rules on tiny frames, its conservation on random ones."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.profiler.attribution import segments as tiling
from cvmprof.profiler.attribution.hung_requests import with_hung_requests
from cvmprof.profiler.tables import CAUSE, HORIZON_NS, conform, empty


def operations(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [
        {"op_id": n, "kind": "read", "pid": 1, "tid": 1, "result": 0, "passthrough": False, **row}
        for n, row in enumerate(rows)
    ]
    return conform(
        "operations",
        pl.DataFrame(filled, schema_overrides={"end_ns": pl.Int64})
        if filled
        else empty("operations"),
    )


PROOF: dict[str, Any] = {"on_disk": pl.Boolean, "mount_id": pl.Int32, "unique": pl.UInt64}


def blocked(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [{"pid": 1, "tid": 1, "off_reason": "sleep", **row} for row in rows]
    schema = pl.Schema({**empty("blocked").schema, **PROOF})
    return pl.DataFrame(filled, schema=schema, orient="row")


def tasks(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [{"pid": 1, "parent_pid": 0, "name": "t", "role": "target", **row} for row in rows]
    return conform("tasks", pl.DataFrame(filled, infer_schema_length=None))


def requests(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [
        {"mount_id": 0, "opcode": 15, "node_id": 7, "pid": 1, "tid": 1, "error": 0, **row}
        for row in rows
    ]
    frame = pl.DataFrame(filled, infer_schema_length=None) if filled else empty("fuse_requests")
    return conform("fuse_requests", frame)


def pieces(*rows: tuple[int, int, int, str, int | None]) -> pl.DataFrame:
    schema = pl.Schema(
        {
            "unique": pl.UInt64(),
            "start_ns": pl.Int64(),
            "end_ns": pl.Int64(),
            "cause": CAUSE,
            "fetch_id": pl.Int32(),
        }
    )
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        mount_id=pl.lit(0, pl.Int32)
    )


def built(
    evidence: tiling.Evidence, parts: pl.DataFrame, stop_ns: int = 100
) -> tuple[pl.DataFrame, pl.DataFrame]:
    living = tiling.lives(evidence.tasks, 0, stop_ns)
    both = list(tiling.segments_and_waits(living, evidence, parts))
    tiles = pl.concat([empty("segments"), *(one for one, _ in both)])
    waits = pl.concat([empty("waits"), *(one for _, one in both)]).unique()
    return tiles.sort("tid", "start_ns"), waits.sort("op_id", "start_ns")


def causes(tiles: pl.DataFrame) -> list[tuple[object, ...]]:
    return tiles.select("start_ns", "end_ns", "cause", "op_id", "via_tid").rows()


ONE = tasks({"tid": 1, "start_ns": 0, "end_ns": 100})


def test_rules_outside_and_inside_operations() -> None:
    evidence = tiling.Evidence(
        operations({"start_ns": 40, "end_ns": 90}),
        blocked(
            {"start_ns": 10, "woken_ns": 15, "end_ns": 17, "woken_by_tid": 1},
            {"start_ns": 20, "end_ns": 25, "off_reason": "preempted"},
            {"start_ns": 30, "end_ns": 35},
            {"start_ns": 50, "woken_ns": 55, "end_ns": 56},
            {"start_ns": 60, "woken_ns": 65, "end_ns": 65, "woken_by_tid": 1},
            {"start_ns": 70, "woken_ns": 75, "end_ns": 75, "woken_by_tid": 99},
            {"start_ns": 80, "woken_ns": 85, "end_ns": 85, "on_disk": True},
        ),
        ONE,
        requests(),
    )
    tiles, waits = built(evidence, pieces())
    assert causes(tiles) == [
        (0, 10, "cpu", None, None),
        (10, 15, "blocked", None, 1),
        (15, 17, "runqueue", None, None),
        (17, 20, "cpu", None, None),
        (20, 25, "runqueue", None, None),
        (25, 30, "cpu", None, None),
        (30, 35, "blocked", None, None),
        (35, 40, "cpu", None, None),
        (40, 50, "copy", 0, None),
        (50, 55, "unknown", 0, None),
        (55, 56, "runqueue", 0, None),
        (56, 60, "copy", 0, None),
        (60, 65, "blocked", 0, 1),
        (65, 70, "copy", 0, None),
        (70, 75, "unknown", 0, 99),
        (75, 80, "copy", 0, None),
        (80, 85, "disk", 0, None),
        (85, 90, "copy", 0, None),
        (90, 100, "cpu", None, None),
    ]
    assert waits.height == 0


def test_a_fault_inside_a_read_owns_its_time() -> None:
    evidence = tiling.Evidence(
        operations({"start_ns": 10, "end_ns": 50}, {"start_ns": 20, "end_ns": 30, "kind": "fault"}),
        blocked(),
        ONE,
        requests(),
    )
    tiles, _ = built(evidence, pieces())
    assert tiles.select("start_ns", "op_id").rows() == [
        (0, None),
        (10, 0),
        (20, 1),
        (30, 0),
        (50, None),
    ]


def test_a_request_that_another_operation_queued_is_a_wait_by_its_waker() -> None:
    evidence = tiling.Evidence(
        operations({"start_ns": 10, "end_ns": 50}),
        blocked({"start_ns": 20, "woken_ns": 30, "end_ns": 32, "unique": 4, "mount_id": 0}),
        ONE,
        requests({"unique": 4, "queued_ns": 22, "end_ns": 29, "op_id": 9}),
    )
    parts = pieces(
        (4, 0, 25, "fuse_queue", None),
        (4, 25, 29, "first_byte", 3),
        (4, 29, HORIZON_NS, "reply", None),
    )
    tiles, waits = built(evidence, parts)
    assert tiles.filter(pl.col("unique") == 4).select(
        "start_ns", "end_ns", "cause", "fetch_id"
    ).rows() == [
        (20, 25, "fuse_queue", None),
        (25, 29, "first_byte", 3),
        (29, 30, "reply", None),
        (30, 32, "reply", None),
    ]
    assert waits.rows() == [(0, 0, 4, 20, 32, "waker")]


def test_a_wake_by_a_request_that_is_not_known_is_unknown() -> None:
    evidence = tiling.Evidence(
        operations({"start_ns": 10, "end_ns": 50}),
        blocked({"start_ns": 20, "woken_ns": 30, "end_ns": 30, "unique": 6, "mount_id": 0}),
        ONE,
        requests(),
    )
    tiles, _ = built(evidence, pieces())
    assert (20, 30, "unknown", 0, None) in causes(tiles)


def test_a_hang_waits_for_the_request_in_flight() -> None:
    evidence = tiling.Evidence(
        operations({"start_ns": 10, "end_ns": None}),
        blocked({"start_ns": 20, "off_reason": "uninterruptible"}),
        ONE,
        requests({"unique": 8, "queued_ns": 15, "op_id": 0}),
    )
    hung = tiling.Evidence(
        evidence.operations, with_hung_requests(evidence), evidence.tasks, evidence.requests
    )
    tiles, waits = built(
        hung, pieces((8, 0, 40, "fuse_queue", None), (8, 40, HORIZON_NS, "daemon", None))
    )
    assert causes(tiles)[2:] == [(20, 40, "fuse_queue", 0, None), (40, 100, "daemon", 0, None)]
    assert waits.rows() == [(0, 0, 8, 20, None, "queued")]


@pytest.mark.parametrize(("served_ns", "named"), [(None, None), (26, 7)])
def test_a_request_that_vanished_with_its_sender_holds_nobody_up(
    served_ns: int | None, named: int | None
) -> None:
    """Thread 2 asked for the bytes and was killed; thread 1 wants them later and hangs."""
    read = {"file_id": 5, "offset_bytes": 0, "size_bytes": 4096}
    asked = {"offset_bytes": 0, "size_bytes": 4096}
    evidence = tiling.Evidence(
        operations(
            {**read, "tid": 2, "start_ns": 20, "end_ns": None},
            {**read, "tid": 1, "start_ns": 50, "end_ns": None},
        ),
        blocked({"tid": 1, "start_ns": 60, "off_reason": "uninterruptible"}),
        tasks({"tid": 1, "start_ns": 0, "end_ns": None}, {"tid": 2, "start_ns": 0, "end_ns": 40}),
        requests(
            {**asked, "unique": 7, "tid": 2, "queued_ns": 25, "served_ns": served_ns, "op_id": 0}
        ),
    )
    assert with_hung_requests(evidence)["unique"].to_list() == [named]


def test_a_tid_that_is_given_again_has_two_lives() -> None:
    evidence = tiling.Evidence(
        operations({"start_ns": 10, "end_ns": None}, {"start_ns": 70, "end_ns": 80}),
        blocked(),
        tasks(
            {"tid": 1, "start_ns": 0, "end_ns": 40},
            {"tid": 1, "start_ns": 60, "end_ns": None},
            {"tid": 2, "start_ns": 0, "end_ns": 50, "role": "daemon"},
        ),
        requests(),
    )
    tiles, _ = built(evidence, pieces())
    assert causes(tiles) == [
        (0, 10, "cpu", None, None),
        (10, 40, "copy", 0, None),
        (60, 70, "cpu", None, None),
        (70, 80, "copy", 1, None),
        (80, 100, "cpu", None, None),
    ]


SEEN = tasks({"tid": 1, "start_ns": 10, "end_ns": 90})


def test_lives_are_those_of_targets_within_the_recording() -> None:
    """From the command's start to the stop; a life of no length is none; by thread and time."""
    living = tiling.lives(
        tasks(
            {"tid": 3, "start_ns": 60, "end_ns": None},
            {"tid": 1, "start_ns": 70, "end_ns": 80},
            {"tid": 1, "start_ns": 0, "end_ns": 40},
            {"tid": 2, "start_ns": 0, "end_ns": 20},
            {"tid": 4, "start_ns": 95, "end_ns": 99},
            {"tid": 5, "start_ns": 30, "end_ns": 95},
            {"tid": 6, "start_ns": 30, "end_ns": 40, "role": "daemon"},
        ),
        20,
        90,
    )
    assert living.select("key", "tid", "start_ns", "end_ns").rows() == [
        (0, 1, 20, 40), (1, 1, 70, 80), (2, 3, 60, 90), (3, 5, 30, 90),
    ]  # fmt: skip


def test_an_event_belongs_to_the_life_in_which_it_began() -> None:
    """What began before the first life is seen belongs to that one."""
    twice = tiling.lives(
        tasks({"tid": 1, "start_ns": 10, "end_ns": 40}, {"tid": 1, "start_ns": 60, "end_ns": 80}),
        0,
        90,
    )
    events = operations(*({"start_ns": at} for at in (5, 59, 60, 70)), {"start_ns": 5, "tid": 2})
    found = tiling.of_lives(events, twice)
    assert found.select("op_id", "key").rows() == [(0, 0), (1, 0), (2, 1), (3, 1)]
    once = tiling.of_lives(events, twice.head(1))
    assert once.select("op_id", "key").rows() == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert "birth" not in found.columns and "birth" not in once.columns


def test_a_thread_is_asleep_until_it_is_woken_and_runnable_from_then_on() -> None:
    """While preempted it is runnable; where the wake was not seen it slept until it ran."""
    off = blocked(
        {"start_ns": 20, "woken_ns": 25, "end_ns": 27},
        {"start_ns": 30, "end_ns": 35, "off_reason": "preempted"},
        {"start_ns": 40, "end_ns": 45},
        {"start_ns": 50},
    ).with_columns(key=pl.lit(0, pl.Int32))
    divided = tiling.off_cpu(off)
    assert divided.asleep.select("start_ns", "end_ns", "value").rows() == [
        (20, 25, 0), (30, 30, 1), (40, 45, 2), (50, None, 3),
    ]  # fmt: skip
    assert divided.runnable.select("start_ns", "end_ns", "value").rows() == [
        (25, 27, 0), (30, 35, 1),
    ]  # fmt: skip


def test_batches_bound_what_is_swept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By boundaries: two of an operation, three of a sleep."""
    living = tiling.lives(SEEN, 0, 100)
    evidence = tiling.Evidence(
        operations(*({"start_ns": at, "end_ns": at + 1} for at in (20, 60))),
        blocked({"start_ns": 40, "end_ns": 41}, {"start_ns": 80, "end_ns": 81}),
        SEEN,
        requests(),
    )
    for most, windows in (
        (10, [(10, 90)]),
        (9, [(10, 60), (60, 90)]),
        (5, [(10, 60), (60, 90)]),
        (4, [(10, 40), (40, 60), (60, 90)]),
    ):
        monkeypatch.setattr(tiling, "BATCH_BOUNDARIES", most)
        found = [
            each.select("start_ns", "end_ns").row(0) for each in tiling.batches(living, evidence)
        ]
        assert found == windows
    early = tiling.lives(tasks({"tid": 1, "start_ns": 10, "end_ns": 40}), 0, 100)
    assert [each["end_ns"][0] for each in tiling.batches(early, evidence)] == [40]


def of_request(*slept: dict[str, Any], **frames: pl.DataFrame) -> list[tuple[object, ...]]:
    """Tiles and waits of sleeps for request 4 in an operation from 20 to 80."""
    evidence = tiling.Evidence(
        operations({"start_ns": 20, "end_ns": 80}),
        blocked(*({"unique": 4, "mount_id": 0, **each} for each in slept)),
        SEEN,
        frames.get("requests", requests({"unique": 4, "op_id": 0, "end_ns": 60})),
    )
    tiles, waits = built(evidence, frames.get("pieces", pieces((4, 0, HORIZON_NS, "daemon", 3))))
    columns = ("start_ns", "end_ns", "cause", "unique", "fetch_id", "via_tid")
    return [*tiles.filter(pl.col("cause").is_in(["cpu", "copy"]).not_()).select(columns).rows(),
            *waits.select("start_ns", "end_ns", "how").rows()]  # fmt: skip


def test_a_sleep_is_divided_by_the_pieces_that_it_meets() -> None:
    """Those that only touch it are no part of it; running late after an answer is its reply."""
    parts = pieces(
        (4, 0, 30, "fuse_queue", None), (4, 30, 40, "daemon", None), (4, 40, 45, "transfer", 3),
        (4, 45, 50, "cache_write", 3), (4, 50, HORIZON_NS, "reply", None),
        (6, 0, HORIZON_NS, "unknown", None),
    )  # fmt: skip
    sleep = {"start_ns": 30, "woken_ns": 50, "end_ns": 55, "woken_by_tid": 9}
    assert of_request(sleep, pieces=parts) == [
        (30, 40, "daemon", 4, None, 9),
        (40, 45, "transfer", 4, 3, 9),
        (45, 50, "cache_write", 4, 3, 9),
        (50, 55, "reply", 4, None, None),
        (30, 55, "queued"),
    ]


def test_a_wait_is_known_by_who_queued_the_request_or_by_the_wake_or_by_bytes_only() -> None:
    sleep = {"start_ns": 30, "woken_ns": 50, "end_ns": 50}
    for request, how in (
        ({"op_id": 0, "end_ns": 45}, "queued"), ({"op_id": 0}, "queued"),
        ({"op_id": 9, "end_ns": 45}, "waker"), ({"end_ns": 45}, "waker"), ({"op_id": 9}, "range"),
        ({}, "range"), ({"op_id": 9, "end_ns": 51}, "range"),
    ):  # fmt: skip
        asked = requests({"unique": 4, **request}, {"unique": 6, "op_id": 0})
        assert of_request(sleep, requests=asked)[-1] == (30, 50, how)


def test_a_sleep_outside_operations_or_for_no_request_is_no_wait() -> None:
    outside = {"start_ns": 82, "woken_ns": 85, "end_ns": 85, "woken_by_tid": 1}
    assert of_request(outside) == [(82, 85, "daemon", 4, 3, 1)]
    alone = {"start_ns": 30, "woken_ns": 50, "end_ns": 50, "unique": None, "mount_id": None}
    assert of_request(alone) == [(30, 50, "unknown", None, None, None)]


def test_each_sleep_is_one_wait_in_order() -> None:
    sleeps = ({"start_ns": at, "woken_ns": at + 5, "end_ns": at + 7} for at in (40, 30))
    assert of_request(*sleeps)[-2:] == [(30, 37, "queued"), (40, 47, "queued")]


@st.composite
def histories(draw: st.DrawFn) -> tiling.Evidence:
    """Random lives of three threads: calls with faults inside, sleeps, requests that end them."""
    ops: list[dict[str, Any]] = []
    offs: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []
    for tid in (1, 2, 3):
        cuts = sorted(draw(st.lists(st.integers(0, 120), max_size=12, unique=True)))
        for number, (low, high) in enumerate(zip(cuts[::2], cuts[1::2], strict=False)):
            last = number == len(cuts) // 2 - 1 and draw(st.booleans())
            ops.append({"tid": tid, "start_ns": low, "end_ns": None if last else high})
            if high - low > 2:
                ops.append({"tid": tid, "start_ns": low + 1, "end_ns": high - 1, "kind": "fault"})
        cuts = sorted(draw(st.lists(st.integers(0, 120), max_size=15, unique=True)))
        for low, woken, high in zip(cuts[::3], cuts[1::3], cuts[2::3], strict=False):
            reason = draw(st.sampled_from(["sleep", "preempted", "uninterruptible"]))
            unique = draw(st.one_of(st.none(), st.integers(1, 4)))
            offs.append(
                {
                    "tid": tid,
                    "start_ns": low,
                    "woken_ns": draw(st.sampled_from([None, woken])),
                    "end_ns": high,
                    "off_reason": reason,
                    "unique": unique,
                    "mount_id": None if unique is None else 0,
                    "woken_by_tid": draw(st.sampled_from([None, 1, 2, 77])),
                }
            )
    asked = [{"unique": unique, "op_id": 0} for unique in (1, 2, 3)]
    born = draw(st.integers(0, 40))
    threads = tasks(
        {"tid": 1, "start_ns": 0, "end_ns": None},
        {"tid": 2, "start_ns": born, "end_ns": 90},
        {"tid": 3, "start_ns": 10, "end_ns": 110},
    )
    return tiling.Evidence(operations(*ops), blocked(*offs), threads, requests(*asked))


TIMELINES = pieces(
    *((u, 0, 30 * u, "fuse_queue", None) for u in (1, 2, 3)),
    *((u, 30 * u, 30 * u + 5, "transfer", u) for u in (1, 2, 3)),
    *((u, 30 * u + 5, HORIZON_NS, "reply", None) for u in (1, 2, 3)),
)


@settings(deadline=None, max_examples=40)
@given(evidence=histories(), batch=st.sampled_from([7, 20, 4_000_000]))
def test_no_gap_no_overlap_and_the_sum_is_the_life(evidence: tiling.Evidence, batch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "BATCH_BOUNDARIES", batch)
        tiles, _ = built(evidence, TIMELINES)
    born = {row["tid"]: row["start_ns"] for row in evidence.tasks.iter_rows(named=True)}
    for tid, death in ((1, 100), (2, 90), (3, 100)):
        mine = tiles.filter(tid=tid)
        assert mine["start_ns"].to_list() == [born[tid], *mine["end_ns"].to_list()[:-1]]
        assert mine["end_ns"].to_list()[-1] == death
        assert (mine["end_ns"] > mine["start_ns"]).all()


@settings(deadline=None, max_examples=40)
@given(evidence=histories())
def test_causes_agree_with_asking_each_nanosecond(evidence: tiling.Evidence) -> None:
    """Whether a thread runs and which operation it is in, against the plainest possible
    reckoning.
    """
    tiles, _ = built(evidence, TIMELINES)
    ops = evidence.operations.rows(named=True)
    offs = evidence.blocked.rows(named=True)
    for tile in tiles.iter_rows(named=True):
        at = tile["start_ns"]
        inside = [
            o
            for o in ops
            if o["tid"] == tile["tid"] and o["start_ns"] <= at < (o["end_ns"] or 1000)
        ]
        faults = [o for o in inside if o["kind"] == "fault"]
        expected = (faults or inside or [{"op_id": None}])[-1]["op_id"]
        assert tile["op_id"] == expected
        off = any(o["tid"] == tile["tid"] and o["start_ns"] <= at < o["end_ns"] for o in offs)
        assert (tile["cause"] in ("cpu", "copy")) == (not off)


@settings(deadline=None, max_examples=40)
@given(evidence=histories())
def test_batches_do_not_change_what_time_is_spent_on(evidence: tiling.Evidence) -> None:
    sums: list[dict[Any, int]] = []
    for batch in (9, 4_000_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiling, "BATCH_BOUNDARIES", batch)
            tiles, waits = built(evidence, TIMELINES)
        spent = tiles.group_by("tid", "cause", "op_id", "fetch_id").agg(
            ns=(pl.col("end_ns") - pl.col("start_ns")).sum()
        )
        sums.append(
            {row[:-1]: row[-1] for row in spent.rows()} | {"waits": hash(tuple(waits.rows()))}
        )
    assert sums[0] == sums[1]


def calls(*rows: dict[str, Any]) -> pl.DataFrame:
    filled = [
        {"gpu_call_id": n, "kind": "copy", "function": "cuX", "pid": 1, "tid": 1, "count": 1,
         "source": "cupti", **row}
        for n, row in enumerate(rows)
    ]  # fmt: skip
    return conform("gpu_calls", pl.DataFrame(filled, infer_schema_length=None))


def test_time_in_the_driver_is_its_own_or_a_wait_for_the_device() -> None:
    """On the CPU and asleep; a thread without a CPU waits for one there too."""
    evidence = tiling.Evidence(
        operations(),
        blocked(
            {"start_ns": 20, "woken_ns": 28, "end_ns": 30, "woken_by_tid": 99},
            {"start_ns": 60, "woken_ns": 70, "end_ns": 70},
        ),
        ONE,
        requests(),
        calls(
            {"start_ns": 10, "end_ns": 40},
            {"start_ns": 50, "end_ns": 80, "kind": "synchronize"},
            {"start_ns": 90, "end_ns": None, "kind": "load"},
        ),
    )
    tiles, _ = built(evidence, pieces())
    assert causes(tiles) == [
        (0, 10, "cpu", None, None),
        (10, 20, "driver", None, None),
        (20, 28, "driver", None, 99),
        (28, 30, "runqueue", None, None),
        (30, 40, "driver", None, None),
        (40, 50, "cpu", None, None),
        (50, 60, "device", None, None),
        (60, 70, "device", None, None),
        (70, 80, "device", None, None),
        (80, 90, "cpu", None, None),
        (90, 100, "driver", None, None),
    ]


def test_a_fault_inside_a_copy_by_the_driver_owns_its_time() -> None:
    """A copy from a mapped model: it waits for a chunk from 30 to 60."""
    evidence = tiling.Evidence(
        operations({"start_ns": 20, "end_ns": 70, "kind": "fault"}),
        blocked({"start_ns": 30, "woken_ns": 60, "end_ns": 60, "mount_id": 0, "unique": 6}),
        ONE,
        requests({"unique": 6, "queued_ns": 30, "end_ns": 60, "op_id": 0}),
        calls({"start_ns": 10, "end_ns": 90, "function": "cuMemcpyHtoD"}),
    )
    parts = pieces((6, 0, 40, "first_byte", 3), (6, 40, 100, "transfer", 3))
    tiles, _ = built(evidence, parts)
    named = ("start_ns", "end_ns", "cause", "op_id", "fetch_id")
    assert tiles.select(named).rows() == [
        (0, 10, "cpu", None, None),
        (10, 20, "driver", None, None),
        (20, 30, "copy", 0, None),
        (30, 40, "first_byte", 0, 3),
        (40, 60, "transfer", 0, 3),
        (60, 70, "copy", 0, None),
        (70, 90, "driver", None, None),
        (90, 100, "cpu", None, None),
    ]


def test_of_calls_inside_each_other_the_outer_one_counts() -> None:
    """A synchronisation inside a copy is the copy's; one that begins at its end is not. Launches
    that were only counted have no ends.
    """
    evidence = tiling.Evidence(
        operations(),
        blocked(),
        ONE,
        requests(),
        calls(
            {"start_ns": 10, "end_ns": 30},
            {"start_ns": 10, "end_ns": 20, "kind": "synchronize"},
            {"start_ns": 15, "end_ns": 25, "kind": "synchronize"},
            {"start_ns": 30, "end_ns": 40, "kind": "synchronize"},
            {"start_ns": 50, "end_ns": 60, "kind": "launch"},
            {"start_ns": 70, "end_ns": 80, "kind": "launch", "source": "cuda_api", "count": 9},
            {"start_ns": 82, "end_ns": 85, "kind": "memset", "source": "cuda_api"},
            {"start_ns": 90, "end_ns": 95, "source": "cuda_api"},
        ),
    )
    tiles, _ = built(evidence, pieces())
    assert tiles.select("start_ns", "end_ns", "cause").rows() == [
        (0, 10, "cpu"), (10, 30, "driver"), (30, 40, "device"), (40, 50, "cpu"),
        (50, 60, "driver"), (60, 90, "cpu"), (90, 95, "driver"), (95, 100, "cpu"),
    ]  # fmt: skip


def test_a_thread_that_is_stopped_is_not_blocked() -> None:
    """Inside an operation too; from the signal that continues it on it is runnable."""
    stopped = {"off_reason": "stopped", "woken_by_tid": 99}
    evidence = tiling.Evidence(
        operations({"start_ns": 50, "end_ns": 90}),
        blocked(
            {"start_ns": 10, "woken_ns": 20, "end_ns": 22, **stopped},
            {"start_ns": 30, "woken_ns": 35, "end_ns": 35},
            {"start_ns": 60, "woken_ns": 70, "end_ns": 70, **stopped},
        ),
        ONE,
        requests(),
    )
    tiles, waits = built(evidence, pieces())
    assert causes(tiles) == [
        (0, 10, "cpu", None, None),
        (10, 20, "stopped", None, 99),
        (20, 22, "runqueue", None, None),
        (22, 30, "cpu", None, None),
        (30, 35, "blocked", None, None),
        (35, 50, "cpu", None, None),
        (50, 60, "copy", 0, None),
        (60, 70, "stopped", 0, 99),
        (70, 90, "copy", 0, None),
        (90, 100, "cpu", None, None),
    ]
    assert waits.height == 0
