"""The summary for a terminal: the page's findings and numbers in text.

Plain text unless colours are asked for, and never wider than asked. Foreign text passes through
``visible``, so no path or argument can send control sequences to the terminal.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..escape import visible
from ..findings import chain
from ..findings.finding import Finding
from ..findings.glance import ending, lasted
from ..findings.rules import findings, parts
from ..material import WHOLE_COMMAND
from ..numbers.devices import least_known
from ..numbers.log import Imported
from ..numbers.statistics import Statistics
from ..words import moment
from .bars import command_bars, phase_bars
from .tables import (
    causes_table,
    chunks_table,
    devices_table,
    log_table,
    lost_table,
    numbers_table,
    stall_lines,
)

_TONES = {
    "warning": "bold red", "main": "bold", "good": "bold green", "advice": "", "note": "",
}  # fmt: skip
#: version of the JSON: its changes stand in docs/summary.md
JSON_VERSION = 2


def summary_json(statistics: Statistics) -> str:
    """Return the statistics and findings as JSON; times are ``_ns``, sizes ``_bytes``."""
    plain = [dataclasses.asdict(finding) for finding in findings(statistics)]
    document = {"schema_version": JSON_VERSION, "findings": plain, **statistics.as_json()}
    return json.dumps(document, indent=2, ensure_ascii=True)


def render_summary(statistics: Statistics, width: int = 80, colour: bool = False) -> str:
    """Return the summary of a run as text of at most ``width`` columns."""
    if statistics.imported is not None:
        shown = _parts_of_log(statistics, statistics.imported)
    else:
        shown = _parts_of_run(statistics, width)
    return _printed(Group(*shown), width, colour)


def _parts_of_run(s: Statistics, width: int) -> list[RenderableType]:
    first, then = parts(s)
    shown: list[RenderableType] = [
        _head(_command(s, width) or "(unknown command)",
              f"{lasted(s)}, {ending(s)}"),
        Text(), *map(_finding, first),
        Text(), command_bars(s.command_time, width),
        Text(), *map(_finding, then),
    ]  # fmt: skip
    for phase in s.phases:
        if phase.name != WHOLE_COMMAND:
            shown += [Text(), phase_bars(phase, width)]
    shown += _devices(s)
    shown += [Text(), numbers_table([("", s)])]
    if s.slowest_chunks:
        shown += [Text(), Text("Slowest chunks", style="bold"), chunks_table(s)]
    return shown


def _devices(s: Statistics) -> list[RenderableType]:
    if not s.devices:
        return []
    shown: list[RenderableType] = [Text(), devices_table(s)]
    if any(phase.stalled_ns for phase in s.phases):
        title = f"{chain.LOST[least_known(s.devices)]}, share of each phase"
        shown += [Text(), Text(title, style="bold"), lost_table(s)]
    lines = stall_lines(s)
    if lines:
        shown += [Text(), Text("Longest stalls for chunks", style="bold")]
        shown += [Padding(line, (0, 0, 0, 2)) for line in lines]
    return shown


def _parts_of_log(s: Statistics, imported: Imported) -> list[RenderableType]:
    start = "" if s.started_utc_ns is None else f"{moment(s.started_utc_ns)}, "
    name = f"{imported.kind} {visible(imported.file)}"
    head = _head(name, f"{start}{s.duration_ns // 1_000_000_000:,} s of log")
    return [head, Text(), *map(_finding, findings(s)), Text(), log_table(s, imported)]


def render_side_by_side(
    runs: Sequence[tuple[str, Statistics]], width: int = 80, colour: bool = False
) -> str:
    """Return runs side by side, each under its name: numbers, causes, main findings."""
    shown: list[RenderableType] = [numbers_table(runs), Text(), causes_table(runs)]
    for name, statistics in runs:
        shown += [Text(), Text(visible(name), style="bold")]
        shown += [Padding(_finding(item), (0, 0, 0, 2)) for item in findings(statistics)[:4]]
    return _printed(Group(*shown), width, colour)


def _printed(what: RenderableType, width: int, colour: bool) -> str:
    sink = io.StringIO()
    console = Console(
        file=sink,
        width=width,
        force_terminal=colour,
        no_color=not colour,
        color_system="256" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(what)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines()) + "\n"


def _command(s: Statistics, width: int) -> str:
    """Return the command on one line, its program without directories."""
    program, *arguments = s.command or ("",)
    return visible(" ".join([program.rpartition("/")[2], *arguments]), width)


def _head(name: str, line: str) -> Text:
    return Text.assemble((name, "bold"), f"\n{line}")


def _finding(item: Finding) -> RenderableType:
    style = _TONES[item.tone]
    grid = Table.grid(padding=(0, 1))
    body = Text(visible(item.headline), style=style)
    if item.meaning:
        body.append("\n" + visible(item.meaning, 600), style="dim" if style == "" else "not bold")
    grid.add_row(Text(_mark(item), style=style), body)
    return grid


def _mark(item: Finding) -> str:
    """An arrow marks what held the command up, a warning has its own mark."""
    if item.tone == "warning":
        return "!"
    return "→" if item.held_ns else "•"
