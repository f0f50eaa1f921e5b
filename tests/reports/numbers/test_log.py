"""Reports of imported logs: what the log says, and nothing more exact than it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cvmprof.profiler.logs.imports import import_log
from cvmprof.profiler.run.opened import Run
from cvmprof.reports.material import Window, gather
from cvmprof.reports.numbers.log import (
    MOST_FETCHES,
    Imported,
    bar_ns,
    counts_over_time,
    imported_of,
)
from cvmprof.reports.numbers.statistics import Statistics, compute
from cvmprof.reports.page.page import render_page
from cvmprof.reports.terminal.summary import render_side_by_side, render_summary, summary_json

from ...profiler.logs.client_logs import HOST, DebugLogWriter, object_hash, trace_line
from ..synthetic import Rows

PATH = "/models/<b>model</b>.bin"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    log = DebugLogWriter()
    log.begin()
    log.know(259, PATH)
    log.call("open on inode: 259")
    for number in range(5):
        log.read(259, 1 << 20, number << 20)
        log.fetch(number, PATH, took_s=2)
    log.look_up(4, hit=True)
    log.miss(7, PATH)
    log.fail(7, PATH)
    log.lines.append("nonsense\n")
    path = tmp_path / "client.log"
    path.write_text(log.text())
    return import_log(path, tmp_path / "run.cvmprof", "1.2.3")


def statistics(run: Run) -> Statistics:
    return compute(gather(run))


def test_the_summary_says_what_the_times_are_worth(run: Run) -> None:
    text = render_summary(statistics(run), 100)
    assert "debug log client.log" in text
    assert "its times are whole seconds" in text
    assert "how long a call or a fetch took" in " ".join(text.split())
    for name, value in (
        ("cvmfs_read", "5"),
        ("lookups in the cache", "1 hit, 10 missed"),
        ("objects downloaded", "5"),
        ("fetches that failed", "1"),
        (f"requests to {HOST}", "5"),
    ):
        assert re.search(rf"{name} +{value}\n", text), (name, text)
    assert "1 event was lost" not in text
    assert "a line of unknown format" in text


def test_no_duration_is_told(run: Run) -> None:
    """The fetches took two seconds each by the log, whose times may be one off."""
    found = statistics(run)
    assert found.slowest_chunks == ()
    assert (found.fetches.summed_ns, found.fetches.busy_ns, found.fetches.most_at_once) == (0, 0, 0)
    assert found.latency.first_byte_ns is None
    assert not re.search(r"\d ms|\d\.\d+ s\b", render_summary(found, 100))
    page = render_page(gather(run))
    shown = page.partition("<body>")[2].partition("<script>")[0]
    assert not re.search(r"\d ms|\d\.\d+ s\b", shown)
    assert "Where the time went" not in shown


def test_the_page_lists_the_fetches_in_order(run: Run) -> None:
    page = render_page(gather(run))
    shown = page.partition("<body>")[2].partition("<script>")[0]
    listed = re.findall(r'title="([0-9a-f]{40})"', shown)
    assert listed == [object_hash(number) for number in (0, 1, 2, 3, 4, 7)]
    assert "times are whole seconds" in shown
    assert "<b>model</b>" not in shown
    assert "1 × a line" in shown or "a line of unknown format" in shown
    data = json.loads(page.rpartition('id="data">')[2].partition("</script>")[0])
    assert data["digits"] == 0
    assert set(data["figures"]) == {"counts", "touches"}


def test_bars_are_no_finer_than_the_times(run: Run) -> None:
    page = render_page(gather(run))
    data = json.loads(page.rpartition('id="data">')[2].partition("</script>")[0])
    bars = {trace["name"]: trace for trace in data["figures"]["counts"]["data"]}
    assert {trace["width"] for trace in bars.values()} == {1.0}
    assert bars["downloads"]["x"] == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert bars["downloads"]["y"] == [1] * 5
    assert sum(bars["cache misses"]["y"]) == 10
    assert sum(bars["cache hits"]["y"]) == 1


def test_json_and_side_by_side(run: Run) -> None:
    found = statistics(run)
    told = json.loads(summary_json(found))
    assert told["imported"]["precision_ns"] == 1_000_000_000
    assert told["imported"]["calls"] == {"cvmfs_read": 5, "cvmfs_open": 1}
    assert told["counts"]["downloads"] == 5
    assert "whole seconds" in render_side_by_side([("a", found), ("b", found)], 100)


def test_a_trace_file_has_no_fetches_to_tell_of(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(trace_line("1772366398123.456", 1, "/a", "open()"))
    found = statistics(import_log(path, tmp_path / "run.cvmprof", "1"))
    text = render_summary(found, 100)
    assert "its times are microseconds" in text
    assert "reads and fetches are not in it" in " ".join(text.split())
    assert "objects downloaded" not in text
    assert "cvmfs_open" in render_page(gather(import_again(path, tmp_path)))


def import_again(path: Path, directory: Path) -> Run:
    return import_log(path, directory / "again.cvmprof", "1")


def of(rows: Rows, **told: Any) -> Imported:
    found = imported_of({"imported": told}, rows.frames())
    assert found is not None
    return found


@pytest.mark.parametrize("meta", [{}, {"imported": None}, {"imported": "debug log"}])
def test_a_recorded_run_is_not_imported(meta: dict[str, Any]) -> None:
    assert imported_of(meta, Rows().frames()) is None


def test_what_the_run_says_of_its_log() -> None:
    found = of(Rows(), kind="trace file", file="client.log", precision_ns=1000, lines=7)
    assert (found.kind, found.file, found.precision_ns, found.lines) == (
        "trace file", "client.log", 1000, 7,
    )  # fmt: skip
    bare = of(Rows())
    assert (bare.kind, bare.file, bare.precision_ns, bare.lines) == ("log", "", 1_000_000_000, 0)
    assert bare == of(Rows(), precision_ns=None, lines=None)


def test_times_to_the_second_and_finer_ones() -> None:
    whole, finer = of(Rows(), precision_ns=1_000_000_000), of(Rows(), precision_ns=999_999_999)
    assert "second" in whole.precision and "micro" not in whole.precision
    assert "micro" in finer.precision


def lookup(rows: Rows, start_ns: int, *, hit: bool) -> None:
    rows.add("cache_lookups", start_ns=start_ns, pid=1, tid=1, object_hash="a", hit=hit)


def call(rows: Rows, number: int, function: str, start_ns: int = 0) -> None:
    rows.add("daemon_calls", call_id=number, function=function, pid=1, tid=1, start_ns=start_ns)


def test_counts_the_most_frequent_first_and_by_name_where_equal() -> None:
    rows = Rows()
    for number, function in enumerate("dbacacc"):
        call(rows, number, function)
    for number, host in enumerate("yxx"):
        rows.add("downloads", download_id=number, host=host, attempt=1)
    for hit in (True, False, False, False):
        lookup(rows, 0, hit=hit)
    for number in range(2):
        rows.add("files", file_id=number, mount_id=0, inode=number, generation=0)
    found = of(rows)
    assert list(found.calls.items()) == [("c", 3), ("a", 2), ("b", 1), ("d", 1)]
    assert list(found.hosts.items()) == [("x", 2), ("y", 1)]
    assert (found.lookups_hit, found.lookups_missed, found.files_named) == (1, 3, 2)


def test_fetches_in_their_order_with_what_is_known_of_them() -> None:
    rows = Rows()
    rows.add("files", file_id=5, mount_id=0, inode=9, generation=0, path="/a")
    rows.add("downloads", download_id=3, host="h", proxy="p", status=200, attempt=2)
    rows.add("fetches", fetch_id=1, start_ns=20, pid=1, tid=1)
    rows.add("fetches", fetch_id=0, start_ns=10, pid=1, tid=1, object_hash="a", file_id=5,
             object_kind="chunk", outcome="downloaded", download_id=3)  # fmt: skip
    nothing = dict.fromkeys(("object_hash", "object_kind", "outcome", "path", "host", "proxy",
                             "status", "attempt"))  # fmt: skip
    assert of(rows).fetched == (
        {"fetch_id": 0, "start_ns": 10, "object_hash": "a", "object_kind": "chunk",
         "outcome": "downloaded", "path": "/a", "host": "h", "proxy": "p", "status": 200,
         "attempt": 2},
        {"fetch_id": 1, "start_ns": 20, **nothing},
    )  # fmt: skip


def test_three_hundred_fetches_the_first_ones() -> None:
    rows = Rows()
    for number in range(310, 0, -1):
        rows.add("fetches", fetch_id=number, start_ns=0, pid=1, tid=1, file_id=number,
                 download_id=number)  # fmt: skip
        rows.add("files", file_id=311 - number, mount_id=0, inode=number, generation=0)
        rows.add("downloads", download_id=number, host="h", attempt=1)
    listed = [each["fetch_id"] for each in of(rows).fetched]
    assert MOST_FETCHES == 300
    assert listed == list(range(1, 301))


@pytest.mark.parametrize(("length_ns", "precision_ns", "expected"), [
    (0, 1000, 1_000_000), (600_000_000, 1000, 1_000_000), (600_000_001, 1000, 2_000_000),
    (1_200_000_000, 1000, 2_000_000), (1_200_000_001, 1000, 3_000_000),
    (10, 1_000_000_000, 1_000_000_000), (600_000_000_001, 1_000_000_000, 2_000_000_000),
])  # fmt: skip
def test_a_bar_is_as_wide_as_the_times_and_the_number_of_bars_demand(
    length_ns: int, precision_ns: int, expected: int
) -> None:
    assert bar_ns(Window(50, 50 + length_ns), precision_ns) == expected


def test_counts_over_time() -> None:
    rows = Rows()
    for number, start_ns in enumerate((125, 100, 109, 110)):
        call(rows, number, "f", start_ns)
    for start_ns, hit in ((100, True), (130, False), (101, False)):
        lookup(rows, start_ns, hit=hit)
    found = counts_over_time(rows.frames(), Window(100, 200), 10)
    assert {name: frame.rows() for name, frame in found.items()} == {
        "calls": [(0, 2), (1, 1), (2, 1)], "cache hits": [(0, 1)],
        "cache misses": [(0, 1), (3, 1)],
    }  # fmt: skip
    rows.add("downloads", download_id=0, host="h", attempt=1, sent_ns=119)
    assert counts_over_time(rows.frames(), Window(100, 200), 10)["downloads"].rows() == [(1, 1)]
