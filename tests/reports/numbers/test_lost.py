"""What of the command's wall time waited for nothing, of frames made by hand. Times in ms."""

from __future__ import annotations

from typing import Any

from cvmprof.reports.numbers.command import CommandTime
from cvmprof.tests.reports.rows import statistics_of, tile
from cvmprof.tests.reports.synthetic import DAEMON, MAIN, MS, PID, Rows

OTHER = 102


def fetched(rows: Rows, number: int, start: int, end: int | None, **row: Any) -> None:
    """A fetch, that downloaded if it ended."""
    plain = {"object_kind": "chunk", "outcome": None if end is None else "downloaded"}
    rows.add("fetches", fetch_id=number, pid=DAEMON, tid=DAEMON, start_ns=start * MS,
             end_ns=None if end is None else end * MS, object_hash=f"{number}",
             **{**plain, **row})  # fmt: skip


def tried(rows: Rows, fetch: int, *times: int | None, **row: Any) -> None:
    """An attempt of a fetch with its times sent, first byte, last byte."""
    names = ("sent_ns", "first_byte_ns", "last_byte_ns")
    at = {name: None if time is None else time * MS
          for name, time in zip(names, times, strict=True)}  # fmt: skip
    number = len(rows.rows.get("downloads", []))
    plain = {"host": "h:80", "attempt": 1, "wire_bytes": 77, "download_id": number}
    rows.add("downloads", fetch_id=fetch, **{**plain, **at, **row})


def did(rows: Rows, start: int, end: int, cause: str, tid: int = MAIN, **ids: Any) -> None:
    """What a thread did; with a fetch it also has a request."""
    request = {"mount_id": 0, "unique": ids["fetch_id"]} if "fetch_id" in ids else {}
    tile(rows, start * MS, end * MS, cause, tid, **request, **ids)


def of(rows: Rows) -> CommandTime:
    rows.add("tasks", tid=MAIN, pid=PID, parent_pid=1, name="python3", role="target",
             start_ns=0, end_ns=None)  # fmt: skip
    for number in {row["fetch_id"] for row in rows.rows["fetches"]}:
        rows.add("fuse_requests", mount_id=0, unique=number, opcode=15, node_id=1, pid=PID,
                 tid=MAIN, queued_ns=0, error=0, op_id=0)  # fmt: skip
        for row in rows.rows["fetches"]:
            row |= {"mount_id": 0, "unique": row["fetch_id"]}
    return statistics_of(rows).command_time


def test_an_attempt_in_vain_is_divided_by_cause() -> None:
    rows = Rows()
    fetched(rows, 1, 0, 100)
    tried(rows, 1, 10, None, None)
    tried(rows, 1, 70, 80, 90, attempt=2, status=200)
    for start, end, cause in ((0, 10, "fetch_queue"), (10, 50, "first_byte"),
                              (50, 70, "fetch_queue"), (70, 80, "first_byte"),
                              (80, 100, "transfer")):  # fmt: skip
        did(rows, start, end, cause, fetch_id=1)
    found = of(rows)
    assert found.vain_causes_ns == {"first_byte": 40 * MS, "fetch_queue": 20 * MS}
    assert (found.vain_ns, found.hung_causes_ns) == (60 * MS, {})
    assert {part: gain.held_ns // MS for part, gain in found.gains.items()} == {
        "first_byte": 10, "transfer": 20, "other_downloads": 10,
    }  # fmt: skip


def test_a_body_that_stalls_half_way_and_is_repeated_was_for_nothing() -> None:
    rows = Rows()
    fetched(rows, 1, 0, 3100)
    tried(rows, 1, 0, 20, 40, status=200)
    tried(rows, 1, 3000, 3020, 3100, attempt=2, status=200)
    for start, end, cause in ((0, 20, "first_byte"), (20, 3000, "transfer"),
                              (3000, 3020, "first_byte"), (3020, 3100, "transfer")):  # fmt: skip
        did(rows, start, end, cause, fetch_id=1)
    found = of(rows)
    assert found.vain_causes_ns == {"transfer": 2980 * MS, "first_byte": 20 * MS}
    assert (found.gains["transfer"].held_ns, found.gains["first_byte"].held_ns) == (
        80 * MS,
        20 * MS,
    )


def test_a_body_that_stalls_half_way_until_the_end_hangs_since_its_last_byte() -> None:
    rows = Rows()
    fetched(rows, 1, 0, None)
    tried(rows, 1, 0, 20, 300, status=200)
    did(rows, 0, 20, "first_byte", fetch_id=1)
    did(rows, 20, 2300, "transfer", fetch_id=1)
    found = of(rows)
    assert (found.hung_causes_ns, found.vain_ns) == ({"transfer": 2000 * MS}, 0)
    assert found.gains["transfer"].held_ns == found.gains["transfer"].most_ns == 280 * MS


def test_what_has_been_silent_for_less_than_a_second_is_on_its_way() -> None:
    for end, hung_ms in ((999, {}), (1000, {"first_byte": 1000 * MS})):
        rows = Rows()
        fetched(rows, 1, 0, None)
        tried(rows, 1, 0, None, None)
        did(rows, 0, end, "first_byte", fetch_id=1)
        assert of(rows).hung_causes_ns == hung_ms


def test_one_of_several_that_stalls_counts_from_when_the_others_have_come() -> None:
    rows = Rows()
    fetched(rows, 1, 0, None)
    fetched(rows, 2, 0, 1000)
    tried(rows, 1, 0, None, None)
    tried(rows, 2, 0, 10, 1000, status=200)
    did(rows, 0, 4000, "first_byte", fetch_id=1)
    did(rows, 0, 1000, "transfer", tid=OTHER, fetch_id=2)
    did(rows, 1000, 4000, "blocked", tid=OTHER)
    found = of(rows)
    assert found.hung_causes_ns == {"first_byte": 3000 * MS}
    assert {part: gain.held_ns // MS for part, gain in found.gains.items()} == {"transfer": 1000}


def test_a_stall_while_another_thread_computes_holds_nothing_up() -> None:
    rows = Rows()
    fetched(rows, 1, 0, None)
    tried(rows, 1, 0, None, None)
    did(rows, 0, 4000, "first_byte", fetch_id=1)
    did(rows, 0, 3500, "cpu", tid=OTHER)
    found = of(rows)
    assert found.hung_causes_ns == {"first_byte": 500 * MS}
    assert found.gains == {}


def test_a_fetch_joined_is_lost_as_the_one_that_it_joined() -> None:
    rows = Rows()
    fetched(rows, 1, 0, None)
    fetched(rows, 2, 0, None, joined_fetch_id=1)
    tried(rows, 1, 0, None, None)
    did(rows, 0, 2000, "fetch_joined", fetch_id=2)
    assert of(rows).hung_causes_ns == {"fetch_joined": 2000 * MS}


def test_a_connection_that_does_not_come_about_hangs_only_after_the_attempt_before_it() -> None:
    rows = Rows()
    fetched(rows, 1, 0, None)
    tried(rows, 1, 0, None, None)
    tried(rows, 1, None, None, None, attempt=2, connect_ns=1000 * MS)
    did(rows, 0, 1000, "first_byte", fetch_id=1)
    did(rows, 1000, 3000, "connect", fetch_id=1)
    found = of(rows)
    assert found.vain_causes_ns == {"first_byte": 1000 * MS}
    assert (found.hung_causes_ns, found.gains) == ({"connect": 2000 * MS}, {})


def test_a_client_that_is_stopped_lost_nothing_to_a_server() -> None:
    rows = Rows()
    fetched(rows, 1, 0, 100)
    tried(rows, 1, 10, None, None)
    tried(rows, 1, 70, 80, 90, attempt=2, status=200)
    for start, end, cause in ((10, 50, "stopped"), (50, 70, "first_byte"), (70, 100, "transfer")):
        did(rows, start, end, cause, fetch_id=1)
    assert of(rows).vain_causes_ns == {"first_byte": 20 * MS}
