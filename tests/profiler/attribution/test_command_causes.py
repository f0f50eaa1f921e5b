"""The command's wall time: one cause at each instant, against a slow reference."""

from __future__ import annotations

from typing import Any, NamedTuple
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.profiler.attribution import command_causes as module
from cvmprof.profiler.attribution.command_causes import command_causes, process_causes
from cvmprof.profiler.tables import CAUSES, empty
from cvmprof.tests.profiler.rows import rows

NO_READS = empty("segments")


def segments(*given: dict[str, Any]) -> pl.DataFrame:
    """Segments of thread 1 of process 1."""
    return rows("segments", *({"pid": 1, "tid": 1, **row} for row in given))


def tile(start: int, end: int, cause: str, tid: int = 1, **links: Any) -> dict[str, Any]:
    return {"start_ns": start, "end_ns": end, "cause": cause, "tid": tid, **links}


def wall(*given: dict[str, Any], reads: pl.DataFrame = NO_READS) -> list[tuple[Any, ...]]:
    """The tiling: start, end, cause, thread."""
    tiles = command_causes(segments(*given), reads)
    return tiles.select("start_ns", "end_ns", "cause", "tid").rows()


def test_a_thread_on_a_cpu_wins_over_every_wait() -> None:
    assert wall(
        tile(0, 10, "cpu"), tile(10, 50, "blocked"), tile(50, 60, "copy"),
        tile(5, 55, "transfer", 2, unique=7, fetch_id=3),
    ) == [(0, 10, "cpu", 1), (10, 50, "transfer", 2), (50, 60, "copy", 1)]  # fmt: skip


#: from the one that wins to the one that loses against all
ORDER: list[dict[str, Any]] = [
    {"cause": "cpu"},
    {"cause": "transfer", "unique": 1, "fetch_id": 1},
    {"cause": "runqueue", "unique": 1, "fetch_id": 1},
    {"cause": "fetch", "fetch_id": 1},
    {"cause": "daemon_lock", "unique": 1, "fetch_id": 1},
    {"cause": "reply", "unique": 1},
    {"cause": "runqueue", "unique": 1},
    {"cause": "daemon_lock", "unique": 1},
    {"cause": "fuse_queue", "unique": 1},
    {"cause": "unknown", "unique": 1},
    {"cause": "disk"},
    {"cause": "driver", "via_tid": 4},
    {"cause": "runqueue"},
    {"cause": "unknown"},
    {"cause": "blocked"},
]


@pytest.mark.parametrize("place", range(len(ORDER) - 1))
def test_the_deeper_of_two_is_chosen(place: int) -> None:
    deep, shallow = ORDER[place], ORDER[place + 1]
    for one, other in ((1, 2), (2, 1)):
        found = wall(tile(0, 9, tid=one, **deep), tile(0, 9, tid=other, **shallow))
        assert found == [(0, 9, deep["cause"], one)]


@pytest.mark.parametrize("cause", ["cpu", "copy", "driver", "device"])
def test_of_threads_that_go_on_the_one_begun_first_is_told(cause: str) -> None:
    assert wall(tile(2, 9, cause), tile(0, 5, "cpu", 2), tile(0, 7, "transfer", 3, fetch_id=1)) == [
        (0, 5, "cpu", 2), (5, 9, cause, 1),
    ]  # fmt: skip


def test_a_wait_goes_on_with_the_one_that_waits_longest() -> None:
    wait = {"unique": 1, "fetch_id": 1}
    assert wall(
        tile(0, 10, "transfer", 1, **wait), tile(2, 30, "transfer", 2, **wait),
        tile(4, 20, "transfer", 3, **wait), tile(30, 40, "transfer", 3, **wait),
    ) == [(0, 10, "transfer", 1), (10, 30, "transfer", 2), (30, 40, "transfer", 3)]  # fmt: skip


def test_what_was_chosen_brings_what_it_waited_for() -> None:
    links = {"op_id": 4, "mount_id": 2, "unique": 1 << 63, "fetch_id": 9, "via_tid": 77}
    found = command_causes(
        segments(tile(0, 5, "blocked"), tile(0, 5, "connect", 2, pid=8, **links)), NO_READS
    )
    assert found.to_dicts() == [
        {
            "start_ns": 0,
            "end_ns": 5,
            "cause": "connect",
            "polled": False,
            "pid": 8,
            "tid": 2,
            **links,
        }
    ]


def test_where_no_thread_was_watched_it_is_unknown() -> None:
    assert wall(tile(0, 5, "cpu"), tile(8, 9, "blocked", 2)) == [
        (0, 5, "cpu", 1), (5, 8, "unknown", None), (8, 9, "blocked", 2),
    ]  # fmt: skip


def test_without_segments_there_is_no_time() -> None:
    assert wall() == []
    assert process_causes(segments(), NO_READS, 5).is_empty()


#: sleeps of 100 that timers end, and between them 10 on a CPU
POLLS = [tile(0, 100, "blocked"), tile(100, 110, "cpu"), tile(110, 210, "blocked")]


def test_a_thread_that_polls_hides_no_wait() -> None:
    found = command_causes(segments(*POLLS, tile(0, 105, "transfer", 2, fetch_id=1)), NO_READS)
    assert found.select("start_ns", "end_ns", "cause", "tid", "polled").rows() == [
        (0, 100, "transfer", 2, False), (100, 105, "transfer", 2, True),
        (105, 110, "cpu", 1, True), (110, 210, "blocked", 1, False),
    ]  # fmt: skip


def test_polling_beside_a_thread_that_goes_on_is_not_told() -> None:
    found = command_causes(segments(*POLLS, tile(0, 210, "cpu", 2)), NO_READS)
    assert found.select("start_ns", "end_ns", "tid", "polled").rows() == [(0, 210, 2, False)]


def test_reads_in_flight_count_while_the_command_sleeps() -> None:
    reads = rows(
        "segments",
        {"pid": 1, "tid": 1, "start_ns": 5, "end_ns": 40, "cause": "daemon", "unique": 1},
        {"pid": 1, "tid": 1, "start_ns": 10, "end_ns": 30, "cause": "first_byte", "fetch_id": 2},
        {"pid": 9, "tid": 9, "start_ns": 0, "end_ns": 90, "cause": "transfer", "fetch_id": 3},
    )
    tiles = [tile(0, 20, "blocked"), tile(20, 25, "cpu"), tile(25, 50, "blocked")]
    assert wall(*tiles, reads=reads) == [
        (0, 5, "blocked", 1), (5, 10, "daemon", 1), (10, 20, "first_byte", 1), (20, 25, "cpu", 1),
        (25, 30, "first_byte", 1), (30, 40, "daemon", 1), (40, 50, "blocked", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "chosen"), [("fetch", 2), ("runqueue", 2), ("stopped", 2), ("daemon_lock", 1)]
)
def test_a_read_in_flight_says_less_than_a_thread_that_waits_for_its_fetch(
    cause: str, chosen: int
) -> None:
    """It says more than a lock that waits for a fetch."""
    reads = segments(tile(0, 9, "transfer", unique=1, fetch_id=5))
    waits = tile(0, 9, cause, 2, unique=2, fetch_id=5)
    (found,) = wall(waits, reads=reads)
    assert found == (0, 9, cause if chosen == 2 else "transfer", chosen)


def test_each_process_has_a_wall_time_of_its_own() -> None:
    tiles = segments(
        tile(0, 100, "cpu", 1), tile(10, 60, "transfer", 2, pid=2, unique=1, fetch_id=1),
        tile(10, 90, "daemon", 3, pid=2, unique=1), tile(0, 30, "runqueue", 4, pid=4),
        tile(50, 60, "runqueue", 4, pid=4),
    )  # fmt: skip
    assert process_causes(tiles, NO_READS, 9).rows() == [
        (1, "cpu", 100, 0, 0), (2, "daemon", 30, 30, 0), (2, "transfer", 50, 50, 50),
        (4, "runqueue", 40, 0, 0),
    ]  # fmt: skip
    assert process_causes(tiles, NO_READS, 2)["pid"].unique().sort().to_list() == [1, 2]


def test_every_level_is_a_bit_of_an_int64_and_every_cause_has_one() -> None:
    assert module.PROGRESSES <= 62
    assert set(CAUSES[CAUSES.index("fuse_queue") :]) < set(module.SERVED)
    assert {*module.WAITS, *module.PROGRESS} == set(CAUSES)


class Kind(NamedTuple):
    """What a segment may be."""

    cause: str
    unique: int | None = None
    fetch_id: int | None = None
    via_tid: int | None = None


KINDS = (
    Kind("cpu"), Kind("cpu"), Kind("copy"), Kind("blocked"), Kind("blocked"),
    Kind("blocked", via_tid=2), Kind("runqueue"), Kind("runqueue", 5, 6), Kind("unknown"),
    Kind("disk"), Kind("fuse_queue", 5), Kind("daemon_lock", 5), Kind("daemon_lock", 5, 6),
    Kind("cache_read", 5), Kind("first_byte", 5, 6), Kind("first_byte", None, 7),
    Kind("transfer", 5, 7), Kind("reply", 5), Kind("driver"), Kind("driver", via_tid=2),
    Kind("device"),
)  # fmt: skip
#: of waits, the deepest first: whether it is for a fetch and for a request, and its cause
DEPTHS = [
    *((True, cause) for cause in ("transfer", "first_byte", "runqueue", "daemon_lock")),
    *((False, cause) for cause in ("reply", "cache_read", "daemon_lock", "fuse_queue")),
]
PLAIN = ["disk", "driver", "runqueue", "unknown", "polls", "blocked"]


@st.composite
def lives(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to four threads of two processes, each tiled from some time on."""
    tiles = list[dict[str, Any]]()
    for tid in range(1, 1 + draw(st.integers(1, 4))):
        at = draw(st.integers(0, 30))
        for _ in range(draw(st.integers(1, 8))):
            end, kind = at + draw(st.integers(1, 30)), draw(st.sampled_from(KINDS))
            tiles.append({"pid": 1 + tid % 2, **tile(at, end, tid=tid, **kind._asdict())})
            at = end
    return tiles


def polling(tiles: list[dict[str, Any]]) -> set[int]:
    """The places of what only polls, step by step."""
    found = set[int]()
    slept, run, idles = 0, list[int](), False
    for place, one in enumerate([*tiles, tile(-1, -1, "end", -1)]):
        last = tiles[place - 1] if place else tile(-2, -2, "end", -2)
        if (one["tid"], one["start_ns"]) != (last["tid"], last["end_ns"]):
            slept, run, idles = 0, [], False
        if one["cause"] == "blocked" and one["via_tid"] is None:
            on_cpu = [at for at in run if tiles[at]["cause"] == "cpu"]
            ran = sum(tiles[at]["end_ns"] - tiles[at]["start_ns"] for at in on_cpu)
            if run and idles and 10 * ran <= slept:
                found.update(on_cpu)
            slept = (0 if run else slept) + one["end_ns"] - one["start_ns"]
            run, idles = [], True
        else:
            run.append(place)
            idles = idles and one["cause"] in ("cpu", "runqueue", "blocked")
    return found


def depth(one: dict[str, Any], *, polls: bool) -> int:
    """How deep a segment is; 0 is the deepest."""
    cause, on_cpu = one["cause"], ("cpu", "copy", "device")
    if not polls and (cause in on_cpu or (cause == "driver" and one["via_tid"] is None)):
        return 0
    fetch = one["fetch_id"] is not None
    if fetch or one["unique"] is not None:
        return 1 + DEPTHS.index((fetch, cause))
    return 1 + len(DEPTHS) + PLAIN.index("polls" if polls else cause)


def reference(tiles: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The cause, thread and fetch at each instant."""
    polls = polling(tiles)
    low, high = min(one["start_ns"] for one in tiles), max(one["end_ns"] for one in tiles)
    found = list[tuple[Any, ...]]()
    for now in range(low, high):
        going_on = [
            (
                depth(one, polls=at in polls),
                one["start_ns"],
                one["tid"],
                one["cause"],
                one["fetch_id"],
            )
            for at, one in enumerate(tiles)
            if one["start_ns"] <= now < one["end_ns"]
        ]
        best = min(going_on, default=(0, 0, None, "unknown", None))
        polled = best[0] > 0 and any(
            tiles[at]["start_ns"] <= now < tiles[at]["end_ns"] for at in polls
        )
        found.append((now, *best[2:], polled))
    return found


@settings(deadline=None)
@given(lives(), st.integers(1, 12))
def test_every_instant_has_the_cause_that_a_loop_finds(
    tiles: list[dict[str, Any]], window: int
) -> None:
    with patch.object(module, "WINDOW_SEGMENTS", window):
        found = command_causes(segments(*tiles), NO_READS)
    instants = [
        (now, row["tid"], row["cause"], row["fetch_id"], row["polled"])
        for row in found.iter_rows(named=True)
        for now in range(row["start_ns"], row["end_ns"])
    ]
    assert instants == reference(tiles)


@settings(deadline=None)
@given(lives(), st.integers(1, 12))
def test_the_pieces_tile_the_wall_time(tiles: list[dict[str, Any]], window: int) -> None:
    with patch.object(module, "WINDOW_SEGMENTS", window):
        found = command_causes(segments(*tiles), NO_READS)
    assert found["start_ns"][1:].to_list() == found["end_ns"][:-1].to_list()
    assert (found["end_ns"] > found["start_ns"]).all()
    low, high = min(one["start_ns"] for one in tiles), max(one["end_ns"] for one in tiles)
    assert (found["start_ns"][0], found["end_ns"][-1]) == (low, high)
    facts = found.select(pl.exclude("start_ns", "end_ns"))
    assert not any(facts.row(n) == facts.row(n + 1) and _is_one(tiles, found, n)
                   for n in range(found.height - 1))  # fmt: skip


def _is_one(tiles: list[dict[str, Any]], found: pl.DataFrame, place: int) -> bool:
    """Whether a piece and the next are of one segment."""
    tid, end_ns = found["tid"][place], found["end_ns"][place]
    return not any(one["tid"] == tid and one["start_ns"] == end_ns for one in tiles)


@settings(deadline=None)
@given(lives())
def test_a_process_is_tiled_as_if_it_were_the_command(tiles: list[dict[str, Any]]) -> None:
    sums = process_causes(segments(*tiles), NO_READS, 9)
    for pid in {one["pid"] for one in tiles}:
        own = [one for one in tiles if one["pid"] == pid]
        expected = [cause for _, tid, cause, _, _ in reference(own) if tid is not None]
        found = dict(sums.filter(pid=pid).select("cause", "ns").iter_rows())
        assert found == {cause: expected.count(cause) for cause in set(expected)}
