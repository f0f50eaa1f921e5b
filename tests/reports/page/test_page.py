from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof.reports import palette
from cvmprof.reports.page.page import write_page
from cvmprof.tests.reports.rows import tile
from cvmprof.tests.reports.synthetic import (
    DAEMON,
    HOSTILE,
    MAIN,
    MS,
    START,
    Rows,
    SyntheticRun,
    cold_run,
    crashed_run,
    hostile_run,
    huge_run,
    run_of,
    tiny_rows,
    warm_run,
)
from cvmprof.tests.reports.synthetic_gpu import calls_run, gpu_run, many_kernels_run

FIGURES = [
    "command", "daemon", "downloads", "overview", "requests", "threads", "times", "touches",
]  # fmt: skip


class Outline(HTMLParser):
    """The tags of a page with their attributes, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.in_script = False
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.in_script = tag == "script"
        if self.in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False

    def handle_data(self, data: str) -> None:
        if self.in_script:
            self.scripts[-1] += data

    def with_attribute(self, name: str) -> list[str]:
        return [
            value or ""
            for _, attributes in self.tags
            for key, value in attributes.items()
            if key == name
        ]


@pytest.fixture(scope="module")
def cold_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "cold.html"
    assert write_page(cold_run(), path) == path
    return path.read_text(encoding="utf-8")


def test_one_file_that_needs_no_other(cold_page: str) -> None:
    outline = Outline(cold_page)
    assert [tag for tag, _ in outline.tags if tag in {"link", "img", "iframe"}] == []
    assert outline.with_attribute("src") == []
    assert len(outline.scripts) == 3
    assert "default-src 'none'" in outline.with_attribute("content")[0]


def test_only_its_own_scripts_may_run(cold_page: str) -> None:
    outline = Outline(cold_page)
    allowed = re.findall(r"'sha256-([^']+)'", outline.with_attribute("content")[0])
    executable = [outline.scripts[0], outline.scripts[2]]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in executable]
    assert hashes == allowed


def data_of(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Outline(page).scripts[1])
    return found


def test_every_figure_has_its_place(cold_page: str) -> None:
    assert sorted(data_of(cold_page)["figures"]) == FIGURES
    assert sorted(Outline(cold_page).with_attribute("data-figure")) == FIGURES


def test_no_figure_needs_webgl(cold_page: str) -> None:
    kinds = {t["type"] for f in data_of(cold_page)["figures"].values() for t in f["data"]}
    assert kinds == {"bar", "heatmap"}


def test_findings_stand_first_and_chunks_are_listed(cold_page: str) -> None:
    first = cold_page.index("mostly receiving the data (transfer): for 17 chunks")
    bars, reasons = cold_page.index('id="causes"'), cold_page.index('id="reasons"')
    gain = cold_page.index("Receiving the data held the command up for")
    assert first < bars < reasons < gain < cold_page.index('id="timeline"')
    assert len(re.findall(r'<tr id="fetch-\d+">', cold_page)) == 17


def test_lanes_hold_every_interval_of_a_small_run(cold_page: str) -> None:
    threads = data_of(cold_page)["figures"]["threads"]
    assert [name.replace("&#", "") for name in threads["layout"]["yaxis"]["ticktext"]] == [
        "python3 101",
        "python3 102",
        "python3 103",
        "python3 104",
    ]
    merged = base64.b64decode(threads["details"]["merged"]["bdata"])
    assert len(merged) == 4 * cold_run().tables["segments"].height
    assert "Every interval is drawn." in cold_page


def test_a_warm_and_an_empty_run_have_pages(tmp_path: Path) -> None:
    warm = write_page(warm_run(), tmp_path / "warm.html").read_text()
    assert "The command ran on a CPU for 332 ms of its 332 ms (99.9 %)" in warm
    empty = write_page(run_of(Rows()), tmp_path / "empty.html").read_text()
    assert data_of(empty)["figures"] == {}
    assert "Not seen in this run: The command as a whole; " in empty


def test_hostile_text_makes_no_tag_and_no_attribute(tmp_path: Path, cold_page: str) -> None:
    hostile = Outline(write_page(hostile_run(), tmp_path / "x.html").read_text())
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in Outline(cold_page).tags} | {"h3"}
    assert not [a for _, attributes in hostile.tags for a in attributes if a.startswith("on")]
    assert not {"evil"} & set(hostile.with_attribute("class"))
    assert len(hostile.scripts) == 3
    title = write_page(hostile_run(), tmp_path / "x.html").read_text()
    assert r"\x1b]0;\u202egnp.exe\x00\xff" in title
    assert HOSTILE not in title


def test_the_longest_stalls_stand_with_their_chain_to_the_chunk(tmp_path: Path) -> None:
    page = write_page(gpu_run(), tmp_path / "gpu.html").read_text(encoding="utf-8")
    table = page[page.index('<section id="stalls">') : page.index('<section id="chunks">')]
    row = re.findall(r"<tr>\n(.*?)</tr>", table, re.DOTALL)[1]
    cells = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row)]
    assert cells == [
        "#5", "GPU 0", "453 ms", "717 ms", "",
        "first_byte 98 %, transfer 1 %, driver 1 %",
        "711 ms: thread python3 101 ← page fault at layers.2.mlp.weight (model.safetensors + "
        "20.0 MiB) ← request 2004 on /cvmfs/models.example.org, 711 ms ← "
        "fetch of chunk faadb0600ea0… from stratum1:8000, 710 ms",
        "copied in 4.00 ms",
    ]  # fmt: skip


def test_what_phases_lost_of_the_devices_time_is_listed(tmp_path: Path) -> None:
    page = write_page(gpu_run(), tmp_path / "gpu.html").read_text(encoding="utf-8")
    assert "<h2>Device time lost to stalls, by phase</h2>" in page
    assert "first_byte 75 %, transfer 5.3 %, device 2.3 %, driver 2.1 %" in page
    calls = write_page(calls_run(), tmp_path / "calls.html").read_text(encoding="utf-8")
    assert "<h2>Time between submits to a device, by phase</h2>" in calls
    assert "<h2>The 15 longest gaps between submits, of 44</h2>" in calls
    warm = write_page(warm_run(), tmp_path / "warm.html").read_text(encoding="utf-8")
    assert "<h2>Time between inferences, which stand for a device, by phase</h2>" in warm


LEGEND = re.compile(
    r'class="key( absent)?[^"]*"[^>]*><i style="background:([^"]*)"></i>([^<]*[^< ])'
)


def drawn_colours(figure: dict[str, Any]) -> set[str]:
    """The colours of a figure's bricks, bars, lines and marks."""
    found: set[str] = set()
    for trace in figure["data"]:
        if trace["type"] == "heatmap":
            found |= {colour for _, colour in trace["colorscale"] if colour.startswith("#")}
        elif trace["type"] == "scatter" and "line" in trace:
            found.add(trace["line"]["color"])
        else:
            colours = trace["marker"]["color"]
            found |= {colours} if isinstance(colours, str) else set(colours)
    for shape in figure["layout"].get("shapes", []):
        found.add(shape.get("fillcolor") or shape["line"]["color"])
    return found - {"#ffffff"}


@pytest.mark.parametrize("make", [
    cold_run, crashed_run, gpu_run, calls_run, many_kernels_run, warm_run,
])  # fmt: skip
def test_one_colour_has_one_meaning_over_the_whole_page(
    tmp_path: Path, make: Callable[[], SyntheticRun]
) -> None:
    page = write_page(make(), tmp_path / "page.html").read_text(encoding="utf-8")
    meanings = set(palette.MEANINGS.values())
    figures = data_of(page)["figures"]
    assert set().union(*map(drawn_colours, figures.values())) <= meanings
    shown = page[: page.index("<script>")]
    assert set(re.findall(r"style=.[^>]*background:(#[0-9a-f]{6})", shown)) <= meanings
    legends = {(name.removeprefix("stall: "), colour) for _, colour, name in LEGEND.findall(page)}
    assert legends
    assert len({name for name, _ in legends}) == len({colour for _, colour in legends})
    assert len(legends) == len({name for name, _ in legends})


def test_a_cause_is_greyed_only_where_it_occurs_nowhere_on_the_page(tmp_path: Path) -> None:
    rows = tiny_rows()
    rows.add("fetches", fetch_id=9, start_ns=START + 5 * MS, end_ns=START + 9 * MS, pid=DAEMON,
             tid=DAEMON, object_hash="c", outcome="joined", object_kind="chunk")  # fmt: skip
    tile(rows, START + 20 * MS, START + 30 * MS, "copy", tid=MAIN + 7)  # no phase's thread
    page = write_page(run_of(rows), tmp_path / "page.html").read_text(encoding="utf-8")
    families = page[page.index('class="legend families"') : page.index('id="timeline"')]
    absent = {name for greyed, _, name in LEGEND.findall(families) if greyed}
    shown = {name for greyed, _, name in LEGEND.findall(page) if not greyed}
    assert {"fetch_joined", "copy", "first_byte", "transfer"} <= shown
    assert not absent & shown
    assert "device" in absent


def test_legends_of_the_overview_name_what_occurs(tmp_path: Path) -> None:
    page = write_page(gpu_run(), tmp_path / "gpu.html").read_text(encoding="utf-8")
    head = page[page.index("<h3>Phases, devices") : page.index('data-figure="overview"')]
    names = re.findall(r'class="key( line)?"><i style="[^"]*"></i>([^<]*)', head)
    assert [name for _, name in names] == [
        "stall: cpu", "stall: first_byte", "kernel", "copy from the host", "copy to the host",
        "utilisation", "memory", "power", "PCIe in",
    ]  # fmt: skip
    assert [name for line, name in names if line] == ["utilisation", "memory", "power", "PCIe in"]


def test_a_million_kernels_have_a_small_page(tmp_path: Path) -> None:
    page = write_page(many_kernels_run(), tmp_path / "kernels.html")
    assert page.stat().st_size <= 12_000_000


def test_a_huge_run_has_a_small_page_that_says_so(tmp_path: Path) -> None:
    page = write_page(huge_run(), tmp_path / "huge.html")
    assert page.stat().st_size <= 12_000_000
    text = page.read_text()
    assert "Adjacent pieces shorter than" in text
    assert re.search(r">400,000 requests drawn as [\d,]+ merged bricks: each colour covers", text)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError):
        write_page(run_of(Rows()), tmp_path / "page.html")
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


def test_the_header_names_only_mounts_that_the_command_used(tmp_path: Path) -> None:
    run = cold_run()
    mounts = run.tables["mounts"]
    other = mounts.with_columns(
        mount_id=pl.lit(1, pl.Int32), repository=pl.lit("unused.example.org")
    )
    both = replace(run, tables={**run.tables, "mounts": pl.concat([mounts, other])})
    page = write_page(both, tmp_path / "x.html").read_text()
    assert "models.example.org by cvmfs 2.12.0" in page
    assert "unused.example.org" not in page
