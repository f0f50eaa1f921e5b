"""The parts of a page other than tables, as data: facts, tiles, legends, blocks of the timeline."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .. import palette
from ..escape import visible
from ..figures.bars import MAX_PHASES, TimeBar
from ..figures.heat import Heat
from ..figures.lanes import LaneGroup
from ..figures.samples import LINES
from ..figures.waterfall import Waterfall
from ..findings.glance import at_a_glance, ending, lasted
from ..material import WHOLE_COMMAND, Material
from ..numbers.log import Imported
from ..numbers.phases import Phase
from ..numbers.statistics import Statistics
from ..words import capital, moment, plural

#: mounts that the header names
_MOUNTS_NAMED = 3
#: phases that have a button
_PHASES_NAMED = 6
#: blocks that draw what the mounts did for everybody: the table, and the word for a row
_OF_MOUNTS = {
    "requests": ("fuse_requests", "request", "requests"),
    "daemon": ("fetches", "fetch", "fetches"),
    "downloads": ("downloads", "download", "downloads"),
}


@dataclass(frozen=True)
class Fact:
    """A fact in the header; ``tone`` is for the main one and for bad ones."""

    text: str
    tone: Literal["", "main", "bad"] = ""


@dataclass(frozen=True)
class Key:
    """An entry of a legend, of a line or a colour; a cause that did not occur is ``absent``.

    ``title`` is said under the pointer.
    """

    name: str
    colour: str
    meaning: str = ""
    absent: bool = False
    line: bool = False
    title: str = ""


@dataclass(frozen=True)
class Span:
    """A button that shows a part of the run: seconds since its start, as text."""

    name: str
    start: str
    end: str


@dataclass(frozen=True)
class Block:
    """A figure of the timeline: ``name`` is its key in the script's data.

    ``explanation`` says what is drawn; ``note`` for whom, and what was merged or left out.
    """

    name: str
    title: str
    explanation: str
    keys: tuple[Key, ...] = ()
    note: str = ""
    drawn: bool = True


def facts_of_run(s: Statistics) -> list[Fact]:
    """Return the header's line of facts."""
    return [
        *_start(s),
        Fact(lasted(s), "main"),
        _ending(s),
        Fact(f"Linux {visible(s.kernel, 60)}"),
        *_mounts(s),
        Fact(f"{plural(s.lost, 'event')} lost", "bad") if s.lost else Fact("no event lost"),
    ]


def facts_of_log(s: Statistics, imported: Imported) -> list[Fact]:
    """Return the header's line of facts of a log."""
    return [
        *_start(s),
        Fact(f"{s.duration_ns // 1_000_000_000:,} s of log", "main"),
        Fact(f"times are {imported.precision}"),
        *_mounts(s),
        Fact(plural(imported.lines, "line")),
    ]


def _start(s: Statistics) -> list[Fact]:
    return [] if s.started_utc_ns is None else [Fact(moment(s.started_utc_ns))]


def _ending(s: Statistics) -> Fact:
    fine = s.outcome.complete and not s.outcome.signal and not s.outcome.exit_code
    return Fact(ending(s), "" if fine else "bad")


def _mounts(s: Statistics) -> list[Fact]:
    names = (_mount(mount) for mount in s.mounts[:_MOUNTS_NAMED])
    return [Fact(name) for name in names if name]


def _mount(mount: Mapping[str, Any]) -> str:
    name = mount["repository"] or mount["mountpoint"] or mount["device"]
    version = "" if mount["client_version"] is None else f" by cvmfs {mount['client_version']}"
    return visible(f"{name}{version}", 80)


def tiles_of_run(s: Statistics) -> list[tuple[str, str]]:
    """Return the numbers to see at a glance, each with its name."""
    return [
        (capital(f"{each.of}: {each.name}" if each.of else each.name), each.text)
        for each in at_a_glance(s)
    ]


def tiles_of_log(s: Statistics, imported: Imported) -> list[tuple[str, str]]:
    """Return the numbers of a log, each with its name."""
    return [
        *((name, f"{count:,}") for name, count in imported.calls.items()),
        ("Cache hits", f"{imported.lookups_hit:,}"),
        ("Cache misses", f"{imported.lookups_missed:,}"),
        ("Objects downloaded", f"{s.fetches.downloaded:,}"),
    ]


def causes_of(s: Statistics) -> set[str]:
    """Return the causes that any time of the run went to."""
    spent = [s.command_time.causes_ns, s.command_time.thread_causes_ns]
    spent += [phase.causes_ns for phase in s.phases]
    return {cause for causes_ns in spent for cause, ns in causes_ns.items() if ns}


def families(used: Collection[str]) -> list[tuple[str, list[Key]]]:
    """Return all causes by family; those that occur nowhere on the page are marked as absent."""
    return [
        (
            family,
            [
                Key(cause, style.colour, style.meaning, cause not in used)
                for cause, style in palette.STYLES.items()
                if style.family == family
            ],
        )
        for family in palette.FAMILIES
    ]


def said_of_bars(bars: Sequence[TimeBar], phases: Sequence[Phase]) -> str:
    """Return what the bars are."""
    said = [
        "The first bar is the command’s wall time, with one cause at each instant: what kept the "
        "command from going on. A thread that runs comes before those that wait, and of these the "
        "one that waits in the deepest layer.",
        "The second is the time of all its threads together, drawn as long."
        if any(bar.shown_ns for bar in bars)
        else "",
        "While a phase’s thread sleeps until another one wakes it, the time counts as what that "
        "other thread was doing."
        if any(phase.name != WHOLE_COMMAND for phase in phases)
        else "",
        f"Of the phases the {MAX_PHASES} longest have a bar." if len(phases) > MAX_PHASES else "",
    ]
    return " ".join(filter(None, said))


def spans(s: Statistics) -> list[Span]:
    """Return the buttons that show the whole run, each phase and the longest stall."""

    def span(name: str, start_ns: int, end_ns: int) -> Span:
        edges = ((edge - s.start_ns) / 1e9 for edge in (start_ns, end_ns))
        return Span(name, *(f"{edge:.9f}" for edge in edges))

    marked = (phase for phase in s.phases if phase.name != WHOLE_COMMAND)
    single = [phase for phase in marked if phase.times == 1][:_PHASES_NAMED]
    return [
        span("Whole run", s.start_ns, s.start_ns + s.duration_ns),
        *(span(each.name, each.start_ns, each.start_ns + each.duration_ns) for each in single),
        *(span("Longest stall", each.start_ns, each.end_ns) for each in s.stalls.longest[:1]),
    ]


def lane_block(group: LaneGroup, drawn: bool) -> Block:
    """Return the block of a group of lanes. Its legend has the colours that occur in it."""
    keys = _overview_keys(group) if group.name == "overview" else _keys_of(drawn_in(group))
    return Block(group.name, group.title, group.explanation, keys, group.note, drawn)


def with_scope(block: Block, material: Material) -> Block:
    """Say how much of what a block draws is the command's own, where not all is."""
    if block.name not in _OF_MOUNTS:
        return block
    table, one, many = _OF_MOUNTS[block.name]
    number, own = material.frames[table].height, material.own[table].height
    if own == number:
        return block
    scope = f"Of {plural(number, one, many)} of everybody, {own:,} for the command."
    return replace(block, note=f"{scope} {block.note}".strip())


def _keys_of(names: Collection[str]) -> tuple[Key, ...]:
    """The legend of causes, and of what failed."""
    causes = tuple(
        Key(name, style.colour, title=style.meaning)
        for name, style in palette.STYLES.items()
        if name in names
    )
    failed = Key("failed", palette.FAILED_COLOUR, title="the read or the fetch failed")
    return (*causes, failed) if "failed" in names else causes


def _overview_keys(group: LaneGroup) -> tuple[Key, ...]:
    """Stalls and what devices did; the phases are named in their lane."""
    drawn = drawn_in(group)
    colours = {line.colour for lane in group.lanes for line in lane.lines}
    lines = {LINES[name]: colour for name, colour in palette.SAMPLE_COLOURS.items()}
    return (
        *(Key(name, colour) for name, colour in group.palette
          if name in drawn and name != "sample" and not name.startswith("phase ")),
        *(Key(name, colour, line=True) for name, colour in lines.items() if colour in colours),
    )  # fmt: skip


def drawn_in(group: LaneGroup) -> set[str]:
    """Return the entries of a group's palette that occur in it."""
    codes: set[int] = set()
    for lane in group.lanes:
        codes.update(lane.bricks["code"].unique().to_list())
    return {group.palette[code][0] for code in codes}


def counts_block(width_ns: int, drawn: bool) -> Block:
    """Return the block of what a log counts over time."""
    text = (
        f"Lines per {width_ns / 1e9:g} s, each kind to its own scale. Within that time only their "
        "order is known."
    )
    return Block("counts", "What the log says, over time", text, drawn=drawn)


def waterfall_block(downloads: Waterfall, drawn: bool) -> Block:
    """Return the block of the downloads."""
    text = (
        "Requests to the server and their parts, as many rows as were in progress."
        if downloads.lanes
        else "One row per request to the server, in the order begun."
    )
    keys = _keys_of(downloads.causes)
    return Block("downloads", "Downloads", text, keys, downloads.note, drawn)


def incident_block() -> Block:
    """Return the block of the incidents."""
    text = "What happened to the mounts and their daemons. Each is also a line through every lane."
    return Block("marks", "Incidents", text)


def heat_block(heat: Heat) -> Block:
    """Return the block of the heat map."""
    most = f", the most touched of {heat.files:,} files above 1 MiB" if heat.files > 1 else ""
    text = f"{visible(heat.path, 90)}{most}: the offset runs downwards, darker is more."
    return Block("touches", "Where the file was touched", text)
