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


def test_each_cause_is_in_one_part_at_most() -> None:
    causes = [cause for part in PARTS.values() for cause in part]
    assert len(set(causes)) == len(causes)
    assert set(causes) < set(CAUSES)
