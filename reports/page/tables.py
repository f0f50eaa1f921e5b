"""The tables below the timeline, as data: sections, columns, rows and cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from .. import palette, words
from ..escape import visible
from ..findings import chain
from ..numbers.devices import least_known
from ..numbers.fetching import SLOWEST_CHUNKS, Chunk
from ..numbers.log import Imported
from ..numbers.phases import Phase
from ..numbers.stalls import Stall
from ..numbers.statistics import Statistics
from ..words import duration, percent, plural, size

#: stalls that have a row, and causes that are named
_STALLS, _CAUSES = 15, 4
#: characters of a path that a cell shows, and of an object's hash
_PATH, _HASH = 56, 16

#: how a column is set: as a number, a path or text that may break, a file's name, a hash, bars, a
#: chain
Kind = Literal["", "n", "path", "text", "file", "hash", "bars", "chain"]
Columns = tuple[tuple[str, Kind], ...]

_CHUNKS: Columns = (
    ("Fetch", "n"), ("At", "n"), ("Took", "n"), ("", "bars"), ("First byte", "n"),
    ("Transfer", "n"), ("Size", "n"), ("On the wire", "n"), ("Offset", "n"), ("File", "file"),
    ("Object", "hash"), ("", ""),
)  # fmt: skip
_FETCHED: Columns = (
    ("Fetch", "n"), ("At", "n"), ("File", "file"), ("Object", "hash"), ("Kind", ""), ("Ended", ""),
    ("Host", ""), ("Proxy", ""), ("Status", ""),
)  # fmt: skip
_STALL: Columns = (
    ("Stall", "n"), ("Device", ""), ("At", "n"), ("Lasted", "n"), ("", "bars"), ("Causes", "path"),
    ("The longest wait in it, from the thread to the chunk", "chain"), ("Meanwhile", ""),
)  # fmt: skip
_LOST: Columns = (
    ("Phase", ""), ("Time × devices", "n"), ("In stalls", "n"), ("", "bars"), ("For", "path"),
)  # fmt: skip
_MOUNTS: Columns = (
    ("Mount point", "path"), ("Repository", ""), ("Revision", ""), ("Client", ""), ("Daemon", "n"),
    ("Cache", "path"), ("Seen of the cache", "text"),
    ("Compared with the client’s counters", "text"),
)  # fmt: skip
_PROBES: Columns = (
    ("Event", ""), ("Observed by", ""), ("At", "path"), ("Hits", "n"), ("Remark", ""),
)  # fmt: skip
_INCIDENTS: Columns = (("At", "n"), ("What", ""), ("Process", "n"), ("Detail", "path"))
_LOSSES: Columns = (("Probe", ""), ("Why", ""), ("Events", "n"))

_QUANTITIES = {
    "objects": "objects downloaded", "body_bytes": "bytes received",
    "chunks": "chunks as listed",
}  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """A part of a bar: its share of it in per cent, and its colour."""

    percent: str
    colour: str


@dataclass(frozen=True)
class Cell:
    """A cell: text, ``title`` under the pointer; what a click on it ``follows`` in the timeline;
    or bars, which together are ``percent`` of the cell wide.
    """

    text: str = ""
    title: str = ""
    follows: str = ""
    bars: tuple[Bar, ...] = ()
    percent: str = ""


@dataclass(frozen=True)
class Row:
    """A row; ``anchor`` is its id in the page."""

    cells: tuple[Cell, ...]
    anchor: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the columns' kinds hold for their cells."""

    columns: Columns
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Section:
    """A heading and a table; ``anchor`` is the section's id in the page."""

    anchor: str
    title: str
    table: Table


@dataclass(frozen=True)
class Observed:
    """How a run was observed: a summary, the probes with a remark, and all of them."""

    summary: str
    remarked: Table
    all: Table


def sections_of_run(s: Statistics, fetched: pl.DataFrame) -> list[Section]:
    """Return the tables of a run that have any row. ``fetched``: see `parts.fetch_parts`."""
    source = least_known(s.devices)
    made = (
        Section("lost", f"{chain.LOST[source]}, by phase", _lost(s)),
        Section("stalls", _longest(s, chain.GAPS[source]), _stalls(s)),
        Section("chunks", _slowest(s), _chunks(s, fetched)),
        Section("incidents", "Incidents", _incidents(s)),
        Section("mounts", "Mounts", _mounts(s)),
    )
    return [section for section in made if section.table.rows]


def sections_of_log(s: Statistics, imported: Imported) -> list[Section]:
    """Return the tables of a log that have any row."""
    made = (
        Section("chunks", "What was fetched, in order", _fetched(s, imported)),
        Section("incidents", "Incidents", _incidents(s)),
    )
    return [section for section in made if section.table.rows]


def losses(s: Statistics) -> Table:
    """Return what was lost."""
    return _table(
        _LOSSES,
        ((str(loss["probe"]), str(loss["cause"]), f"{loss['count']:,}") for loss in s.losses),
    )


def observed(s: Statistics) -> Observed:
    """Return how the run was observed."""
    families = Counter(visible(str(probe["family"])) for probe in s.probes)
    counted = ", ".join(f"{count} by {family}" for family, count in families.most_common())
    return Observed(
        f"{plural(len(s.probes), 'attach point')}: {counted}.",
        _probes(probe for probe in s.probes if probe["reason"]),
        _probes(s.probes),
    )


def _table(columns: Columns, rows: Iterable[Iterable[str | Cell]]) -> Table:
    return Table(columns, tuple(Row(tuple(_cells(row))) for row in rows))


def _cells(row: Iterable[str | Cell]) -> Iterator[Cell]:
    for each in row:
        yield each if isinstance(each, Cell) else Cell(each)


def _chunks(s: Statistics, fetched: pl.DataFrame) -> Table:
    longest_ns = max((chunk.duration_ns for chunk in s.slowest_chunks), default=0)
    spent = _spent_in(fetched, [chunk.fetch_id for chunk in s.slowest_chunks])
    return Table(
        _CHUNKS,
        tuple(
            _chunk_row(chunk, s, (spent.get(chunk.fetch_id, {}), longest_ns))
            for chunk in s.slowest_chunks
        ),
    )


def _slowest(s: Statistics) -> str:
    """The heading of the slowest chunks: of how many, where they may not be all."""
    shown, all_of_them = len(s.slowest_chunks), s.fetches.chunks_downloaded
    if shown < SLOWEST_CHUNKS:
        return "The slowest chunks"
    return f"The {shown} slowest chunks or files; {all_of_them:,} were downloaded"


def _spent_in(fetched: pl.DataFrame, fetches: list[int]) -> dict[int, dict[str, int]]:
    """The time of each of these fetches by cause."""
    sums = (
        fetched.filter(pl.col("fetch_id").is_in(fetches))
        .group_by("fetch_id", pl.col("cause").cast(pl.String))
        .agg((pl.col("end_ns") - pl.col("start_ns")).sum())
    )
    spent: dict[int, dict[str, int]] = {}
    for fetch_id, cause, ns in sums.iter_rows():
        spent.setdefault(fetch_id, {})[cause] = ns
    return spent


def _chunk_row(chunk: Chunk, s: Statistics, drawn: tuple[dict[str, int], int]) -> Row:
    """A chunk's row; ``drawn``: its time by cause, and the time that a whole bar stands for."""
    causes_ns, longest_ns = drawn
    offset = "" if chunk.offset_bytes is None else f"{chunk.offset_bytes / (1 << 20):,.1f} MiB"
    cells: tuple[str | Cell, ...] = (
        _button("fetch", chunk.fetch_id),
        duration(chunk.start_ns - s.start_ns),
        duration(chunk.duration_ns),
        _cause_bars(causes_ns, chunk.duration_ns / max(longest_ns, 1)),
        *(duration(causes_ns[name]) if name in causes_ns else ""
          for name in ("first_byte", "transfer")),
        "" if chunk.size_bytes is None else size(chunk.size_bytes),
        "" if chunk.wire_bytes is None else size(chunk.wire_bytes),
        offset,
        _file(chunk.path),
        _hash(chunk.object_hash),
        chunk.outcome or "never ended",
    )  # fmt: skip
    return Row(tuple(_cells(cells)), f"fetch-{chunk.fetch_id}")


def _button(what: str, number: int) -> Cell:
    return Cell(str(number), follows=what)


def _file(path: str | None) -> Cell:
    return Cell("no file known") if path is None else Cell(visible(path, _PATH), path)


def _hash(object_hash: str) -> Cell:
    return Cell(f"{visible(object_hash[:_HASH])}…", object_hash)


def _fetched(s: Statistics, imported: Imported) -> Table:
    return _table(_FETCHED, (_fetched_row(row, s) for row in imported.fetched))


def _fetched_row(row: Mapping[str, Any], s: Statistics) -> tuple[str | Cell, ...]:
    return (
        str(row["fetch_id"]),
        f"{(row['start_ns'] - s.start_ns) // 1_000_000_000:,} s",
        _file(row["path"]),
        _hash(str(row["object_hash"])),
        str(row["object_kind"] or ""),
        str(row["outcome"] or "no end in the log"),
        str(row["host"] or ""),
        str(row["proxy"] or ""),
        _text(row["status"]),
    )


def _lost(s: Statistics) -> Table:
    used = [phase for phase in s.phases if phase.device_ns]
    return _table(_LOST, map(_lost_row, used if s.stalls.count else ()))


def _lost_row(phase: Phase) -> tuple[str | Cell, ...]:
    lost_ns = sum(phase.stalled_ns.values())
    share = lost_ns / phase.device_ns
    return (
        phase.title,
        duration(phase.device_ns),
        f"{duration(lost_ns)}, {percent(share)}",
        _cause_bars(phase.stalled_ns, share),
        words.of_total(phase.stalled_ns, phase.device_ns, _CAUSES),
    )


def _cause_bars(causes_ns: Mapping[str, int], share: float) -> Cell:
    """Causes as bars in their colours, together this share of the cell's width."""
    total = max(sum(causes_ns.values()), 1)
    return Cell(
        title=words.shared(causes_ns, _CAUSES),
        bars=tuple(
            Bar(f"{100 * causes_ns[cause] / total:.2f}", palette.STYLES[cause].colour)
            for cause in palette.ORDER
            if causes_ns.get(cause)
        ),
        percent=f"{100 * share:.1f}",
    )


def _longest(s: Statistics, gaps: str) -> str:
    """The heading of the longest stalls: of how many, where they are not all."""
    shown = min(len(s.stalls.longest), _STALLS)
    if shown == s.stalls.count:
        return f"The longest {gaps}"
    return f"The {shown} longest {gaps}, of {s.stalls.count:,}"


def _stalls(s: Statistics) -> Table:
    names = {device.device: device.name for device in s.devices}
    longest_ns = max((stall.duration_ns for stall in s.stalls.longest), default=0)
    return _table(
        _STALL,
        (_stall_row(stall, s, names, longest_ns) for stall in s.stalls.longest[:_STALLS]),
    )


def _stall_row(
    stall: Stall, s: Statistics, names: Mapping[str, str], longest_ns: int
) -> tuple[str | Cell, ...]:
    worst = stall.worst_chunk or next(iter(stall.links), None)
    return (
        _button("stall", stall.stall_id),
        names.get(stall.device, stall.device),
        duration(stall.start_ns - s.start_ns),
        duration(stall.duration_ns),
        _cause_bars(stall.causes_ns, stall.duration_ns / max(longest_ns, 1)),
        words.shared(stall.causes_ns, _CAUSES),
        "" if worst is None else f"{duration(worst.ns)}: {chain.steps(worst)}",
        _meanwhile(stall),
    )


def _meanwhile(stall: Stall) -> str:
    """What the device copied during a stall."""
    parts = ((stall.copying_in_ns, "in"), (stall.copying_out_ns, "out"))
    return ", ".join(f"copied {way} {duration(ns)}" for ns, way in parts if ns)


def _mounts(s: Statistics) -> Table:
    served = [mount for mount in s.mounts if mount["daemon_pid"] is not None]
    return _table(_MOUNTS, (_mount_row(mount, s) for mount in served))


def _mount_row(mount: Mapping[str, Any], s: Statistics) -> tuple[str, ...]:
    revisions = dict.fromkeys((mount["revision_at_start"], mount["revision"]))
    compared = [row for row in s.reconciliation if row["mount_id"] == mount["mount_id"]]
    return (
        mount["mountpoint"] or "",
        mount["repository"] or "",
        ", then ".join(str(revision) for revision in revisions if revision is not None),
        mount["client_version"] or "",
        str(mount["daemon_pid"]),
        " in ".join(filter(None, (mount["cache_manager"], mount["cache_path"]))),
        words.cache_shown(mount["cache_manager"]),
        "; ".join(map(_comparison, compared)) or "not known",
    )


def _comparison(row: Mapping[str, Any]) -> str:
    """A row of `reconciliation` in words."""
    name, difference = _QUANTITIES[str(row["quantity"])], row["difference"]
    if difference is None:
        return f"{name}: {row['remark'] or 'not known'}"
    result = "no difference" if difference == 0 else f"{difference:+,} against {row['counted']:,}"
    remark = f" ({row['remark']})" if row["remark"] else ""
    return f"{name}: {row['recorded']:,}, {result}{remark}"


def _probes(probes: Iterable[Mapping[str, Any]]) -> Table:
    return _table(
        _PROBES,
        (
            (
                str(probe["event"]),
                str(probe["family"]),
                str(probe["target"]),
                f"{probe['hits']:,}",
                str(probe["reason"] or ""),
            )
            for probe in probes
        ),
    )


def _incidents(s: Statistics) -> Table:
    return _table(
        _INCIDENTS,
        (
            (
                duration(incident["time_ns"] - s.start_ns),
                str(incident["kind"]),
                _text(incident["pid"]),
                str(incident["detail"]),
            )
            for incident in s.incidents
        ),
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)
