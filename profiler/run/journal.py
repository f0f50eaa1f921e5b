"""The journal of a run: JSON lines that the recorder appends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from ...errors import BadRun
from .directory import SCHEMA_VERSION
from .journal_shapes import fault

Line = dict[str, Any]
DAMAGED_HELP = "the run is damaged: copy it once more from its original, or record it again"


@dataclass(frozen=True)
class Journal:
    """The lines that could be read, in order. ``start`` is the first line of that kind."""

    lines: tuple[Line, ...]

    def of(self, kind: str) -> list[Line]:
        """The lines of one kind."""
        return [line for line in self.lines if line.get("kind") == kind]

    def rows(self, kind: str) -> list[Line]:
        """The ``rows`` of all lines of one kind, joined."""
        rows: list[Line] = []
        for line in self.of(kind):
            rows += line.get("rows") or []
        return rows

    @property
    def start(self) -> Line:
        """The line at the start of the run; empty where it was lost."""
        starts = self.of("start")
        return starts[0] if starts else {}

    @property
    def start_ns(self) -> int:
        """When recording began; 0 where the line was lost."""
        return int(self.start.get("time_ns", 0))

    @property
    def stop_ns(self) -> int | None:
        """When recording stopped; None where it was cut off."""
        stops = self.of("stop")
        return int(stops[-1]["time_ns"]) if stops else None

    @property
    def is_complete(self) -> bool:
        """Whether the command's end is recorded, and the recorder stopped as asked and kept all."""
        stops = self.of("stop")
        ended = self.exit_status is not None
        return bool(ended and stops and stops[-1].get("complete", True))

    @property
    def child_pid(self) -> int | None:
        """The process of the traced command."""
        return next((int(line["pid"]) for line in self.of("child")), None)

    @property
    def exit_status(self) -> int | None:
        """The command's wait status."""
        exits = self.of("exit")
        return int(exits[-1]["status"]) if exits else None


def parse_journal(data: bytes) -> Journal:
    """Read the journal. A torn line is skipped: a crash may leave the last one so.

    Raises BadRun where the run was written by a newer cvmprof, or a line is not as any cvmprof
    writes it.
    """
    journal = Journal(tuple(_lines(data)))
    refuse_newer(journal.start.get("schema_version", SCHEMA_VERSION))
    found = next(filter(None, map(fault, journal.lines)), None)
    if found is not None:
        raise BadRun(f"the run's journal is damaged: {found}", DAMAGED_HELP)
    return journal


def refuse_newer(version: object) -> None:
    """Raise BadRun unless ``version`` is a schema version that this cvmprof reads."""
    if not isinstance(version, int) or version < 1:
        raise BadRun(
            f"the run has {version!r} as its schema version",
            "it is not a run of cvmprof, or it is damaged",
        )
    if version > SCHEMA_VERSION:
        raise BadRun(
            f"the run has schema version {version}, this cvmprof reads up to {SCHEMA_VERSION}",
            "open it with the cvmprof that recorded it, or update this one",
        )


def json_lines(data: bytes) -> Iterator[Line]:
    """Yield the JSON objects of a file of lines; torn lines and other values are skipped."""
    for raw in BytesIO(data):
        try:
            line = json.loads(raw.decode(errors="replace"))
            if b"\\u" in raw:
                line = _in_unicode(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            yield line


def _lines(data: bytes) -> Iterator[Line]:
    return (line for line in json_lines(data) if isinstance(line.get("kind"), str))


def _in_unicode(value: Any) -> Any:
    """The same with lone surrogates shown as escapes: JSON may hold them, text may not."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case {**pairs}:
            return {_in_unicode(key): _in_unicode(each) for key, each in pairs.items()}
        case [*values]:
            return [_in_unicode(each) for each in values]
        case _:
            return value
