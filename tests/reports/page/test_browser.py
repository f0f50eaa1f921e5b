"""The page in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvmprof.reports.page.page import write_page
from cvmprof.tests.reports.page.browser import Browser
from cvmprof.tests.reports.rows import download, fetch, incident, tile
from cvmprof.tests.reports.synthetic import (
    DAEMON,
    MS,
    PID,
    START,
    SyntheticRun,
    cold_run,
    crashed_run,
    hostile_run,
    huge_run,
    run_of,
    tiny_rows,
    warm_run,
)
from cvmprof.tests.reports.synthetic_gpu import (
    UUIDS,
    calls_run,
    gpu_run,
    hostile_gpu_run,
    many_kernels_run,
)

OUTLINED = (
    "return Object.fromEntries([...cvmprof.figures.values()].filter(f => f.rows || f.start)"
    ".map(f => [f.name, f.node.layout.shapes.filter(s => s.type === 'rect' && s.line.width)"
    ".map(s => s.line.color)]))"
)
LANES = ["command", "overview", "threads", "requests", "daemon", "downloads", "touches"]
RANGES = (
    "return [...cvmprof.figures.values()].filter(f => f.node.closest('#lanes'))"
    ".map(f => f.node._fullLayout.xaxis.range.map(x => Math.round(x * 1e6)))"
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("pages")
    runs = {
        "cold": cold_run, "warm": warm_run, "crashed": crashed_run, "hostile": hostile_run,
        "huge": huge_run, "gpu": gpu_run, "calls": calls_run, "kernels": many_kernels_run,
        "hostile_gpu": hostile_gpu_run,
    }  # fmt: skip
    return {name: write_page(make(), place / f"{name}.html") for name, make in runs.items()}


@pytest.fixture
def cold(browser: Browser, pages: dict[str, Path]) -> Browser:
    browser.console()
    browser.open(pages["cold"])
    return browser


def drawn(browser: Browser) -> list[str]:
    names: list[str] = browser.run(
        "return [...cvmprof.figures.values()].filter(f => f.node.querySelector"
        "('.heatmaplayer image, .barlayer path')).map(f => f.name)"
    )
    return names


@pytest.mark.parametrize("name", [
    "cold", "warm", "crashed", "hostile", "huge", "gpu", "calls", "kernels", "hostile_gpu",
])  # fmt: skip
def test_opens_without_a_console_message(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.console()
    browser.open(pages[name])
    assert browser.console() == []


def test_every_figure_is_drawn(cold: Browser) -> None:
    assert sorted(drawn(cold)) == sorted([*LANES, "times"])


@pytest.mark.parametrize("width", [1280, 1920])
def test_nothing_spills_over_the_window(
    browser: Browser, pages: dict[str, Path], width: int
) -> None:
    browser.resize(width, 900)
    browser.open(pages["cold"])
    spill = browser.run(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    browser.resize(1400, 1000)
    assert spill == []


def test_zooming_one_lane_zooms_all(cold: Browser) -> None:
    before = cold.run(RANGES)
    assert len(before) == len(LANES)
    cold.run_async(
        "Plotly.relayout(document.querySelector('[data-figure=\"threads\"]'),"
        " {'xaxis.range[0]': 0.5, 'xaxis.range[1]': 0.75})"
        ".then(() => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    assert cold.run(RANGES) == [[500_000, 750_000]] * len(LANES)


def test_the_buttons_zoom(cold: Browser) -> None:
    cold.run_async(
        "[...document.querySelectorAll('[data-from]')].find(b => b.textContent === 'infer')"
        ".click(); requestAnimationFrame(() => requestAnimationFrame(done))"
    )
    ranges = cold.run(RANGES)
    phase = cold_run().tables["phases"].row(1, named=True)
    start = cold_run().tables["segments"]["start_ns"].min()
    assert isinstance(start, int)
    expected = [(phase["start_ns"] - start) / 1e3, (phase["end_ns"] - start) / 1e3]
    assert ranges == [[pytest.approx(edge, abs=1) for edge in expected]] * len(LANES)


def place_of(browser: Browser, figure: str, row_test: str) -> tuple[int, int]:
    """Scroll a brick of a figure into view; return its middle in the viewport."""
    x, y = browser.run(f"""
        const f = cvmprof.figures.get({figure!r}), l = f.node._fullLayout;
        f.node.scrollIntoView({{block: "center", behavior: "instant"}});
        const row = [...f.start.keys()].find(row => {row_test});
        const box = f.node.getBoundingClientRect();
        return [box.left + l.margin.l + l.xaxis.d2p((f.start[row] + f.end[row]) / 2),
                box.top + l.margin.t + l.yaxis.d2p(-f.lane[row])];""")
    return round(x), round(y)


def test_hovering_says_file_offset_and_object(cold: Browser) -> None:
    cold.point(
        *place_of(
            cold, "threads", "f.fetch[row] === 4 && f.figure.words[f.code[row]] === 'transfer'"
        )
    )
    text = cold.run_async(
        "const look = () => document.getElementById('tip').hidden ? requestAnimationFrame(look)"
        " : done(document.getElementById('tip').innerText); look();"
    )
    assert "transfer" in text
    assert "/cvmfs/models.example.org/phi4/model.onnx.data" in text
    assert "134,217,728 (128 MiB)" in text


def test_clicking_a_stall_leads_to_its_fetches_and_downloads(cold: Browser) -> None:
    cold.click(*place_of(cold, "overview", "f.figure.words[f.code[row]] === 'stall: transfer'"))
    panel = cold.run("return document.getElementById('selected').innerText")
    assert "17 fetches behind it" in panel
    assert cold.run(OUTLINED)["downloads"] == [*17 * ["#111111"]]
    assert cold.run("return document.querySelectorAll('tr.lit').length") == 17


def test_clicking_a_segment_leads_to_its_fetch(cold: Browser) -> None:
    cold.click(
        *place_of(
            cold, "threads", "f.fetch[row] === 4 && f.figure.words[f.code[row]] === 'transfer'"
        )
    )
    assert "1 fetch behind it" in cold.run("return document.getElementById('selected').innerText")
    assert cold.run("return document.querySelector('tr.lit').id") == "fetch-4"


@pytest.fixture
def gpu(browser: Browser, pages: dict[str, Path]) -> Browser:
    browser.open(pages["gpu"])
    return browser


def click_step(browser: Browser, number: int) -> tuple[str, dict[str, list[str]]]:
    """Click a step of the walk; return its text, and the outlines in each figure."""
    text = browser.run(
        f"const b = document.querySelectorAll('.walk ol button')[{number}]; b.click();"
        " return b.innerText.replace(/\\s+/g, ' ')"
    )
    assert browser.run("return document.querySelectorAll('.walk ol .on').length") == 1
    return text, {name: lines for name, lines in browser.run(OUTLINED).items() if lines}


def test_a_click_on_a_stall_walks_to_its_chunk(gpu: Browser) -> None:
    stall = "f.columns.find(c => c.name === 'stall').data[row] === 4"
    gpu.click(*place_of(gpu, "overview", stall))
    panel = gpu.run("return document.getElementById('selected').innerText")
    assert "stall: first_byte · 497 ms" in panel
    assert f"GPU 1 · NVIDIA H100 80GB HBM3 · {UUIDS[1]}" in panel
    assert "first_byte 97 %, transfer 2 %, driver 1 %" in panel
    assert "1 fetch behind it" in panel
    blue, black = "#0b57d0", "#111111"
    assert click_step(gpu, 0) == ("stall 4 of GPU 1, 497 ms", {"overview": [blue]})
    text, outlined = click_step(gpu, 1)
    assert (text, outlined) == ("thread loader 103, 491 ms of the stall", {"threads": 5 * [blue]})
    text, outlined = click_step(gpu, 2)
    assert text == "waited in page fault at layers.8.mlp.weight (model.safetensors + 68.0 MiB)"
    assert outlined == {"threads": 5 * [blue]}
    assert click_step(gpu, 3) == (
        "request 2016 on /cvmfs/models.example.org, 491 ms", {"requests": 5 * [blue]},
    )  # fmt: skip
    text, outlined = click_step(gpu, 4)
    assert text == "fetch #8 of chunk 6755d65663a2… from stratum1:8000, 490 ms"
    assert outlined == {
        "command": [black, blue], "threads": 3 * [blue], "requests": 5 * [black],
        "daemon": [*4 * [black], *4 * [blue]], "downloads": [black, blue],
    }  # fmt: skip
    assert gpu.run("return document.querySelector('tr.lit').id") == "fetch-8"


def test_another_wait_of_the_stall_has_its_own_steps(gpu: Browser) -> None:
    gpu.run("document.querySelector('button[data-stall=\"4\"]').click()")
    gpu.run("document.querySelectorAll('.walk ul button')[1].click()")
    steps = "return [...document.querySelectorAll('.walk ol button')].map(b => b.textContent)"
    assert gpu.run(steps) == [
        "stall 4 of GPU 1, 497 ms", "thread python3 102, 6.02 ms of the stall",
    ]  # fmt: skip


def test_the_pointer_over_samples_says_their_values_with_units(gpu: Browser) -> None:
    gpu.point(*place_of(gpu, "overview", "f.figure.words[f.code[row]] === 'sample'"))
    text = gpu.run_async(
        "const look = () => document.getElementById('tip').hidden ? requestAnimationFrame(look)"
        " : done(document.getElementById('tip').innerText); look();"
    )
    values = dict(zip(*2 * [iter(text.split("\n")[1:])], strict=False))
    assert values["memory"] == "1.00 GiB"
    assert values["power"] == "90.0 W"
    assert values["clock"] == "1,755 MHz"
    assert values["PCIe out"] == "1.00 MiB/s"
    assert values["device"].endswith(UUIDS[0])


def test_a_stall_that_is_drawn_with_others_still_opens_its_walk(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["kernels"])
    drawn_stalls = browser.run(
        "const f = cvmprof.figures.get('overview');"
        " return [...f.columns.find(c => c.name === 'stall').data]"
    )
    listed = browser.run(
        "return [...document.querySelectorAll('button[data-stall]')].map(b => +b.dataset.stall)"
    )
    hidden = next(number for number in listed if number not in drawn_stalls)
    browser.run(f"document.querySelector('button[data-stall=\"{hidden}\"]').click()")
    panel = browser.run("return document.getElementById('selected').innerText")
    assert f"What stall {hidden} was spent on" in panel


def test_incidents_stand_in_every_lane(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["crashed"])
    lines = (
        "return [...cvmprof.figures.values()].filter(f => f.node.closest('#lanes'))"
        ".map(f => [f.name, f.node._fullLayout.shapes.filter(s => s.type === 'line')"
        ".map(s => Math.round(s.x0 * 1000))])"
    )
    told = dict(browser.run(lines))
    assert told == {"marks": [], **{name: [900, 1000] for name in LANES}}
    browser.run("cvmprof.select(cvmprof.figures.get('threads'), 3)")
    assert dict(browser.run(lines)) == told  # what is selected is outlined beside them
    mark = "const d = cvmprof.figures.get('marks').node.data[0]; return [d.text, d.hovertext]"
    words, hints = browser.run(mark)
    assert words == ["crash", "remount"]
    assert hints[0].startswith("<b>crash</b> at 0.9 s, process ")
    assert ", signal 11<br>daemon killed, after its last call cvmfs_read" in hints[0]


def crowded_run() -> SyntheticRun:
    """Hundreds of everything that has lanes, all at once."""
    rows = tiny_rows()
    for number in range(400):
        tid, key = 2_000 + number, {"mount_id": 0, "unique": 1_000 + 2 * number}
        start, end = START + number * 10_000, START + 99 * MS
        rows.add("tasks", pid=PID, tid=tid, parent_pid=1, name="worker", role="target",
                 start_ns=START)  # fmt: skip
        tile(rows, start, end, "first_byte", tid=tid, fetch_id=100 + number, **key)
        rows.add("phases", name=f"step {number}", start_ns=start, end_ns=end, pid=PID, tid=tid)
        rows.add("fuse_requests", opcode=15, node_id=17, pid=PID, tid=tid, queued_ns=start,
                 served_ns=start + 1000, end_ns=end, error=0, **key)  # fmt: skip
        rows.add("daemon_calls", call_id=number, function="cvmfs_read", pid=DAEMON,
                 tid=5_000 + number, start_ns=start, end_ns=end, **key)  # fmt: skip
        fetch(rows, start, end, tid=5_000 + number, object_hash=f"{number:040x}",
              download_id=100 + number, **key)  # fmt: skip
        rows.rows["fetches"][-1]["fetch_id"] = 100 + number
        download(rows, 100 + number, start, end - 2 * MS, end - MS, end)
        rows.add("gpu_ops", device=f"GPU-{number % 40}", stream=number, kind="kernel",
                 start_ns=end - MS, end_ns=end, pid=PID, source="cupti")  # fmt: skip
        rows.add("incidents", **incident("reload", number % 90))
    return run_of(rows)


def test_the_page_is_of_bounded_height_however_much_happens_at_once(
    browser: Browser, tmp_path: Path
) -> None:
    browser.open(write_page(crowded_run(), tmp_path / "page.html"))
    heights = browser.run(
        "return [...document.querySelectorAll('.figure')]"
        ".map(f => [f.dataset.figure, f.getBoundingClientRect().height])"
    )
    assert {name for name, height in heights if height > 700} == set()
    assert sum(height for _, height in heights) < 3000


@pytest.mark.parametrize("name", ["hostile", "hostile_gpu"])
def test_hostile_text_stays_text(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    for figure in ("overview", "threads", "requests", "daemon", "downloads"):
        browser.run(f"const f = cvmprof.figures.get({figure!r}); cvmprof.select(f, 0)")
        browser.run(
            "cvmprof.figures.get('threads').start.forEach"
            "((_, row) => row % 50 || cvmprof.select(cvmprof.figures.get('threads'), row))"
        )
    found = browser.run(
        "return [window.pwned ?? null, document.querySelectorAll('script').length,"
        " document.querySelectorAll('img, iframe, object, embed, .evil, [onerror]').length,"
        " [...document.querySelectorAll('a')].filter(a => !/#fetch-/.test(a.href ?? '')).length,"
        " document.querySelectorAll('svg b, svg a').length"
        " + [...document.querySelectorAll('svg tspan[style*=bold]')]"
        ".filter(t => !/^[0-9.]+ (s|ms|µs)$/.test(t.textContent)).length]"
    )
    assert found == [None, 3, 0, 0, 0]
    shown = browser.run("return document.body.innerText")
    assert "<img src=x" in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize("name", ["huge", "kernels"])
def test_a_huge_run_is_interactive_within_three_seconds(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name])
    loaded = browser.run(
        "return performance.timing.domInteractive - performance.timing.navigationStart"
        " + Number(document.documentElement.dataset.drawnMs)"
    )
    assert loaded < 3000
