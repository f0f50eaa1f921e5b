"""What can be gained at most from the parts of the waits, where several threads wait."""

from __future__ import annotations

from cvmprof.profiler.tables import CAUSES
from cvmprof.reports.numbers.gains import PARTS, Gain
from cvmprof.tests.reports.rows import statistics_of, tile
from cvmprof.tests.reports.synthetic import MAIN, PID, Rows

OTHER = 102


def gains(rows: Rows) -> dict[str, Gain]:
    return statistics_of(rows).command_time.gains


def wait(rows: Rows, start: int, end: int, cause: str, tid: int = MAIN) -> None:
    tile(rows, start, end, cause, tid, mount_id=0, unique=tid, fetch_id=tid)


def test_of_one_thread_no_more_can_be_gained_than_what_held_it_up() -> None:
    rows = Rows()
    wait(rows, 0, 5, "connect")
    wait(rows, 5, 30, "first_byte")
    tile(rows, 30, 60, "cpu")
    wait(rows, 60, 80, "transfer")
    assert gains(rows) == {"first_byte": Gain(30, 30), "transfer": Gain(20, 20)}


def test_what_is_awaited_while_another_computes_can_be_gained_though_it_held_nothing_up() -> None:
    """Without its wait the thread computes at once, beside the other: 100, not 200."""
    rows = Rows()
    wait(rows, 0, 100, "first_byte")
    tile(rows, 100, 200, "cpu")
    tile(rows, 0, 100, "cpu", tid=OTHER)
    assert gains(rows) == {"first_byte": Gain(0, 100)}


def test_a_wait_hidden_by_a_deeper_one_counts_as_that_but_can_be_gained() -> None:
    """Without ``transfer`` the other thread still waits for its first byte."""
    rows = Rows()
    wait(rows, 0, 100, "first_byte")
    wait(rows, 0, 60, "transfer", tid=OTHER)
    tile(rows, 60, 100, "blocked", tid=OTHER)
    assert gains(rows) == {"first_byte": Gain(40, 100), "transfer": Gain(60, 60)}


def test_threads_that_wait_at_once_can_gain_that_time_once() -> None:
    rows = Rows()
    wait(rows, 0, 60, "first_byte")
    wait(rows, 40, 100, "first_byte", tid=OTHER)
    assert gains(rows) == {"first_byte": Gain(100, 100)}


def test_an_asynchronous_read_waits_for_the_client_only_outside_its_fetch() -> None:
    rows = Rows()
    tile(rows, 0, 100, "blocked")
    rows.add("fuse_requests", mount_id=0, unique=1, opcode=15, node_id=1, pid=PID, tid=MAIN,
             queued_ns=20, served_ns=20, end_ns=90, error=0)  # fmt: skip
    rows.add("fetches", fetch_id=1, mount_id=0, unique=1, start_ns=30, end_ns=80, pid=9, tid=9,
             download_id=0, object_kind="chunk", outcome="downloaded")  # fmt: skip
    rows.add("downloads", download_id=0, fetch_id=1, host="h", attempt=1, sent_ns=30,
             first_byte_ns=70, last_byte_ns=80, status=200)  # fmt: skip
    found = statistics_of(rows).command_time
    assert found.gains == {
        "first_byte": Gain(40, 40), "transfer": Gain(10, 10), "client": Gain(20, 20),
    }  # fmt: skip
    assert found.reads_causes_ns == {"first_byte": 40, "daemon": 20, "transfer": 10}


def test_what_is_not_divided_of_a_fetch_may_be_gained_from_each_of_its_parts() -> None:
    rows = Rows()
    wait(rows, 0, 30, "first_byte")
    wait(rows, 30, 50, "fetch")
    wait(rows, 50, 60, "daemon_lock")
    assert gains(rows) == {"first_byte": Gain(30, 50), "locks": Gain(10, 10)}


def test_what_is_not_divided_of_an_asynchronous_read_may_be_any_of_its_parts() -> None:
    """The read: 10 in the client, 20 in its fetch, 10 until the first byte, 50 in its fetch."""
    rows = Rows()
    wait(rows, 0, 5, "decompress", tid=OTHER)
    wait(rows, 5, 10, "daemon_lock", tid=OTHER)
    tile(rows, 10, 100, "blocked", tid=OTHER)
    tile(rows, 0, 100, "blocked")
    rows.add("fuse_requests", mount_id=0, unique=1, opcode=15, node_id=1, pid=PID, tid=MAIN,
             queued_ns=10, served_ns=10, end_ns=100, error=0)  # fmt: skip
    rows.add("fetches", fetch_id=1, mount_id=0, unique=1, start_ns=20, end_ns=100, pid=9, tid=9,
             download_id=0, object_kind="chunk", outcome="downloaded")  # fmt: skip
    rows.add("downloads", download_id=0, fetch_id=1, host="h", attempt=1, sent_ns=40,
             first_byte_ns=50, last_byte_ns=50, status=200)  # fmt: skip
    assert gains(rows) == {
        "first_byte": Gain(10, 80), "download_thread": Gain(5, 75), "locks": Gain(5, 85),
        "client": Gain(10, 10),
    }  # fmt: skip


def test_each_cause_is_in_one_part_at_most() -> None:
    causes = [cause for part in PARTS.values() for cause in part]
    assert len(set(causes)) == len(causes)
    assert set(causes) < set(CAUSES)
