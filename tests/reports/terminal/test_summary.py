from __future__ import annotations

import json

import pytest

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import Statistics, compute
from cvmprof.reports.terminal.summary import render_side_by_side, render_summary, summary_json
from cvmprof.tests.reports.synthetic import cold_run, run_of, tiny_rows, warm_run


def cold() -> Statistics:
    return compute(gather(cold_run()))


def warm() -> Statistics:
    return compute(gather(warm_run()))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_never_wider_than_asked_and_plain(width: int) -> None:
    text = render_summary(cold(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


def test_says_findings_causes_and_chunks() -> None:
    lines = render_summary(compute(gather(run_of(tiny_rows()))), 100).splitlines()
    assert lines[:2] == ["python3 infer.py", "100 ms, succeeded"]
    assert "• 70 % of “load” waited for 2 chunks fetched one after another." in lines
    assert [line.split()[:5] for line in lines if line.startswith("  first_byte")] == [
        ["first_byte", "40.0", "ms", "40", "%"]
    ]
    wide = render_summary(compute(gather(run_of(tiny_rows()))), 140)
    assert any("1.00 MiB  " in line and "@1.0 MiB" in line for line in wide.splitlines())


def test_says_how_much_of_the_cpu_time_was_the_page_cache() -> None:
    lines = [
        line.split()
        for line in render_summary(compute(gather(run_of(tiny_rows()))), 100).splitlines()
    ]
    place = next(at for at, words in enumerate(lines) if words[:3] == ["cpu", "25.0", "ms"])
    assert lines[place + 1] == ["of", "that", "1.00", "ms", "1.0", "%", "98", "page-cache", "hits"]
    assert ["page-cache", "hits", "98", "in", "1.00", "ms"] in lines


def test_colours_only_when_asked() -> None:
    assert "\x1b[" in render_summary(cold(), 80, colour=True)


def test_side_by_side() -> None:
    lines = render_side_by_side([("cold", cold()), ("warm", warm())], 80).splitlines()
    assert max(map(len, lines)) <= 80
    table = {line[:30].strip(): line[30:].split() for line in lines if line.strip()}
    assert table["chunks downloaded"] == ["17", "0"]
    assert table["chunks cached at start"] == ["12", "of", "29", "29", "of", "29"]


def test_json_holds_findings_and_numbers() -> None:
    document = json.loads(summary_json(cold()))
    assert document["schema_version"] == 1
    assert document["findings"][0]["tone"] == "main"
    assert document["fetches"]["chunks_downloaded"] == 17


def test_a_hostile_argument_cannot_reach_the_terminal() -> None:
    run = run_of(tiny_rows())
    hostile = compute(
        gather(type(run)({**run.meta, "command": ["\x1b]0;x\x07", "[red]a[/red]"]}, run.tables))
    )
    text = render_summary(hostile, 80)
    assert text.splitlines()[0] == r"\x1b]0;x\x07 [red]a[/red]"
