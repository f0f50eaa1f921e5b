"""The page and the terminal show the same numbers of a run."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import compute
from cvmprof.reports.page.page import write_page
from cvmprof.reports.terminal.summary import render_summary

from .synthetic import cold_run, crashed_run, warm_run

_TAG = re.compile(r"<[^>]+>")
_NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?: (?:%|ns|µs|ms|s|[KMG]iB|B)(?!\w))?")
RUNS = {"cold": cold_run, "warm": warm_run, "crashed": crashed_run}


class Both:
    """A run's page, and its summary in blocks: head, findings, bars, reasons, numbers."""

    def __init__(self, page: str, terminal: str) -> None:
        self.page = page
        self.blocks = terminal.split("\n\n")

    def of_page(self, start: str, end: str) -> str:
        """What a part of the page shows as text."""
        part = self.page.split(start, 1)[1].split(end, 1)[0]
        return html.unescape(_TAG.sub(" ", part))

    def numbers(self) -> list[list[str]]:
        """The names and values of the summary's numbers."""
        table = next(block for block in self.blocks if block.startswith("whole command"))
        return [re.split(r"\s{3,}", line.strip()) for line in table.splitlines()]


@pytest.fixture(scope="module", params=RUNS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    run = RUNS[request.param]()
    page = write_page(run, tmp_path_factory.mktemp("page") / "page.html").read_text()
    return Both(page, render_summary(compute(gather(run)), 4_000))


def test_the_head(both: Both) -> None:
    facts = both.of_page('<p class="facts">', "</p>").split("\n")
    lasted, ended = both.blocks[0].splitlines()[1].split(", ")
    assert {lasted, ended} <= {fact.strip() for fact in facts}


@pytest.mark.parametrize(("section", "block"), [("findings", 1), ("reasons", 3)])
def test_each_number_of_the_findings(both: Both, section: str, block: int) -> None:
    shown = _NUMBER.findall(both.of_page(f'<section id="{section}">', "</ol>"))
    assert shown == _NUMBER.findall(both.blocks[block])
    assert shown


def test_the_command_s_bar(both: Both) -> None:
    found: Any = json.loads(both.page.split('id="data">', 1)[1].split("</script>", 1)[0])
    name = html.unescape(found["figures"]["times"]["layout"]["yaxis"]["ticktext"][0])
    lasted = both.blocks[2].splitlines()[0].removeprefix("The command: ")
    assert " ".join(_TAG.sub(" ", name).split()) == f"the command {lasted}"


def test_each_tile(both: Both) -> None:
    section = both.page.split('<section id="findings">', 1)[1].split("</section>", 1)[0]
    tiles = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", section)
    assert len(tiles) > 5
    for name, text in tiles:
        name = html.unescape(name).rpartition(": ")[2]
        assert [name[0].lower() + name[1:], html.unescape(text)] in both.numbers() or (
            [name, html.unescape(text)] in both.numbers()
        )
