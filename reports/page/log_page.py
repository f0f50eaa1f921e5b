"""The page of an imported log: counts over time instead of lanes, and no durations."""

from __future__ import annotations

from ..figures.bars import counts_figure
from ..figures.encode import Json
from ..figures.heat import hottest_file, touches_figure
from ..material import Material
from ..numbers.log import Imported, bar_ns, counts_over_time
from ..numbers.statistics import Statistics
from . import sections, tables
from .content import Content, script_data


def page_of_log(material: Material, statistics: Statistics, imported: Imported) -> Content:
    """Return the page of a run that was imported from a log."""
    figures, blocks = _over_time(material, imported)
    digits = 0 if imported.precision_ns >= 1_000_000_000 else 6
    return Content(
        "log.html",
        f"{imported.kind} {imported.file}",
        script_data(material.window, figures, digits=digits),
        {
            "facts": sections.facts_of_log(statistics, imported),
            "tiles": sections.tiles_of_log(statistics, imported),
            "spans": sections.spans(statistics),
            "blocks": blocks,
            "sections": tables.sections_of_log(statistics, imported),
            "losses": tables.losses(statistics),
        },
    )


def _over_time(
    material: Material, imported: Imported
) -> tuple[dict[str, Json], list[sections.Block]]:
    frames, window = material.frames, material.window
    width_ns = bar_ns(window, imported.precision_ns)
    counts = counts_over_time(frames, window, width_ns)
    figures = {"counts": counts_figure(counts, width_ns, window)}
    blocks = [sections.counts_block(width_ns, bool(figures["counts"]))]
    heat = hottest_file(frames, window, imported.precision_ns)
    if heat:
        figures["touches"] = touches_figure(heat, window)
        blocks.append(sections.heat_block(heat))
    return figures, blocks
