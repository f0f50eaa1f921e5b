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
        "  Waited for a local disk (disk)             2.00 ms  2.0 %",
    ]


def test_parts_too_small_for_a_row_are_summed_so_that_rows_sum_to_their_whole() -> None:
    time = command_time(100, first_byte=40 * MS, catalog=MS, connect=MS - 2, cpu=50 * MS,
                        copy=5 * MS, driver=MS, disk=MS)  # fmt: skip
    assert shown(command_bars(time, 100)) == [
        "The command: 100 ms",
        "  Ran on a CPU                               55.0 ms   55 %  █████████████",
        "    computing (cpu)                          50.0 ms   50 %  ████████████",
        "    copying cached pages (copy)              5.00 ms  5.0 %  █",
        "  Waited for CVMFS                           42.0 ms   42 %  ██████████",
        "    waiting for the first byte (first_byte)  40.0 ms   40 %  ██████████",
        "    other                                    2.00 ms  2.0 %",
        "  Other                                      2.00 ms  2.0 %",
    ]


def first_words(**causes_ns: int) -> list[str]:
    """The first two words of each line about a command of 100 ms."""
    lines = shown(command_bars(command_time(100, **causes_ns), 100))[1:]
    return [" ".join(line.split()[:2]) for line in lines]


def test_a_single_part_too_small_for_a_row_is_named() -> None:
    assert first_words(cpu=98 * MS, copy=2 * MS) == [
        "Ran on", "computing (cpu)", "copying cached",
    ]  # fmt: skip
    assert first_words(cpu=97 * MS, copy=2 * MS, blocked=MS) == [
        "Ran on", "computing (cpu)", "copying cached", "Slept (blocked)",
    ]  # fmt: skip
    assert first_words(cpu=100 * MS - MS // 10, copy=MS // 10) == ["Ran on"]


def test_a_part_of_small_causes_only_is_not_divided() -> None:
    assert first_words(cpu=90 * MS, transfer=4 * MS, connect=3 * MS, catalog=3 * MS) == [
        "Ran on", "Waited for",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "of_client", "own"),
    [
        ("runqueue", "the client waiting for a CPU", "Waited for a CPU"),
        ("stopped", "the client being stopped", "Was stopped"),
    ],
)
def test_what_holds_the_client_back_and_the_command_itself_have_different_words(
    cause: str, of_client: str, own: str
) -> None:
    time = replace(
        command_time(100, **{cause: 100 * MS}),
        cvmfs_ns=60 * MS,
        cvmfs_causes_ns={cause: 60 * MS},
    )
    lines = shown(command_bars(time, 100))
    assert [line.split("  ")[1 if line[2] != " " else 2] for line in lines[1:]] == [
        "Waited for CVMFS", f"{of_client} ({cause})", f"{own} ({cause})",
    ]  # fmt: skip


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
    few = phase("load", 100, cpu=98 * MS - MS // 10, disk=MS // 10, copy=2 * MS)
    assert [line.split()[0] for line in shown(phase_bars(few, 100))] == [
        "load:",
        "computing",
        "copying",
    ]
    more = phase("load", 100, cpu=96 * MS, disk=2 * MS - 1, copy=2 * MS - 1, daemon=2)
    assert shown(phase_bars(more, 100))[-1].split() == ["other", "4.00", "ms", "4.0", "%", "█"]


@pytest.mark.parametrize("width", [80, 96])
def test_a_name_and_its_numbers_have_room_on_one_line(width: int) -> None:
    time = command_time(100, **dict.fromkeys(CAUSES, 6 * MS))
    lines = shown(command_bars(time, width), width)
    assert not [line for line in lines if "…" in line]
    assert [line for line in lines if line.endswith("█") or "%" in line] == lines[1:]
