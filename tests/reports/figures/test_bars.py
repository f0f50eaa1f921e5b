from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from cvmprof.reports.figures.bars import (
    MAX_PHASES,
    MAX_PROCESSES,
    counts_figure,
    time_bars,
    time_figure,
)
from cvmprof.reports.figures.bars import TimeBar as Bar
from cvmprof.reports.material import WHOLE_COMMAND, Window
from cvmprof.reports.numbers.command import CommandTime, ProcessTime
from cvmprof.reports.palette import LOG_COLOURS
from cvmprof.tests.reports.rows import NO_FETCHES, phase, quiet
from cvmprof.tests.reports.synthetic import MS

ONE_THREAD = CommandTime(
    wall_ns=100 * MS, causes_ns={"cpu": 40 * MS, "first_byte": 60 * MS}, cvmfs_ns=60 * MS,
    cvmfs_causes_ns={"first_byte": 60 * MS}, fetch_ns=60 * MS, polled_ns=0, threads_ns=100 * MS,
    thread_causes_ns={"cpu": 40 * MS, "first_byte": 60 * MS}, thread_cvmfs_ns=60 * MS,
    fetches=NO_FETCHES,
)  # fmt: skip


def process(pid: int, start_ms: int, **causes_ms: int) -> ProcessTime:
    causes_ns = {cause: ms * MS for cause, ms in causes_ms.items()}
    return ProcessTime(pid, "python", None, 1, start_ms * MS, None, sum(causes_ns.values()),
                       causes_ns, 0)  # fmt: skip


def names(command: CommandTime, **changes: object) -> list[str]:
    return [bar.name for bar in time_bars(quiet(command_time=command, **changes))]


def test_the_commands_wall_time_comes_first_then_its_phases() -> None:
    marked = (phase("load", 70, cpu=70 * MS), phase("infer", 30, cpu=30 * MS))
    assert names(ONE_THREAD, phases=marked) == ["the command", "“load”", "“infer”"]
    (bar, *_) = time_bars(quiet(command_time=ONE_THREAD, phases=marked))
    assert sum(bar.causes_ns.values()) == bar.duration_ns == ONE_THREAD.wall_ns


def test_of_many_phases_the_longest_have_bars_in_their_order() -> None:
    marked = tuple(phase(f"p{n}", 10 + n % 13) for n in range(26))
    longest = [f"“p{n}”" for n in range(26) if n % 13 > 7]
    assert len(longest) == MAX_PHASES
    assert names(ONE_THREAD, phases=marked)[1:] == longest


def test_a_command_without_phases_is_not_drawn_as_one() -> None:
    assert names(ONE_THREAD, phases=(phase(WHOLE_COMMAND),)) == ["the command"]
    nothing = replace(ONE_THREAD, wall_ns=0, causes_ns={})
    assert names(nothing) == []


def test_all_threads_have_a_bar_where_their_time_went_elsewhere() -> None:
    waiting = {"cpu": 40 * MS, "first_byte": 760 * MS}
    many = replace(ONE_THREAD, threads_ns=800 * MS, thread_causes_ns=waiting)
    (_, threads) = time_bars(quiet(command_time=many))
    assert (threads.name, threads.duration_ns) == ("all its threads", 800 * MS)
    figure = time_figure(time_bars(quiet(command_time=many)))
    drawn = {trace["name"]: trace["x"] for trace in figure["data"]}
    assert drawn == {"cpu": [0.04, 0.005], "first_byte": [0.06, pytest.approx(0.095)]}
    same = replace(ONE_THREAD, threads_ns=800 * MS,
                   thread_causes_ns={"cpu": 330 * MS, "first_byte": 470 * MS})  # fmt: skip
    assert names(same) == ["the command"]


def test_processes_have_bars_where_the_first_only_waits() -> None:
    working = tuple(process(20 + n, 5, cpu=10, first_byte=60) for n in range(3))
    waits = process(10, 0, cpu=4, blocked=96)
    command = replace(ONE_THREAD, process_count=4, processes=(waits, *working))
    assert names(command) == ["the command", "python 10", "python 20", "python 21", "python 22"]
    works = process(10, 0, cpu=60, blocked=40)
    assert names(replace(command, processes=(works, *working))) == ["the command"]
    assert names(replace(ONE_THREAD, process_count=1, processes=(waits,))) == ["the command"]


def test_many_processes_are_one_bar_of_their_mean() -> None:
    waits = process(10, 0, blocked=100)
    working = tuple(process(20 + n, 5, cpu=10, first_byte=n) for n in range(MAX_PROCESSES + 19))
    command = replace(ONE_THREAD, process_count=99, processes=(waits, *working))
    bars = time_bars(quiet(command_time=command))
    assert len(bars) == 1 + MAX_PROCESSES + 1
    assert bars[-1].name == "20 others, mean"
    assert bars[-1].causes_ns == {"cpu": 10 * MS, "first_byte": round(16.5 * MS)}
    almost = replace(command, processes=command.processes[: MAX_PROCESSES + 1])
    assert names(almost)[-1] == "python 27"


def test_stacked_bars_add_up_to_their_time() -> None:
    figure = time_figure([Bar("load", 100 * MS, {"cpu": 25 * MS, "transfer": 75 * MS})])
    assert [(trace["name"], trace["x"]) for trace in figure["data"]] == [
        ("cpu", [0.025]),
        ("transfer", [0.075]),
    ]
    assert figure["data"][1]["text"] == ["transfer 75 %"]
    assert time_figure([]) == {}


def test_only_pieces_that_are_wide_on_the_page_are_named_in_it() -> None:
    long, short = {"cpu": 95 * MS, "transfer": 5 * MS}, {"cpu": 2 * MS, "transfer": 3 * MS}
    figure = time_figure([Bar("load", 100 * MS, long), Bar("run", 5 * MS, short)])
    texts = {trace["name"]: trace["text"] for trace in figure["data"]}
    assert texts == {"cpu": ["cpu 95 %", ""], "transfer": ["", ""]}


def test_what_a_log_counts_has_a_row_and_a_scale_for_each_kind() -> None:
    counts = {
        name: pl.DataFrame({"bar": [0, 3], "number": [number, 1]})
        for name, number in (("calls", 70), ("downloads", 2))
    }
    figure = counts_figure(counts, 2_000_000_000, Window(0, 8_000_000_000))
    calls, downloads = figure["data"]
    assert (calls["yaxis"], downloads["yaxis"]) == ("y", "y2")
    assert (calls["x"], calls["y"], calls["width"]) == ([1.0, 7.0], [70, 1], 2.0)
    assert [trace["marker"]["color"] for trace in (calls, downloads)] == [
        LOG_COLOURS[0], LOG_COLOURS[3],
    ]  # fmt: skip
    layout = figure["layout"]
    (low, high), (below, above) = layout["yaxis"]["domain"], layout["yaxis2"]["domain"]
    assert below < above < low < high
    assert [each["text"] for each in layout["annotations"]] == ["calls", "downloads"]
    assert counts_figure({}, 1, Window(0, 1)) == {}


@pytest.mark.parametrize(("cpu_ms", "text"), [(9, ""), (11, "cpu 11 %")])
def test_a_part_is_named_where_its_name_has_room(cpu_ms: int, text: str) -> None:
    """Ten per cent of the figure hold eight characters in a narrow window."""
    causes_ns = {"cpu": cpu_ms * MS, "copy": (100 - cpu_ms) * MS}
    figure = time_figure([Bar("a", 100 * MS, causes_ns)])
    (cpu,) = (trace for trace in figure["data"] if trace["name"] == "cpu")
    assert cpu["text"] == [text]
