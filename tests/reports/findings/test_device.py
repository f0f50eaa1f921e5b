from __future__ import annotations

from dataclasses import replace

from cvmprof.reports.numbers.stalls import Stall, Stalls
from cvmprof.tests.reports.rows import (
    figures,
    spoken,
)
from cvmprof.tests.reports.synthetic import (
    MAIN,
    MS,
    START,
)


def test_stalls_and_how_much_of_them_waited_for_fetches() -> None:
    longest = Stall(0, "cpu", START, START + 7 * MS, MAIN, {})
    other = Stall(1, "cpu", START, START + 3 * MS, MAIN, {})
    spent = {"cpu": 6 * MS, "transfer": 3 * MS, "cache_write": 1 * MS}
    (finding,) = spoken(stalls=Stalls(2, 10 * MS, spent, (longest, other)))
    assert (finding.tone, figures(finding.headline)) == ("note", ["10.0 ms", "2", "40 %"])
    assert figures(finding.meaning) == ["7.00 ms"]
    assert spoken(stalls=Stalls(0, MS, spent, (longest,))) == []
    assert spoken(stalls=Stalls(1, 0, {}, (replace(longest, end_ns=START),))) == []
