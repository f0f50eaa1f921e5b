from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from cvmprof.reports.terminal.bars import command_bars, phase_bars
from cvmprof.tests.reports.rows import command_time, phase
from cvmprof.tests.reports.synthetic import MS


def shown(table: Table) -> list[str]:
    """The lines of a table, 100 columns wide."""
    sink = io.StringIO()
    Console(file=sink, width=100, color_system=None).print(table)
    return [line.rstrip() for line in sink.getvalue().splitlines()]


def test_the_command_is_divided_by_what_it_did_and_that_by_cause() -> None:
    time = command_time(100, first_byte=40 * MS, transfer=10 * MS, cpu=30 * MS, copy=10 * MS,
                        blocked=9 * MS + 1, disk=MS - 1)  # fmt: skip
    assert shown(command_bars(time)) == [
        "The command: 100 ms",
        "  Waited for CVMFS                                    50.0 ms   50 %  ████████████",
        "    waiting for the server's first byte (first_byte)  40.0 ms   40 %  ██████████",
        "    receiving the data (transfer)                     10.0 ms   10 %  ██",
        "  Computed                                            40.0 ms   40 %  ██████████",
        "    computing (cpu)                                   30.0 ms   30 %  ███████",
        "    copying from the page cache (copy)                10.0 ms   10 %  ██",
        "  Slept (blocked)                                     9.00 ms  9.0 %  ██",
    ]


def test_a_phase_is_divided_by_cause_and_its_page_cache_hits_are_of_the_cpu() -> None:
    hits = replace(phase("load", 100, cpu=60 * MS, disk=40 * MS), page_cache_hits=7,
                   page_cache_ns=2 * MS)  # fmt: skip
    assert [line.split() for line in shown(phase_bars(hits))] == [
        ["load:", "100", "ms"],
        ["computing", "(cpu)", "60.0", "ms", "60", "%", "█" * 14],
        ["of", "that", "7", "page-cache", "hits", "2.00", "ms", "2.0", "%"],
        ["reading", "a", "local", "disk", "(disk)", "40.0", "ms", "40", "%", "█" * 10],
    ]


def test_what_is_beyond_eight_causes_of_a_phase_is_summed() -> None:
    names = ("cpu", "copy", "disk", "daemon", "catalog", "transfer", "connect", "reply", "launch",
             "unknown")  # fmt: skip
    many = phase("load", 100, **dict.fromkeys(names, 10 * MS))
    assert shown(phase_bars(many))[-1].split()[:3] == ["other", "20.0", "ms"]
