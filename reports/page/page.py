"""The page: one HTML file that opens from disk, needs no network, and holds everything."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template

from .. import palette
from ..escape import as_html, as_script_json
from ..figures.bars import counts_figure, phase_figure
from ..figures.encode import Json
from ..figures.heat import hottest_file, touches_figure
from ..figures.lanes import LaneGroup, lane_figure
from ..figures.layout import LEFT_MARGIN_PX, RIGHT_MARGIN_PX
from ..figures.marks import incidents_figure, with_incidents
from ..figures.timeline import daemon_lanes, overview_lanes, request_lanes, thread_lanes
from ..figures.waterfall import waterfall, waterfall_figure
from ..findings.rules import findings
from ..material import Material, RunLike, gather
from ..numbers.log import Imported, bar_ns, counts_over_time
from ..numbers.statistics import Statistics, compute
from . import sections


def write_page(run: RunLike | Material, path: Path) -> Path:
    """Write the page of ``run``, or of what was gathered of it, to ``path``; return ``path``.

    It is written beside ``path`` and renamed, so that there is a whole page or none.

    Raises OSError where it cannot be written.
    """
    text = render_page(run if isinstance(run, Material) else gather(run))
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def render_page(material: Material) -> str:
    """Return the page as HTML."""
    statistics = compute(material)
    if statistics.imported is not None:
        return _render_imported(material, statistics, statistics.imported)
    groups = _groups(material)
    downloads = waterfall(material.frames, material.window)
    heat = hottest_file(material.frames, material.window)
    window = material.window
    drawn: dict[str, Json] = {group.name: lane_figure(group, window) for group in groups}
    drawn["downloads"] = waterfall_figure(downloads, window)
    drawn["phases"] = phase_figure(
        [(p.title, p.duration_ns, p.causes_ns) for p in statistics.phases]
    )
    drawn["touches"] = touches_figure(heat, window) if heat else {}
    happened = statistics.incidents
    over_time = {name for name in drawn if name != "phases"}
    shown = {
        name: with_incidents(figure, happened, window) if name in over_time else figure
        for name, figure in {"marks": incidents_figure(happened, window), **drawn}.items()
        if figure
    }
    lanes = [sections.incident_block()] if happened else []
    lanes += [sections.lane_block(group, bool(drawn[group.name])) for group in groups]
    lanes.append(sections.waterfall_block(downloads.note, bool(drawn["downloads"])))
    if heat:
        lanes.append(sections.heat_block(heat.path))
    data = {
        "span": window.duration_ns / 1e9,
        "margin": [LEFT_MARGIN_PX, RIGHT_MARGIN_PX],
        "figures": shown,
    }
    return _assembled(statistics, "".join(lanes), as_script_json(data))


def _render_imported(material: Material, statistics: Statistics, imported: Imported) -> str:
    """The page of a log: counts over time instead of lanes."""
    frames, window = material.frames, material.window
    width_ns = bar_ns(window, imported.precision_ns)
    drawn = {"counts": counts_figure(counts_over_time(frames, window, width_ns), width_ns, window)}
    heat = hottest_file(frames, window, imported.precision_ns)
    blocks = [sections.counts_block(width_ns, bool(drawn["counts"]))]
    if heat:
        drawn["touches"] = touches_figure(heat, window)
        blocks.append(sections.heat_block(heat.path))
    data = {
        "span": window.duration_ns / 1e9,
        "margin": [LEFT_MARGIN_PX, RIGHT_MARGIN_PX],
        "figures": {name: figure for name, figure in drawn.items() if figure},
        "digits": 0 if imported.precision_ns >= 1_000_000_000 else 6,
    }
    return _assembled(statistics, "".join(blocks), as_script_json(data))


def _groups(material: Material) -> list[LaneGroup]:
    frames, window = material.frames, material.window
    return [
        overview_lanes(frames, material.stall_causes, window),
        thread_lanes(frames, window),
        request_lanes(frames, window),
        daemon_lanes(frames, window),
    ]


def _template(name: str) -> str:
    return (files(__name__.rpartition(".")[0]) / "templates" / name).read_text(encoding="utf-8")


def _plotly_script() -> str:
    text = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def _hash_of(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _assembled(statistics: Statistics, lanes: str, data: str) -> str:
    plotly, script = _plotly_script(), _template("page.js")
    used = {cause for phase in statistics.phases for cause in phase.causes_ns}
    command = " ".join(statistics.command) or "(unknown command)"
    if statistics.imported is not None:
        command = f"{statistics.imported.kind} {statistics.imported.file}"
    return Template(_template("page.html")).substitute(
        title=f"cvmprof: {as_html(command, 80)}",
        command=as_html(command, 400),
        css=_template("page.css"),
        script_hashes=f"{_hash_of(plotly)} {_hash_of(script)}",
        facts=sections.facts(statistics),
        findings=sections.finding_items(findings(statistics)),
        tiles=sections.tiles(statistics),
        causes=sections.causes_section(
            statistics, sections.family_legend(used or set(palette.ORDER))
        ),
        jumps=sections.jumps(statistics),
        lanes=lanes,
        sections=sections.tables(statistics),
        footer=sections.footer(statistics),
        plotly=plotly,
        data=data,
        script=script,
    )
