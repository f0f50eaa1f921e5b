from __future__ import annotations

import polars as pl
import pytest

from cvmprof.reports.figures.bricks import DURATION
from cvmprof.reports.figures.lanes import LaneGroup
from cvmprof.reports.figures.packed import ONE_BY_ONE
from cvmprof.reports.figures.parts import fetch_parts
from cvmprof.reports.figures.service import (
    MAX_DAEMON_THREADS,
    REQUEST_ROWS,
    ROWS_OF_OTHERS,
    daemon_lanes,
    request_lanes,
)
from cvmprof.reports.material import gather
from cvmprof.tests.reports.rows import fetch, tile
from cvmprof.tests.reports.synthetic import DAEMON, MS, PID, START, Rows, run_of

Piece = tuple[str, float, float]


def request(rows: Rows, queued: float, end: float | None, **row: object) -> None:
    """Add a READ that the daemon takes after a millisecond; times in milliseconds."""
    plain = {"opcode": 15, "node_id": 17, "pid": PID, "tid": PID, "error": 0, "mount_id": 0,
             "unique": 2 * len(rows.rows.get("fuse_requests", [])) + 2}  # fmt: skip
    times = {"queued_ns": at(queued), "served_ns": at(queued + 1)}
    rows.add("fuse_requests", **plain | times | {"end_ns": None if end is None else at(end)} | row)


def at(ms: float) -> int:
    return START + round(ms * MS)


def mounted(until_ms: int = 100) -> Rows:
    """A run of a mount, whose thread sleeps."""
    rows = Rows()
    rows.add("mounts", mount_id=0, device="0:5", client_version="2.12", daemon_pid=DAEMON)
    tile(rows, START, at(until_ms), "blocked")
    return rows


def requests_of(rows: Rows) -> LaneGroup:
    material = gather(run_of(rows))
    fetched = fetch_parts(material.frames, material.window)
    return request_lanes(material.frames, material.window, fetched)


def fetches_of(rows: Rows) -> LaneGroup:
    material = gather(run_of(rows))
    fetched = fetch_parts(material.frames, material.window)
    return daemon_lanes(material.frames, material.window, fetched)


def drawn(group: LaneGroup, lane: int = 0) -> list[Piece]:
    """The pieces of a lane: word, start and end in milliseconds."""
    rows = group.lanes[lane].bricks.select("code", "start_ns", "end_ns").iter_rows()
    return [
        (group.palette[code][0], (start - START) / MS, (end - START) / MS)
        for code, start, end in rows
    ]


def test_a_request_is_divided_by_what_it_waited_for() -> None:
    rows = mounted()
    request(rows, 10, 50)
    fetch(rows, at(12), at(49), mount_id=0, unique=2, download_id=0)
    rows.add("downloads", download_id=0, mount_id=0, object_hash="a", host="h", attempt=1,
             reused=False, queued_ns=at(13), connect_ns=at(14), sent_ns=at(16),
             first_byte_ns=at(36), last_byte_ns=at(44), committed_ns=at(48))  # fmt: skip
    parts = [
        ("fetch_queue", 12, 14), ("connect", 14, 16), ("first_byte", 16, 36), ("transfer", 36, 44),
        ("decompress", 44, 48), ("cache_write", 48, 49),
    ]  # fmt: skip
    assert drawn(requests_of(rows)) == [
        ("fuse_queue", 10, 11), ("cache_read", 11, 12), *parts, ("cache_read", 49, 50),
    ]  # fmt: skip
    rows.add("daemon_calls", call_id=0, mount_id=0, function="cvmfs_read", pid=DAEMON, tid=DAEMON,
             start_ns=at(11), end_ns=at(50), unique=2)  # fmt: skip
    group = fetches_of(rows)
    assert [lane.label for lane in group.lanes] == [f"cvmfs2 {DAEMON}", "fetches"]
    assert drawn(group) == [("daemon", 11, 50)]
    assert drawn(group, 1) == parts


def test_what_the_tiling_says_of_a_fetch_is_said_in_its_lanes() -> None:
    rows = mounted(10)
    tile(rows, at(10), at(20), "fetch_queue", mount_id=0, unique=2, fetch_id=0)
    tile(rows, at(20), at(30), "first_byte", mount_id=0, unique=2, fetch_id=0)
    fetch(rows, at(8), at(40), mount_id=0, unique=2)
    group = fetches_of(rows)
    assert drawn(group, 1) == [
        ("fetch", 8, 10), ("fetch_queue", 10, 20), ("first_byte", 20, 30),
    ]  # fmt: skip


def test_a_joined_fetch_is_drawn_as_joined() -> None:
    rows = mounted()
    fetch(rows, at(10), at(40), mount_id=0, unique=4, outcome="joined")
    request(rows, 8, 41, unique=4)
    assert ("fetch_joined", 10, 40) in drawn(requests_of(rows))
    assert drawn(fetches_of(rows), 1) == [("fetch_joined", 10, 40)]


def test_each_attempt_of_a_fetch_has_its_parts() -> None:
    rows = mounted()
    fetch(rows, at(10), at(60), mount_id=0, download_id=1)
    for number, sent in enumerate((12, 40)):
        rows.add("downloads", download_id=number, mount_id=0, object_hash="a", host="h",
                 attempt=number + 1, reused=True, sent_ns=at(sent), first_byte_ns=at(sent + 5),
                 last_byte_ns=at(sent + 6))  # fmt: skip
    assert drawn(fetches_of(rows), 1) == [
        ("fetch_queue", 10, 12), ("first_byte", 12, 17), ("transfer", 17, 18),
        ("fetch_queue", 18, 40), ("first_byte", 40, 45), ("transfer", 45, 46),
        ("decompress", 46, 60),
    ]  # fmt: skip


def test_what_failed_is_red_and_what_never_ended_shows_what_it_hung_in() -> None:
    rows = mounted()
    request(rows, 10, 20, error=-5)
    request(rows, 30, None)
    group = requests_of(rows)
    assert drawn(group) == [
        ("failed", 10, 11), ("failed", 11, 20), ("fuse_queue", 30, 31), ("cache_read", 31, 100),
    ]  # fmt: skip
    assert group.lanes[0].bricks["ended"].to_list() == [
        "error 5", "error 5", "never answered", "never answered",
    ]  # fmt: skip
    fetch(rows, at(10), at(20), outcome="failed")
    fetch(rows, at(30), None, outcome=None, download_id=0, mount_id=0)
    rows.add("downloads", download_id=0, mount_id=0, object_hash="a", host="h", attempt=1,
             sent_ns=at(31))  # fmt: skip
    group = fetches_of(rows)
    assert drawn(group, 1) == [
        ("failed", 10, 20), ("fetch_queue", 30, 31), ("first_byte", 31, 100),
    ]  # fmt: skip
    assert group.lanes[1].bricks["ended"].to_list() == ["failed", "never ended", "never ended"]


def test_a_wait_for_a_lock_of_the_client_is_one() -> None:
    rows = mounted()
    request(rows, 10, 40)
    rows.add("lock_waits", mount_id=0, unique=2, start_ns=at(15), end_ns=at(35), pid=DAEMON,
             tid=DAEMON, holder_tid=9, kind="same_handle")  # fmt: skip
    assert drawn(requests_of(rows)) == [
        ("fuse_queue", 10, 11), ("cache_read", 11, 15), ("daemon_lock", 15, 35),
        ("cache_read", 35, 40),
    ]  # fmt: skip


def test_requests_too_many_and_too_short_to_be_seen_are_summed_not_left_out() -> None:
    count = 4 * ONE_BY_ONE
    rows = mounted(12_000)
    for number in range(count):
        request(rows, number + 0.2, number + 0.8, served_ns=at(number + 0.4))
    request(rows, 2_000, 2_500)  # one that can be seen
    group = requests_of(rows)
    assert [lane.label for lane in group.lanes] == ["in flight", f"{count:,} requests"]
    assert drawn(group)[-1] == ("cache_read", 2_001, 2_500)
    summed = group.lanes[1].bricks
    by_code = summed.group_by("code").agg(DURATION.sum().alias("ns"))
    assert {group.palette[code][0]: ns for code, ns in by_code.iter_rows()} == {
        "fuse_queue": count * MS // 5,
        "cache_read": 2 * count * MS // 5,
    }
    # in every bin a fifth waits in the queue and two fifths for the cache
    step = round(12_000 * MS / 400)
    bins = summed.group_by((pl.col("start_ns") // step).alias("bin"), "code").agg(ns=DURATION.sum())
    whole = bins.group_by("bin").agg(pl.col("ns").sum())["ns"]
    assert whole.quantile(0.05) == pytest.approx(18 * MS, rel=0.001)
    assert whole.quantile(0.95) == pytest.approx(18 * MS, rel=0.001)
    assert group.note == (
        "Of 12,001: 1 request drawn one by one, 12,000 requests drawn as "
        f"{summed.height} merged bricks: each colour covers the time it had, a full row is one "
        "at a time. Zooming in shows no more of them."
    )


def test_requests_for_which_no_row_is_free_are_summed() -> None:
    rows = mounted()
    for number in range(REQUEST_ROWS.alone + 5):
        request(rows, 10 + number / 100, 90)
    group = requests_of(rows)
    assert len(group.lanes) <= REQUEST_ROWS.alone + REQUEST_ROWS.rest
    assert group.lanes[REQUEST_ROWS.alone].label == "5 requests"


def test_threads_of_the_daemon_beyond_the_busiest_are_summed() -> None:
    rows = mounted()
    for number in range(MAX_DAEMON_THREADS + 40):
        tid = DAEMON + number
        rows.add("daemon_calls", call_id=number, mount_id=0, function="cvmfs_read", pid=DAEMON,
                 tid=tid, start_ns=at(10), end_ns=at(90), unique=2 + 2 * number)  # fmt: skip
        fetch(
            rows, at(20), at(80), mount_id=0, unique=2 + 2 * number, tid=tid, object_hash=str(tid)
        )
    group = fetches_of(rows)
    assert len(group.lanes) == 2 * MAX_DAEMON_THREADS + 2 * ROWS_OF_OTHERS
    labels = [lane.label for lane in group.lanes[2 * MAX_DAEMON_THREADS :]]
    assert labels == ["40 calls", "", "40 fetches", ""]
    assert group.note.startswith("Of 40 less busy threads: 40 calls drawn as ")
    assert "a full row is 20 at once" in group.note
