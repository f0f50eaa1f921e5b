from __future__ import annotations

import polars as pl
import pytest

from cvmprof.reports.figures.lanes import Lane, LaneGroup, Line, lane_figure
from cvmprof.reports.material import Window
from cvmprof.tests.reports.figures.arrays import numbers


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


def test_a_lane_with_lines_is_twice_as_high_and_its_label_may_have_two_lines() -> None:
    bricks = pl.DataFrame(
        {"start_ns": [0], "end_ns": [8], "code": [0], "merged": [1], "fetch_id": [None]},
        schema_overrides={"code": pl.UInt8, "fetch_id": pl.Int32},
    )
    line = Line("#123456", pl.DataFrame({"time_ns": [0, 8], "height": [0.0, 1.0]}))
    lanes = Lane("a", bricks), Lane("b\n<c>", bricks, (line,)), Lane("d", bricks)
    figure = lane_figure(LaneGroup("g", "G", "", (("x", "#111111"),), lanes), Window(0, 8))
    axis = figure["layout"]["yaxis"]
    assert axis["tickvals"] == [0, -1.5, -3]
    assert axis["ticktext"] == ["a", "b<br>&#60;c&#62;", "d"]
    assert axis["range"] == [-3.55, 0.55]
    assert numbers(figure["details"]["lane"]) == [0, 1.5, 3]
    assert [trace["type"] for trace in figure["data"]] == [*3 * ["heatmap"], "scatter"]
    assert figure["data"][1]["y"] == pytest.approx([-2.4, -0.6])
    assert numbers(figure["data"][3]["y"]) == pytest.approx([-2.4, -0.6])
    assert len(figure["rows"]) == 3
