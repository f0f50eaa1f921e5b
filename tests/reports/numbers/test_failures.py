"""Which requests brought nothing, which fetches failed and by what, and what came twice."""

from __future__ import annotations

from typing import Any

from cvmprof.reports.numbers.failures import Failures, failures
from cvmprof.tests.reports.synthetic import Rows

FINE = Failures(fetches={}, statuses={}, unanswered=0, rejected=0, downloaded_again=0)


def tried(rows: Rows, number: int, status: int | None, **values: Any) -> None:
    """A download: of object a on mount 0, the first attempt, unless said otherwise."""
    plain = {"mount_id": 0, "object_hash": "a", "attempt": 1, "host": "h"}
    rows.add("downloads", download_id=number, status=status, **{**plain, **values})


def fetched(rows: Rows, outcome: str | None, **values: Any) -> None:
    rows.add("fetches", fetch_id=len(rows.rows.get("fetches", [])), pid=1, tid=1, start_ns=0,
             outcome=outcome, **values)  # fmt: skip


def of(rows: Rows) -> Failures:
    return failures(rows.frames())


def test_of_an_empty_run_nothing_failed() -> None:
    assert of(Rows()) == FINE


def test_statuses_from_400_on_are_counted_in_their_order() -> None:
    rows = Rows()
    for number, status in enumerate((500, 404, 200, 400, 404, 399, None)):
        tried(rows, number, status, object_hash=f"{number}")
    found = of(rows)
    assert list(found.statuses.items()) == [(400, 1), (404, 2), (500, 1)]
    assert (found.unanswered, found.rejected, found.downloaded_again) == (0, 0, 0)
    assert found.requests == 4


def test_requests_that_brought_nothing_are_of_three_kinds() -> None:
    assert Failures({}, {404: 1, 500: 2}, 4, 8, downloaded_again=16).requests == 15


def test_an_attempt_that_is_made_again_brought_nothing() -> None:
    rows = Rows()
    tried(rows, 0, 200)
    tried(rows, 1, None, attempt=2)
    tried(rows, 2, 502, attempt=3)
    tried(rows, 3, 200, attempt=4)
    found = of(rows)
    assert (found.rejected, found.unanswered, found.statuses) == (1, 1, {502: 1})
    assert found.downloaded_again == 0


def test_downloads_are_taken_in_the_order_of_their_numbers() -> None:
    rows = Rows()
    for number, attempt in ((2, 3), (0, 1), (1, 2)):
        tried(rows, number, None, attempt=attempt)
    assert of(rows).unanswered == 2


def test_a_first_attempt_is_no_repetition_but_a_second_download() -> None:
    rows = Rows()
    for number in range(2):
        tried(rows, number, 200)
    tried(rows, 2, 200, object_hash="b")
    found = of(rows)
    assert (found.rejected, found.unanswered, found.downloaded_again) == (0, 0, 1)


def test_a_later_attempt_that_does_not_follow_is_no_repetition() -> None:
    rows = Rows()
    tried(rows, 0, None)
    tried(rows, 1, 200, attempt=3)
    assert of(rows) == FINE


def test_the_longest_silence_of_an_attempt_that_was_given_up() -> None:
    rows = Rows()
    tried(rows, 0, None, sent_ns=10, closed_ns=100)
    tried(rows, 1, 200, attempt=2, sent_ns=110, first_byte_ns=120, last_byte_ns=130, closed_ns=170)
    tried(rows, 2, None, attempt=3, sent_ns=200, closed_ns=230, proxy="p:1")
    tried(rows, 3, None, attempt=4, closed_ns=900)
    tried(rows, 4, None, attempt=5, sent_ns=300)
    tried(rows, 5, 200, attempt=6, sent_ns=400, last_byte_ns=410, closed_ns=9000)
    assert of(rows).silences_ns == {"direct": 90, "proxy": 30}


def test_a_connection_that_is_kept_after_an_error_was_not_silent() -> None:
    """Closed after the next request, or after the fetch had failed, it was idle in between."""
    rows = Rows()
    tried(rows, 0, 500, sent_ns=10, first_byte_ns=11, last_byte_ns=12, closed_ns=9000)
    tried(rows, 1, 500, attempt=2, sent_ns=20, first_byte_ns=21, last_byte_ns=22, closed_ns=9000)
    tried(rows, 2, None, sent_ns=20, closed_ns=50, object_hash="b")
    fetched(rows, "failed", download_id=1, end_ns=30)
    fetched(rows, "failed", download_id=2, end_ns=50)
    assert of(rows).silences_ns == {"direct": 30}


def test_attempts_at_other_objects_may_lie_between() -> None:
    rows = Rows()
    tried(rows, 0, None)
    tried(rows, 1, 200, object_hash="b", attempt=3)
    tried(rows, 2, 200, attempt=2)
    assert of(rows).unanswered == 1


def test_attempts_at_other_objects_are_no_repetition() -> None:
    rows = Rows()
    tried(rows, 0, None)
    tried(rows, 1, None, object_hash="b", attempt=2)
    tried(rows, 2, None, mount_id=1, attempt=2)
    assert of(rows) == FINE


def test_an_object_of_two_mounts_is_downloaded_for_each() -> None:
    rows = Rows()
    tried(rows, 0, 200)
    tried(rows, 1, 200, mount_id=1)
    assert of(rows) == FINE


def test_downloads_of_no_known_object_are_not_compared() -> None:
    rows = Rows()
    tried(rows, 0, 200, object_hash=None)
    tried(rows, 1, None, object_hash=None, attempt=2)
    tried(rows, 2, 200, object_hash=None)
    assert of(rows) == FINE


def test_an_answer_is_an_error_from_400_on() -> None:
    rows = Rows()
    tried(rows, 0, 399)
    tried(rows, 1, 400, attempt=2)
    tried(rows, 2, 200, attempt=3)
    found = of(rows)
    assert (found.rejected, found.statuses) == (1, {400: 1})


def test_an_error_is_no_download() -> None:
    rows = Rows()
    tried(rows, 0, 200)
    tried(rows, 1, 404)
    tried(rows, 2, None)
    assert of(rows).downloaded_again == 0


def test_the_last_attempt_of_a_fetch_that_failed_brought_nothing() -> None:
    rows = Rows()
    for number, status in enumerate((200, None, 404, 200, None)):
        tried(rows, number, status, object_hash=f"{number}")
    for number, outcome in enumerate(("failed", "failed", "failed", "downloaded", None)):
        fetched(rows, outcome, download_id=number)
    found = of(rows)
    assert (found.rejected, found.unanswered, found.statuses) == (1, 1, {404: 1})


def test_what_a_fetch_that_failed_got_is_not_downloaded_again() -> None:
    rows = Rows()
    tried(rows, 0, 200)
    tried(rows, 1, 200)
    fetched(rows, "failed", download_id=0)
    fetched(rows, "failed", download_id=None)
    found = of(rows)
    assert (found.rejected, found.downloaded_again) == (1, 0)


def test_fetches_that_failed_by_error_the_most_frequent_first() -> None:
    rows = Rows()
    for call, result in enumerate((-5, -28, -28, 0, -28, -5, -99_999, None)):
        rows.add("daemon_calls", call_id=call, function="f", pid=1, tid=1, start_ns=0,
                 result=result)  # fmt: skip
    for call in (0, 1, 2, 4, 5):
        fetched(rows, "failed", call_id=call)
    assert list(of(rows).fetches.items()) == [("ENOSPC", 3), ("EIO", 2)]
    fetched(rows, "downloaded", call_id=3)
    fetched(rows, None, call_id=3)
    fetched(rows, "failed", call_id=6)
    fetched(rows, "failed", call_id=7)
    assert of(rows).fetches == {"ENOSPC": 3, "EIO": 2, "-99999": 1, "unknown": 1}


def test_errors_that_are_equally_frequent_stand_in_the_order_of_their_numbers() -> None:
    rows = Rows()
    for call, result in enumerate((None, -28, -5, -110, -2, -13)):
        rows.add("daemon_calls", call_id=call, function="f", pid=1, tid=1, start_ns=0,
                 result=result)  # fmt: skip
        fetched(rows, "failed", call_id=call)
    assert list(of(rows).fetches) == ["ENOENT", "EIO", "EACCES", "ENOSPC", "ETIMEDOUT", "unknown"]


def test_a_failed_fetch_without_a_call_has_no_known_error() -> None:
    rows = Rows()
    fetched(rows, "failed")
    fetched(rows, "failed", call_id=7)
    assert of(rows).fetches == {"unknown": 2}
