from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from cvmprof.profiler.tables import CAUSES
from cvmprof.reports.terminal.bars import command_bars, phase_bars
from cvmprof.tests.reports.rows import command_time, phase
from cvmprof.tests.reports.synthetic import MS


def shown(table: Table, width: int = 100) -> list[str]:
    """The lines of a table."""
    sink = io.StringIO()
    Console(file=sink, width=width, color_system=None).print(table)
    return [line.rstrip() for line in sink.getvalue().splitlines()]


def test_the_command_is_divided_by_what_it_did_and_that_by_cause() -> None:
    time = command_time(100, first_byte=40 * MS, transfer=10 * MS, cpu=30 * MS, copy=10 * MS,
                        blocked=8 * MS + 1, disk=2 * MS - 1)  # fmt: skip
    assert shown(command_bars(time, 100)) == [
        "The command: 100 ms",
        "  Waited for CVMFS                           50.0 ms   50 %  ████████████",
        "    waiting for the first byte (first_byte)  40.0 ms   40 %  ██████████",
        "    receiving the data (transfer)            10.0 ms   10 %  ██",
        "  Ran on a CPU                               40.0 ms   40 %  ██████████",
        "    computing (cpu)                          30.0 ms   30 %  ███████",
        "    copying cached pages (copy)              10.0 ms   10 %  ██",
        "  Slept (blocked)                            8.00 ms  8.0 %  ██",
    ]


def test_a_phase_is_divided_by_cause_and_its_page_cache_hits_are_of_the_cpu() -> None:
    hits = replace(phase("load", 100, cpu=60 * MS, disk=40 * MS), page_cache_hits=7,
                   page_cache_ns=2 * MS)  # fmt: skip
    assert [line.split() for line in shown(phase_bars(hits, 100))] == [
        ["load:", "100", "ms"],
        ["computing", "(cpu)", "60.0", "ms", "60", "%", "█" * 14],
        ["of", "that", "7", "page-cache", "hits", "2.00", "ms", "2.0", "%"],
        ["reading", "a", "local", "disk", "(disk)", "40.0", "ms", "40", "%", "█" * 10],
    ]


def test_parts_below_a_fiftieth_of_a_phase_are_summed() -> None:
    few = phase("load", 100, cpu=96 * MS, disk=2 * MS - 1, copy=2 * MS + 1)
    assert [line.split()[0] for line in shown(phase_bars(few, 100))] == [
        "load:",
        "computing",
        "copying",
    ]
    more = phase("load", 100, cpu=96 * MS, disk=2 * MS - 1, copy=2 * MS - 1, daemon=2)
    assert shown(phase_bars(more, 100))[-1].split() == ["other", "4.00", "ms", "4.0", "%", "█"]


@pytest.mark.parametrize("width", [80, 96])
def test_a_name_and_its_numbers_have_room_on_one_line(width: int) -> None:
    time = command_time(100, **dict.fromkeys(CAUSES, 100 * MS // len(CAUSES)))
    lines = shown(command_bars(time, width), width)
    assert not [line for line in lines if "…" in line]
    assert [line for line in lines if line.endswith("█") or "%" in line] == lines[1:]
