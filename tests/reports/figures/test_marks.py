from __future__ import annotations

from cvmprof.reports.figures.marks import incident_lines, incidents_figure, stall_shades, with_marks
from cvmprof.reports.material import Window
from cvmprof.reports.numbers.stalls import Stall
from cvmprof.reports.palette import STYLES
from cvmprof.tests.reports.rows import incident
from cvmprof.tests.reports.synthetic import MS, START

WINDOW = Window(START, START + 100 * MS)


def test_stalls_are_shaded_behind_all_lanes_in_the_colour_of_their_cause() -> None:
    causes = {"cpu": 43, "first_byte": 30, "transfer": 27}
    waited = Stall(0, "d", START + 10 * MS, START + 30 * MS, 1, causes)
    nothing = Stall(1, "d", START, START, 1, {})
    (shade,) = stall_shades((waited, nothing), WINDOW)
    assert (shade["x0"], shade["x1"], shade["yref"], shade["layer"]) == (
        0.01,
        0.03,
        "paper",
        "below",
    )
    assert shade["fillcolor"] == STYLES["first_byte"].colour
    assert len(stall_shades(60 * (waited,), WINDOW)) == 40


def test_marks_are_added_to_a_figures_layout() -> None:
    lines = incident_lines([incident("crash", 40)], WINDOW)
    figure = with_marks({"data": [], "layout": {"height": 3}}, lines)
    assert figure == {"data": [], "layout": {"height": 3, "shapes": lines}}
    assert (lines[0]["x0"], lines[0]["x1"]) == (0.04, 0.04)


def test_incidents_for_whose_names_there_is_no_room_are_marks_only() -> None:
    figure = incidents_figure([incident("reload", n) for n in range(9)], WINDOW)
    (trace,) = figure["data"]
    assert trace["text"] == [*4 * ["reload"], *4 * [""], "reload"]
    assert trace["y"] == [0, -1, -2, -3, -3, -3, -3, -3, 0]
    assert len(trace["hovertext"]) == 9
