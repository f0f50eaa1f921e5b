from __future__ import annotations

from dataclasses import replace

from cvmprof.reports.numbers.held import Held
from cvmprof.reports.numbers.reading import ReadAgain
from cvmprof.tests.reports.rows import (
    NO_PATTERNS,
    command_time,
    headlines,
    spoken,
)
from cvmprof.tests.reports.synthetic import (
    DAEMON,
    MS,
    START,
    Rows,
    tiny_rows,
)


def test_what_limits_trust_comes_first() -> None:
    rows = tiny_rows()
    rows.add("losses", probe="operations", cause="ring full", count=1234)
    rows.add(
        "incidents",
        time_ns=START + 40 * MS,
        kind="crash",
        pid=DAEMON,
        signal=9,
        detail="cvmfs2 of models.example.org",
    )
    rows.add(
        "operations",
        op_id=9,
        kind="read",
        start_ns=START + 97 * MS,
        pid=100,
        tid=101,
        file_id=0,
        offset_bytes=77,
        size_bytes=1,
        result=0,
    )
    assert headlines(rows, complete=False, exit_status=3 << 8)[:5] == [
        "This run is incomplete: recording stopped before the command ended.",
        "1,234 events were lost.",
        "Process 900 died of signal 9, 40.0 ms after the start.",
        "1 file operation was still in progress when the thread or recording ended.",
        "The command failed with exit code 3.",
    ]


def test_an_empty_run_claims_nothing_about_time() -> None:
    assert headlines(Rows()) == []


def test_of_a_quiet_run_nothing_is_said() -> None:
    assert spoken() == []


def test_what_names_a_reason_comes_before_a_part_of_the_waits_up_to_three_times_as_long() -> None:
    time = command_time(100, first_byte=60 * MS, cpu=40 * MS)
    for held_ns, first in ((20 * MS, "2.00 MiB of 4.00 MiB"), (20 * MS - 1, "The server's first")):
        again = ReadAgain(4 << 20, 2 << 20, Held(held_ns, held_ns), None, 0.0, 0, 0)
        reading = replace(NO_PATTERNS.reading, again=again)
        found = spoken(command_time=time, patterns=replace(NO_PATTERNS, reading=reading))
        assert [each.headline.startswith(first) for each in found[1:]] == [True, False]
