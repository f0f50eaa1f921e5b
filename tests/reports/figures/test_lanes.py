from __future__ import annotations

import polars as pl
import pytest

from cvmprof.reports.figures.lanes import Lane, LaneGroup, lane_figure
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
