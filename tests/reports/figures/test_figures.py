from __future__ import annotations

import base64
import struct
from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.tables import CAUSES
from cvmprof.reports import palette
from cvmprof.reports.figures.bars import phase_figure
from cvmprof.reports.figures.lanes import Lane, LaneGroup, lane_figure
from cvmprof.reports.figures.timeline import request_lanes
from cvmprof.reports.figures.waterfall import waterfall, waterfall_figure
from cvmprof.reports.material import Window, gather
from cvmprof.tests.reports.synthetic import MS, START, Rows, run_of, tiny_rows

FORMATS = {"f8": "d", "i4": "i", "u1": "B", "f4": "f"}


def numbers(encoded: dict[str, Any]) -> list[float]:
    raw = base64.b64decode(encoded["bdata"])
    code = FORMATS[encoded["dtype"]]
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))


def test_every_cause_has_its_own_colour_and_meaning() -> None:
    assert set(palette.STYLES) == set(CAUSES)
    assert len({style.colour for style in palette.STYLES.values()}) == len(CAUSES)
    assert {style.family for style in palette.STYLES.values()} == set(palette.FAMILIES)


def test_gaps_between_bricks_are_bricks_that_lead_nowhere() -> None:
    bricks = pl.DataFrame(
        {
            "start_ns": [100, 200, 350],
            "end_ns": [200, 250, 400],
            "code": [1, 0, 1],
            "merged": [1, 1, 1],
            "fetch_id": [None, 7, None],
            "file": ["a", None, "a"],
        },
        schema_overrides={"code": pl.UInt8, "fetch_id": pl.Int32},
    )
    group = LaneGroup("g", "G", "", (("x", "#111111"), ("y", "#222222")), (Lane("one", bricks),))
    figure = lane_figure(group, Window(100, 500))
    (trace,) = figure["data"]
    assert numbers(trace["x"]) == pytest.approx([0, 1e-7, 1.5e-7, 2.5e-7, 3e-7])
    assert numbers(trace["z"]) == [1, 0, 2, 1]
    assert trace["z"]["shape"] == "1, 4"
    assert numbers(figure["rows"][0]) == [0, 1, -1, 2]
    assert numbers(figure["details"]["fetch"]) == [-1, 7, -1]
    (file,) = figure["details"]["columns"]
    assert (file["words"], numbers(file["data"])) == (["a"], [0, -1, 0])


def test_stacked_bars_add_up_to_the_phase() -> None:
    figure = phase_figure([("load", 100 * MS, {"cpu": 25 * MS, "transfer": 75 * MS})])
    assert [(trace["name"], trace["x"]) for trace in figure["data"]] == [
        ("cpu", [0.025]),
        ("transfer", [0.075]),
    ]
    assert figure["data"][1]["text"] == ["transfer 75 %"]


def waterfall_parts(rows: Rows) -> list[list[float]]:
    """Milliseconds of each part, by download."""
    material = gather(run_of(rows))
    figure = waterfall_figure(waterfall(material.frames, material.window), material.window)
    parts = [numbers(trace["x"]) for trace in figure["data"]]
    return [[round(part[row] * 1e3, 6) for part in parts] for row in range(len(parts[0]))]


def test_only_pieces_that_are_wide_on_the_page_are_named_in_it() -> None:
    long, short = {"cpu": 95 * MS, "transfer": 5 * MS}, {"cpu": 2 * MS, "transfer": 3 * MS}
    figure = phase_figure([("load", 100 * MS, long), ("run", 5 * MS, short)])
    texts = {trace["name"]: trace["text"] for trace in figure["data"]}
    assert texts == {"cpu": ["cpu 95 %", ""], "transfer": ["", ""]}


def test_a_download_is_divided_into_its_parts() -> None:
    rows = tiny_rows()
    rows.rows["downloads"][0] |= {"queued_ns": START + 9 * MS, "committed_ns": START + 47 * MS}
    assert waterfall_parts(rows) == [[1, 20, 15, 2], [0, 20, 15, 0]]


def test_a_download_that_hangs_waits_for_what_it_lacks() -> None:
    rows = tiny_rows()
    rows.rows["downloads"][1] |= {"first_byte_ns": None, "last_byte_ns": None}
    assert waterfall_parts(rows)[1] == [0, 40, 0, 0]
    rows.rows["downloads"][1]["first_byte_ns"] = START + 70 * MS
    assert waterfall_parts(rows)[1] == [0, 10, 30, 0]


def names_of_downloads(**changes: Any) -> list[str]:
    rows = tiny_rows()
    rows.rows["downloads"][0] |= changes
    material = gather(run_of(rows))
    figure = waterfall_figure(waterfall(material.frames, material.window), material.window)
    names: list[str] = figure["layout"]["yaxis"]["ticktext"]
    return names


def test_a_download_is_named_by_what_is_known_of_it() -> None:
    assert names_of_downloads()[0] == "model.onnx.data @0 MiB"
    rows = {"download_id": 7, "url_path": "/x/abc", "host": "10.0.0.7:3128"}
    assert names_of_downloads(**rows)[0] == "abc"
    assert names_of_downloads(**rows | {"url_path": None})[0] == "10.0.0.7:3128"


def test_a_request_that_was_never_answered_lasts_to_the_end() -> None:
    rows = tiny_rows()
    rows.add(
        "fuse_requests",
        mount_id=0,
        unique=8,
        opcode=15,
        node_id=17,
        pid=100,
        tid=101,
        queued_ns=START + 96 * MS,
        error=0,
    )
    material = gather(run_of(rows))
    group = request_lanes(material.frames, material.window)
    (brick,) = group.lanes[0].bricks.rows(named=True)
    assert (brick["end_ns"], group.palette[brick["code"]][0]) == (
        START + 100 * MS,
        "never answered",
    )
