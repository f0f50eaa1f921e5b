"""The page of a recorded run: where its time went, lanes over time, tables."""

from __future__ import annotations

from ..figures.bars import phase_figure
from ..figures.encode import Json
from ..figures.heat import hottest_file, touches_figure
from ..figures.lanes import LaneGroup, lane_figure
from ..figures.marks import incident_lines, incidents_figure, stall_shades, with_marks
from ..figures.overview import overview_lanes
from ..figures.timeline import daemon_lanes, request_lanes, thread_lanes
from ..figures.waterfall import waterfall, waterfall_figure
from ..material import Material
from ..numbers.statistics import Statistics
from . import sections, tables
from .content import Content, script_data
from .tensors import sections_of_tensors
from .walks import walks


def page_of_run(material: Material, statistics: Statistics) -> Content:
    """Return the page of a run that was recorded."""
    figures, blocks = _over_time(material, statistics)
    phases = [(phase.title, phase.duration_ns, phase.causes_ns) for phase in statistics.phases]
    figures["phases"] = phase_figure(phases)
    return Content(
        "run.html",
        " ".join(statistics.command) or "(unknown command)",
        script_data(material.window, figures, stalls=walks(statistics)),
        {
            "facts": sections.facts_of_run(statistics),
            "tiles": sections.tiles_of_run(statistics),
            "families": sections.families(statistics.phases),
            "spans": sections.spans(statistics),
            "blocks": blocks,
            "sections": [*sections_of_tensors(statistics), *tables.sections_of_run(statistics)],
            "losses": tables.losses(statistics),
            "observed": tables.observed(statistics),
        },
    )


def _over_time(
    material: Material, statistics: Statistics
) -> tuple[dict[str, Json], list[sections.Block]]:
    """The figures whose axis is time, with incidents and stalls through each, and their blocks."""
    frames, window, incidents = material.frames, material.window, statistics.incidents
    groups, downloads = _lane_groups(material, statistics), waterfall(frames, window)
    figures = {group.name: lane_figure(group, window) for group in groups}
    figures["downloads"] = waterfall_figure(downloads, window)
    blocks = [sections.incident_block()] if incidents else []
    blocks += [sections.lane_block(group, bool(figures[group.name])) for group in groups]
    blocks.append(sections.waterfall_block(downloads.note, bool(figures["downloads"])))
    heat = hottest_file(frames, window)
    if heat:
        figures["touches"] = touches_figure(heat, window)
        blocks.append(sections.heat_block(heat.path))
    longest = statistics.stalls.longest
    marks = stall_shades(longest, window) + incident_lines(incidents, window)
    drawn = {name: with_marks(figure, marks) for name, figure in figures.items() if figure}
    return {"marks": incidents_figure(incidents, window), **drawn}, blocks


def _lane_groups(material: Material, statistics: Statistics) -> list[LaneGroup]:
    frames, window = material.frames, material.window
    return [
        overview_lanes(material, statistics.devices),
        thread_lanes(frames, window),
        request_lanes(frames, window),
        daemon_lanes(frames, window),
    ]
