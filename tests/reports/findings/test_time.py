from __future__ import annotations

from dataclasses import replace

import pytest

from cvmprof.profiler.tables import CAUSES
from cvmprof.reports.findings.finding import Finding, main_phase
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.findings.time import holders
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.command import CommandTime
from cvmprof.reports.numbers.statistics import compute
from cvmprof.tests.reports.rows import (
    command_time,
    fetches,
    findings_of,
    phase,
    quiet,
    spoken,
)
from cvmprof.tests.reports.synthetic import MS, tiny_rows, warm_run


def of_time(time: CommandTime, **changes: int) -> Finding:
    """What is said first of a command of this time, with these fetches."""
    return spoken(command_time=replace(time, fetches=fetches(**changes)))[0]


def test_the_first_sentence_says_how_much_waited_and_mostly_for_what() -> None:
    main = findings_of(tiny_rows())[0]
    assert main.tone == "main"
    assert main.headline == (
        "The command waited for CVMFS for 70.0 ms of its 100 ms (70 %), mostly waiting for the "
        "first byte (first_byte): for 2 chunks, fetched one after another."
    )


def test_a_warm_run_computed_and_next_to_nothing_waited() -> None:
    first = findings(compute(gather(warm_run())))[0]
    assert (first.tone, first.headline) == (
        "good",
        "The command ran on a CPU for 332 ms of its 332 ms (99.9 %); 70.0 µs (under 0.1 %) waited "
        "for CVMFS.",
    )


def test_waits_for_fetches_that_bring_no_chunk_are_not_called_local() -> None:
    finding = of_time(command_time(100, first_byte=70 * MS, cpu=30 * MS), failed=2)
    assert finding.headline.endswith("(first_byte), for fetches that brought no chunk.")


@pytest.mark.parametrize(
    ("fetch_ns", "end"),
    [(0, ": for 7 requests, without a fetch."),
     (20 * MS - 1, ": for 7 requests, mostly without fetches."), (20 * MS, ": for 1 chunk.")],
)  # fmt: skip
def test_chunks_are_named_from_half_of_the_waiting_time_on(fetch_ns: int, end: str) -> None:
    time = command_time(100, cache_read=40 * MS - fetch_ns, transfer=fetch_ns, cpu=35 * MS,
                        copy=1, blocked=25 * MS - 1)  # fmt: skip
    assert of_time(time, chunks_downloaded=1, most_at_once=1).headline.endswith(end)


@pytest.mark.parametrize(
    ("hung_ms", "vain_ms", "end"),
    [
        (41, 0, ", 41.0 ms of it for what had not come when recording ended."),
        (0, 41, ", 41.0 ms of it for requests to servers that brought nothing."),
        (30, 11, ", 30.0 ms of it for what had not come when recording ended, and 11.0 ms of it "
                 "for requests to servers that brought nothing."),
        (30, 10, ": for 1 chunk."),
    ],
)  # fmt: skip
def test_what_was_lost_is_said_where_it_is_most_of_the_wait(
    hung_ms: int, vain_ms: int, end: str
) -> None:
    time = replace(
        command_time(100, first_byte=80 * MS, cpu=20 * MS),
        hung_causes_ns={"first_byte": hung_ms * MS}, vain_causes_ns={"first_byte": vain_ms * MS},
    )  # fmt: skip
    found = of_time(time, chunks_downloaded=1)
    assert found.headline == (
        "The command waited for CVMFS for 80.0 ms of its 100 ms (80 %), mostly waiting for the "
        f"first byte (first_byte){end}"
    )


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"chunks_downloaded": 1, "most_at_once": 1}, "1 chunk."),
        ({"chunks_downloaded": 1, "files_downloaded": 1, "most_at_once": 1}, "1 file."),
        ({"chunks_downloaded": 43, "files_downloaded": 3, "most_at_once": 1},
         "3 files and 40 chunks, fetched one after another."),
        ({"chunks_downloaded": 2, "most_at_once": 1}, "2 chunks, fetched one after another."),
        ({"chunks_downloaded": 2, "most_at_once": 2, "summed_ns": 109, "busy_ns": 100},
         "2 chunks, fetched nearly one after another."),
        ({"chunks_downloaded": 2, "most_at_once": 2, "summed_ns": 11, "busy_ns": 10},
         "2 chunks, fetched 1.1 at a time on average."),
    ],
)  # fmt: skip
def test_how_fetches_lay_in_time(changes: dict[str, int], end: str) -> None:
    waited = command_time(100, transfer=60 * MS, cpu=40 * MS)
    assert of_time(waited, **changes).headline.endswith(f": for {end}")


def test_the_cause_is_named_that_held_more_than_half_of_the_wait() -> None:
    many = command_time(100, transfer=25 * MS, first_byte=25 * MS, connect=20 * MS, fetch=20 * MS)
    assert "(90 %): for 1 chunk." in of_time(many, chunks_downloaded=1).headline
    third = command_time(100, transfer=30 * MS, first_byte=29 * MS, connect=28 * MS, cpu=13 * MS)
    assert ", above all receiving the data (transfer): " in (
        of_time(third, chunks_downloaded=1).headline
    )
    more = command_time(100, transfer=40 * MS - 1, first_byte=40 * MS + 1, cpu=20 * MS)
    assert ", mostly waiting for the first byte (first_byte): " in (
        of_time(more, chunks_downloaded=1).headline
    )


def test_what_held_most_is_said_first_and_what_cvmfs_held_beside_it() -> None:
    time = command_time(100, cpu=50 * MS, transfer=20 * MS, blocked=20 * MS, runqueue=9 * MS,
                        disk=MS)  # fmt: skip
    finding = of_time(time, chunks_downloaded=1)
    assert finding.tone == "main"
    assert finding.headline == (
        "The command ran on a CPU for 50.0 ms of its 100 ms (50 %); 20.0 ms (20 %) waited for "
        "CVMFS."
    )
    assert finding.meaning == ""


@pytest.mark.parametrize(
    ("cause", "did"),
    [("cpu", "ran on a CPU"), ("copy", "ran on a CPU"), ("runqueue", "waited for a CPU"),
     ("driver", "was in the GPU's driver"), ("device", "waited for the GPU"),
     ("launch", "waited for the GPU"), ("disk", "waited for a local disk"),
     ("blocked", "slept"), ("unknown", "did what could not be observed")],
)  # fmt: skip
def test_whatever_held_the_time_is_said(cause: str, did: str) -> None:
    time = command_time(100, **{cause: 100 * MS})
    expected = f"The command {did} for 100 ms of its 100 ms (100 %); nothing waited for CVMFS."
    assert of_time(time).headline == expected


def test_threads_that_waited_while_another_ran_are_not_nothing() -> None:
    beside = replace(command_time(100, cpu=100 * MS), threads_ns=200 * MS, thread_cvmfs_ns=5 * MS)
    assert of_time(beside).headline == (
        "The command ran on a CPU for 100 ms of its 100 ms (100 %); its threads waited 5.00 ms for "
        "CVMFS, all of it while another ran."
    )


def test_only_a_command_that_computed_and_waited_for_next_to_nothing_is_good() -> None:
    assert of_time(command_time(100, cpu=98 * MS + 1, transfer=2 * MS - 1)).tone == "good"
    assert of_time(command_time(100, cpu=98 * MS, transfer=2 * MS)).tone == "main"
    assert of_time(command_time(100, blocked=100 * MS)).tone == "main"
    waits = replace(command_time(100, cpu=100 * MS), threads_ns=800 * MS, thread_cvmfs_ns=16 * MS)
    assert of_time(waits).tone == "main"
    assert of_time(replace(waits, thread_cvmfs_ns=16 * MS - 1)).tone == "good"


def test_a_wait_counts_as_one_for_cvmfs_whatever_its_cause() -> None:
    time = replace(
        command_time(100, runqueue=70 * MS, cpu=30 * MS), cvmfs_ns=60 * MS, fetch_ns=60 * MS,
        cvmfs_causes_ns={"runqueue": 60 * MS},
    )  # fmt: skip
    assert [(each.did, each.ns) for each in holders(time)] == [
        ("waited for CVMFS", 60 * MS), ("ran on a CPU", 30 * MS), ("waited for a CPU", 10 * MS),
    ]  # fmt: skip
    assert of_time(time, chunks_downloaded=1).headline == (
        "The command waited for CVMFS for 60.0 ms of its 100 ms (60 %), mostly the client "
        "waiting for a CPU (runqueue): for 1 chunk."
    )


def test_holders_sum_to_the_wall_time() -> None:
    time = command_time(100, **{cause: (place + 1) * MS for place, cause in enumerate(CAUSES)})
    assert sum(each.ns for each in holders(time)) == sum(time.causes_ns.values())


def test_threads_that_wait_at_once_are_said_beside_the_wall_time() -> None:
    time = replace(command_time(100, cpu=90 * MS, transfer=10 * MS), threads_ns=800 * MS,
                   thread_cvmfs_ns=20 * MS)  # fmt: skip
    assert len(spoken(command_time=time)) == 2  # the headline, and what can be gained
    _, finding, _ = spoken(command_time=replace(time, thread_cvmfs_ns=20 * MS + 1))
    assert finding.headline == (
        "All threads together waited 20.0 ms for CVMFS, in 100 ms of wall time."
    )


def test_a_phase_is_said_where_its_thread_waited_otherwise_than_the_command() -> None:
    time = command_time(100, cpu=70 * MS, transfer=30 * MS)
    same = phase("load", 10, transfer=4 * MS - 1, cpu=6 * MS + 1)
    assert len(spoken(command_time=time, phases=(same,))) == 2
    other = phase("load", 10, transfer=4 * MS, cpu=6 * MS)
    _, finding, _ = spoken(command_time=time, phases=(other,))
    assert finding.headline == "“load” waited for CVMFS for 4.00 ms of its 10.0 ms (40 %)."
    assert finding.meaning.endswith("of the whole command it was 30 %.")
    _, finding, _ = spoken(
        command_time=time, phases=(other, replace(other, pid=7, cvmfs_ns=5 * MS))
    )
    assert finding.headline.startswith(
        "“load” of process 7, one of 2, waited for CVMFS for 5.00 ms"
    )
    whole = replace(other, name="whole command")
    assert len(spoken(command_time=time, phases=(whole,))) == 2


def test_the_main_phase_waited_longest_for_cvmfs() -> None:
    short = phase("short", 10, transfer=6 * MS, cpu=4 * MS)
    long = phase("long", 100, transfer=5 * MS, cpu=95 * MS)
    assert main_phase(quiet(phases=(long, short, phase("none", 300)))) is short


def test_without_waits_the_main_phase_is_the_longest() -> None:
    long = phase("long", 11, cpu=4 * MS)
    assert main_phase(quiet(phases=(phase("a", 10), long, phase("b", 9, cpu=9 * MS)))) is long
    assert main_phase(quiet()) is None


@pytest.mark.parametrize("cause", ["daemon", "fetch"])
def test_undivided_time_is_said_above_a_fiftieth(cause: str) -> None:
    at = command_time(100, cpu=98 * MS, **{cause: 2 * MS})
    above = command_time(100, cpu=98 * MS, **{cause: 2 * MS + 1})
    assert [each.tone for each in spoken(command_time=at)] == ["main"]
    _, finding = spoken(command_time=above)
    assert finding.headline == (
        f"2.00 ms of the command's time counts as {cause}, not divided further."
    )


@pytest.mark.parametrize("cause", ["daemon", "fetch"])
def test_time_of_asynchronous_reads_is_undivided_for_another_reason(cause: str) -> None:
    time = replace(command_time(100, cpu=90 * MS, **{cause: 10 * MS}),
                   reads_causes_ns={cause: 7 * MS})  # fmt: skip
    found = [(each.headline, each.meaning) for each in spoken(command_time=time)]
    said = "of the command's time counts as"
    (others, reason), (reads, of_reads) = (each for each in found if said in each[0])
    assert others == f"3.00 ms {said} {cause}, not divided further."
    assert "observed" in reason
    assert reads == f"7.00 ms {said} {cause}, not divided further."
    assert of_reads == (
        "No thread waited for them: they were asynchronous reads in flight (io_uring, aio), of "
        "which only the downloads are divided."
    )
    only = replace(time, reads_causes_ns={cause: 10 * MS})
    meanings = [each.meaning for each in spoken(command_time=only) if said in each.headline]
    assert meanings == [of_reads]
