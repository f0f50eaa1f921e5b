"""Reports of imported logs: what the log tells, and nothing more exact than it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cvmprof.profiler.logs.imports import import_log
from cvmprof.profiler.run.opened import Run
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import Statistics, compute
from cvmprof.reports.page.page import render_page
from cvmprof.reports.terminal.summary import render_side_by_side, render_summary, summary_json

from ...profiler.logs.client_logs import HOST, DebugLogWriter, object_hash, trace_line

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
    assert "a line in no form that is known" in text


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
    assert "1 × a line" in shown or "a line in no form that is known" in shown
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
