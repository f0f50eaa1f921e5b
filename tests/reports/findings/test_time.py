from __future__ import annotations

from dataclasses import replace

import pytest

from cvmprof.reports.findings.finding import Finding, main_phase
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.phases import Phase
from cvmprof.reports.numbers.statistics import compute
from cvmprof.tests.reports.rows import (
    WAITED,
    fetches,
    figures,
    findings_of,
    headlines,
    phase,
    quiet,
    spoken,
)
from cvmprof.tests.reports.synthetic import (
    DAEMON,
    MS,
    START,
    cold_run,
    sha1,
    tiny_rows,
    warm_run,
)


def test_the_main_finding_says_how_much_waited_for_how_many_chunks_and_how() -> None:
    main = findings_of(tiny_rows())[0]
    assert main.tone == "main"
    assert main.headline == "70 % of “load” waited for 2 chunks fetched one after another."
    assert main.meaning.startswith(
        "70.0 ms of 100 ms: first_byte 40.0 ms, transfer 30.0 ms, cpu 25.0 ms, unknown 5.00 ms."
    )


def test_time_in_the_page_cache_is_told_of_the_cpu_time() -> None:
    rows = tiny_rows()
    rows.rows["hits"][0] |= {"count": 312_000, "ns": 8 * MS, "end_ns": START + 55 * MS}
    meaning = findings_of(rows)[0].meaning
    assert "cpu 25.0 ms (8.00 ms of it reading the page cache, 312,000 hits)," in meaning


def test_a_warm_run_says_that_nothing_waited_for_cvmfs() -> None:
    first = findings(compute(gather(warm_run())))[0]
    assert first.tone == "good"
    assert first.headline == "Nothing waited for CVMFS: no chunk had to be fetched."


def test_waits_for_fetches_that_bring_no_chunk_are_not_called_local() -> None:
    rows = tiny_rows()
    for fetch in rows.rows["fetches"]:
        fetch["outcome"] = "failed"
    expected = "70 % of “load” waited for CVMFS, mostly for fetches that brought no chunk."
    assert [line for line in headlines(rows) if line.startswith("70 %")] == [expected]


def test_waits_inside_the_daemon_are_not_waits_for_the_network() -> None:
    rows = tiny_rows()
    for segment in rows.rows["segments"]:
        if segment["cause"] == "first_byte":
            segment["cause"] = "cache_read"
    expected = "70 % of “load” waited for CVMFS, less than half of it for fetches."
    assert headlines(rows)[0] == expected
    for segment in rows.rows["segments"]:
        if segment["cause"] == "transfer":
            segment["cause"] = "catalog"
    expected = "70 % of “load” waited for CVMFS, none of it for fetches."
    assert headlines(rows)[0] == expected


def test_the_cold_run_of_the_example() -> None:
    first = findings(compute(gather(cold_run())))[0].headline
    assert first == "88 % of “load” waited for 17 chunks fetched one after another."


def test_overlapping_fetches_are_not_called_one_after_another() -> None:
    rows = tiny_rows()
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        start_ns=START + 10 * MS,
        end_ns=START + 95 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("other"),
        object_kind="chunk",
        outcome="downloaded",
    )
    rows.rows["segments"][4]["fetch_id"] = 2  # the load waits for it, too
    # 155 ms of fetching within 85 ms.
    assert (
        headlines(rows)[0] == "70 % of “load” waited for 3 chunks fetched 1.8 at a time on average."
    )


def test_a_phase_answers_for_the_fetches_that_it_waited_for() -> None:
    rows = tiny_rows()
    # Another thread's download, which the load does not wait for.
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        start_ns=START + 10 * MS,
        end_ns=START + 95 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("other"),
        object_kind="chunk",
        outcome="downloaded",
    )
    expected = "70 % of “load” waited for 2 chunks fetched one after another."
    assert headlines(rows)[0] == expected


def test_a_wait_for_anothers_download_counts_as_that_download() -> None:
    rows = tiny_rows()
    rows.add(
        "fetches",
        fetch_id=2,
        mount_id=0,
        start_ns=START + 60 * MS,
        end_ns=START + 95 * MS,
        pid=DAEMON,
        tid=DAEMON + 2,
        object_hash=sha1("chunk 1"),
        object_kind="chunk",
        outcome="joined",
        joined_fetch_id=1,
    )
    for segment in rows.rows["segments"]:
        if segment.get("fetch_id") == 1:
            segment |= {"fetch_id": 2, "cause": "fetch_joined"}
    expected = "70 % of “load” waited for 2 chunks fetched one after another."
    assert headlines(rows)[0] == expected


def test_a_command_without_phases_is_one_phase() -> None:
    rows = tiny_rows()
    rows.rows["phases"].clear()
    expected = "70 % of “whole command” waited for 2 chunks fetched one after another."
    assert headlines(rows)[0] == expected


@pytest.mark.parametrize("cause", ["daemon", "fetch"])
def test_time_that_stays_undivided_has_its_reason(cause: str) -> None:
    rows = tiny_rows()
    headline = f"of “load” counts as {cause}, not divided further."
    assert not [line for line in headlines(rows) if line.endswith(headline)]
    for segment in rows.rows["segments"]:
        if segment["cause"] == "transfer":
            segment["cause"] = cause
    (finding,) = [found for found in findings_of(rows) if found.headline.endswith(headline)]
    assert finding.headline.startswith("30.0 ms") and finding.meaning


def test_the_main_phase_waited_longest_for_cvmfs() -> None:
    short = phase("short", 10, transfer=6 * MS, cpu=4 * MS)
    long = phase("long", 100, transfer=5 * MS, cpu=95 * MS)
    assert main_phase(quiet(phases=(long, short, phase("none", 300)))) is short


def test_without_waits_the_main_phase_is_the_longest() -> None:
    long = phase("long", 11, cpu=4 * MS)
    assert main_phase(quiet(phases=(phase("a", 10), long, phase("b", 9, cpu=9 * MS)))) is long
    assert main_phase(quiet()) is None


@pytest.mark.parametrize("unknown", [phase("load", 0, transfer=MS), phase("load", 100)])
def test_nothing_is_said_of_a_phase_without_time_or_causes(unknown: Phase) -> None:
    assert spoken(phases=(unknown,)) == []


def of_phase(shown: Phase, **changes: int) -> Finding:
    """What is said of a run with this phase, whose fetches are so."""
    (finding,) = spoken(phases=(replace(shown, fetches=fetches(**changes)),))
    return finding


def test_waits_below_a_fiftieth_are_next_to_nothing() -> None:
    below = phase("load", 100, transfer=2 * MS - 1, cpu=98 * MS + 1)
    (finding,) = spoken(phases=(below,), fetches=fetches(downloaded=1))
    assert (finding.tone, figures(finding.headline)) == ("good", ["2.0 %"])
    assert "“load”" in finding.headline
    assert figures(finding.meaning) == ["100 ms", "98.0 ms", "2.00 ms"]
    (finding,) = spoken(phases=(below,))
    assert (finding.tone, figures(finding.headline)) == ("good", [])
    (finding,) = spoken(phases=(phase("load", 100, daemon=2 * MS, cpu=98 * MS),))
    assert (finding.tone, figures(finding.headline)) == ("main", ["2.0 %"])


def test_chunks_are_named_from_half_of_the_waiting_time_on() -> None:
    half = phase("load", 100, cache_read=20 * MS, transfer=20 * MS, cpu=60 * MS)
    finding = of_phase(half, chunks_downloaded=1, most_at_once=1)
    assert (finding.tone, figures(finding.headline)) == ("main", ["20 %", "1"])
    assert "“load”" in finding.headline
    assert figures(finding.meaning)[:2] == ["20.0 ms", "100 ms"]


@pytest.mark.parametrize(("transfer_ns", "chunks"), [(20 * MS - 1, 1), (20 * MS, 0)])
def test_the_network_is_not_named_for_less_or_for_no_chunk(transfer_ns: int, chunks: int) -> None:
    waited = phase("load", 100, cache_read=20 * MS, transfer=transfer_ns, cpu=60 * MS)
    finding = of_phase(waited, chunks_downloaded=chunks)
    assert (finding.tone, figures(finding.headline)) == ("main", ["40 %"])
    assert figures(finding.meaning)[:2] == ["40.0 ms", "100 ms"]


def test_how_fetches_lay_in_time() -> None:
    alone = of_phase(WAITED, chunks_downloaded=1, most_at_once=1, summed_ns=10, busy_ns=10)
    ordered = of_phase(WAITED, chunks_downloaded=2, most_at_once=1, summed_ns=10, busy_ns=10)
    nearly = of_phase(WAITED, chunks_downloaded=2, most_at_once=2, summed_ns=109, busy_ns=100)
    overlapping = of_phase(WAITED, chunks_downloaded=2, most_at_once=2, summed_ns=11, busy_ns=10)
    assert "one after another" not in alone.headline
    assert "one after another" in ordered.headline and "nearly" not in ordered.headline
    assert "nearly one after another" in nearly.headline
    assert figures(overlapping.headline) == ["50 %", "2", "1.1"]
    plain = len(alone.meaning)
    assert len(ordered.meaning) > plain and len(nearly.meaning) > plain
    assert len(overlapping.meaning) == plain


def test_the_four_largest_causes_the_largest_first() -> None:
    many = phase("load", 100, copy=10 * MS, transfer=40 * MS, disk=4 * MS, cpu=30 * MS,
                 first_byte=16 * MS)  # fmt: skip
    meaning = of_phase(many, chunks_downloaded=1).meaning
    assert figures(meaning) == ["56.0 ms", "100 ms", "40.0 ms", "30.0 ms", "16.0 ms", "10.0 ms"]
    assert meaning.index("transfer") < meaning.index("cpu") < meaning.index("first_byte")
    assert "disk" not in meaning


def test_page_cache_time_is_named_from_a_fiftieth_of_the_phase_on() -> None:
    hits = replace(WAITED, page_cache_hits=7, page_cache_ns=2 * MS)
    plain = ["50.0 ms", "100 ms", "50.0 ms", "50.0 ms"]
    assert figures(of_phase(hits, chunks_downloaded=1).meaning) == [*plain, "2.00 ms", "7"]
    fewer = replace(hits, page_cache_ns=2 * MS - 1)
    assert figures(of_phase(fewer, chunks_downloaded=1).meaning) == plain


@pytest.mark.parametrize("cause", ["daemon", "fetch"])
def test_undivided_time_is_said_above_a_fiftieth(cause: str) -> None:
    at = phase("load", 100, cpu=98 * MS, **{cause: 2 * MS})
    above = phase("load", 100, cpu=98 * MS, **{cause: 2 * MS + 1})
    assert [each.tone for each in spoken(phases=(at,))] == ["main"]
    _, finding = spoken(phases=(above,))
    assert (finding.tone, figures(finding.headline)) == ("note", ["2.00 ms"])
    assert "“load”" in finding.headline and cause in finding.headline
