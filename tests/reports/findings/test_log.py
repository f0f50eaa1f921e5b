from __future__ import annotations

from dataclasses import replace

from cvmprof.reports.numbers.log import Imported
from cvmprof.reports.numbers.statistics import Outcome
from cvmprof.tests.reports.rows import (
    WAITED,
    fetches,
    figures,
    spoken,
)

LOG = Imported("debug log", "client.log", 1_000_000_000, 9, {}, 30, 12, 1, {}, ())


def test_of_a_log_only_what_a_log_tells_is_said() -> None:
    losses = ({"probe": "log", "cause": "a line", "count": 1234},)
    found = spoken(
        imported=LOG, losses=losses, fetches=fetches(downloaded=6, chunks_downloaded=5),
        phases=(WAITED,), outcome=Outcome(1, None, complete=False),
    )  # fmt: skip
    assert [each.tone for each in found] == ["note", "warning", "main"]
    assert LOG.precision in found[0].headline and "debug log" in found[0].headline
    assert figures(found[1].headline) == ["1,234"] and "a line" in found[1].headline
    assert figures(found[2].headline) == ["6", "5"]
    assert figures(found[2].meaning) == ["42", "30"]


def test_of_a_log_without_downloads_none_are_said() -> None:
    assert [each.tone for each in spoken(imported=LOG)] == ["note"]


def test_a_trace_file_and_an_unknown_log_tell_less_or_the_same() -> None:
    debug, trace, other = (
        spoken(imported=replace(LOG, kind=kind))[0].meaning
        for kind in ("debug log", "trace file", "other")
    )
    assert debug == other != trace


def test_without_a_log_no_download_is_counted_out() -> None:
    assert spoken(fetches=fetches(downloaded=6, chunks_downloaded=5)) == []
