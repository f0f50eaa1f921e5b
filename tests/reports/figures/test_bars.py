from __future__ import annotations

from cvmprof.reports.figures.bars import phase_figure
from cvmprof.tests.reports.synthetic import MS


def test_stacked_bars_add_up_to_the_phase() -> None:
    figure = phase_figure([("load", 100 * MS, {"cpu": 25 * MS, "transfer": 75 * MS})])
    assert [(trace["name"], trace["x"]) for trace in figure["data"]] == [
        ("cpu", [0.025]),
        ("transfer", [0.075]),
    ]
    assert figure["data"][1]["text"] == ["transfer 75 %"]


def test_only_pieces_that_are_wide_on_the_page_are_named_in_it() -> None:
    long, short = {"cpu": 95 * MS, "transfer": 5 * MS}, {"cpu": 2 * MS, "transfer": 3 * MS}
    figure = phase_figure([("load", 100 * MS, long), ("run", 5 * MS, short)])
    texts = {trace["name"]: trace["text"] for trace in figure["data"]}
    assert texts == {"cpu": ["cpu 95 %", ""], "transfer": ["", ""]}
