"""The page of a recorded run: where its time went, lanes over time, tables."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..figures.bars import time_bars, time_figure
from ..figures.encode import Json
from ..figures.heat import hottest_file, touches_figure
from ..figures.lanes import LaneGroup, lane_figure
from ..figures.marks import incident_lines, incidents_figure, stall_shades, with_marks
from ..figures.overview import overview_lanes
from ..figures.parts import fetch_parts
from ..figures.service import daemon_lanes, request_lanes
from ..figures.timeline import command_lanes, thread_lanes
from ..figures.waterfall import waterfall, waterfall_figure
from ..material import Material
from ..numbers.statistics import Statistics
from . import sections, tables
from .content import Content, script_data
from .tensors import sections_of_tensors
from .walks import walks


def page_of_run(material: Material, statistics: Statistics) -> Content:
    """Return the page of a run that was recorded."""
    fetched = fetch_parts(material.frames, material.window)
    shown = _over_time(material, statistics, fetched)
    bars = time_bars(statistics)
    listed = tables.sections_of_run(statistics, fetched)
    return Content(
        "run.html",
        " ".join(statistics.command) or "(unknown command)",
        script_data(
            material.window,
            {**shown.figures, "times": time_figure(bars)},
            stalls=walks(statistics),
        ),
        {
            "facts": sections.facts_of_run(statistics),
            "tiles": sections.tiles_of_run(statistics),
            "bars": sections.said_of_bars(bars, statistics.phases),
            "families": sections.families(shown.causes | sections.causes_of(statistics)),
            "spans": sections.spans(statistics),
            "blocks": shown.blocks,
            "sections": [*sections_of_tensors(statistics), *listed],
            "losses": tables.losses(statistics),
            "observed": tables.observed(statistics),
        },
    )


@dataclass(frozen=True)
class _Shown:
    """The figures whose axis is time, their blocks, and the causes that occur in them."""

    figures: dict[str, Json]
    blocks: list[sections.Block]
    causes: set[str]


def _over_time(material: Material, statistics: Statistics, fetched: pl.DataFrame) -> _Shown:
    """The figures over time, with incidents and stalls through each."""
    frames, window, incidents = material.frames, material.window, statistics.incidents
    groups, downloads = _lane_groups(material, statistics, fetched), waterfall(frames, window)
    figures = {group.name: lane_figure(group, window) for group in groups}
    figures["downloads"] = waterfall_figure(downloads, window)
    blocks = [sections.incident_block()] if incidents else []
    blocks += [sections.lane_block(group, bool(figures[group.name])) for group in groups]
    blocks.append(sections.waterfall_block(downloads, bool(figures["downloads"])))
    heat = hottest_file(frames, window)
    if heat:
        figures["touches"] = touches_figure(heat, window)
        blocks.append(sections.heat_block(heat))
    longest = statistics.stalls.longest
    marks = stall_shades(longest, window) + incident_lines(incidents, window)
    drawn = {name: with_marks(figure, marks) for name, figure in figures.items() if figure}
    return _Shown(
        {"marks": incidents_figure(incidents, window), **drawn},
        [sections.with_scope(block, material) for block in blocks],
        downloads.causes.union(*map(sections.drawn_in, groups)),
    )


def _lane_groups(
    material: Material, statistics: Statistics, fetched: pl.DataFrame
) -> list[LaneGroup]:
    frames, window = material.frames, material.window
    return [
        command_lanes(material),
        overview_lanes(material, statistics.devices),
        thread_lanes(frames, window),
        request_lanes(frames, window, fetched),
        daemon_lanes(frames, window, fetched),
    ]
