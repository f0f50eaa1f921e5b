"""Table `phases`: the parts of the command that its threads named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from operator import attrgetter
from typing import NamedTuple

import polars as pl

from ..run.journal import Line
from ..tables import HORIZON_NS, conform, table
from .host_ids import HostIds

#: of one thread at a time
MOST_OPEN = 16
_NAME_MAX_CHARACTERS = 256
_MOST_ID = (1 << 31) - 1


class _Row(NamedTuple):
    """A row of the table."""

    name: str
    start_ns: int
    end_ns: int | None
    pid: int
    tid: int
    framework: str | None


def phases(
    lines: Iterable[Line], host_ids: HostIds, span: tuple[int, int] = (0, HORIZON_NS)
) -> pl.DataFrame:
    """Pair begins and ends; an end closes the innermost open phase of its name and thread.

    Dropped are an end without a begin, a begin outside ``span`` (the recorded time), and a phase
    that was marked for a framework inside one of its name: the program had named that call itself.
    A phase that a thread left open ends with the thread, and has no end if recording stopped first;
    of those of one name the first is kept, since it covers the others. At any time a thread has at
    most 16 phases that it ended and 16 that it left open, the outermost ones.

    A thread in a pid namespace writes the pid and tid it has there; the table has those of the
    host.
    """
    pairing = _Pairing(host_ids, span)
    for line in lines:
        if _is_mark(line):
            pairing.add(line)
    frame = pl.DataFrame(pairing.rows(), schema=table("phases").schema(), orient="row")
    return conform("phases", frame.sort("start_ns"))


class _Pairing:
    """The phases so far. ``_open`` has those of each thread and name that did not end yet, by their
    number; None for one that is no row.
    """

    def __init__(self, host_ids: HostIds, span: tuple[int, int]) -> None:
        self._host_ids = host_ids
        self._start_ns, self._stop_ns = span
        self._rows: list[_Row] = []
        self._open: dict[tuple[int, int, str], list[int | None]] = {}

    def add(self, mark: Line) -> None:
        """Take the next line."""
        name, time_ns, framework = mark["name"], mark["time_ns"], mark.get("framework")
        lives = self._host_ids.lives(mark["pid"], mark["tid"], time_ns)
        if mark["event"] == "end":
            keys = ((life.pid, life.tid, name) for life in lives)
            self._end(next((key for key in keys if key in self._open), None), time_ns)
            return
        life = lives[0]
        stack = self._open.setdefault((life.pid, life.tid, name), [])
        is_covered = bool(stack) and framework is not None
        if is_covered or not self._start_ns <= time_ns <= self._stop_ns:
            stack.append(None)
            return
        stack.append(len(self._rows))
        end_ns = life.end_ns if life.end_ns < HORIZON_NS else None
        row = _Row(name[:_NAME_MAX_CHARACTERS], time_ns, end_ns, life.pid, life.tid, framework)
        self._rows.append(row)

    def rows(self) -> list[_Row]:
        """All of them, without those that others cover or that are too deep."""
        left = [[number for number in each if number is not None] for each in self._open.values()]
        left_open = {number for numbers in left for number in numbers}
        ended = [row for number, row in enumerate(self._rows) if number not in left_open]
        first = [self._rows[numbers[0]] for numbers in left if numbers]
        return [*_outermost(ended), *_outermost(first)]

    def _end(self, key: tuple[int, int, str] | None, time_ns: int) -> None:
        if key is None:
            return
        stack = self._open[key]
        number = stack[-1]
        if number is not None and time_ns < self._rows[number].start_ns:
            return
        stack.pop()
        if not stack:
            del self._open[key]
        if number is not None:
            end_ns = time_ns if time_ns <= self._stop_ns else None
            self._rows[number] = self._rows[number]._replace(end_ns=end_ns)


def _outermost(rows: list[_Row]) -> Iterator[_Row]:
    """Yield those inside of fewer than 16 others of their thread."""
    ends: dict[int, list[int]] = {}
    for row in sorted(rows, key=attrgetter("start_ns")):
        around = ends.setdefault(row.tid, [])
        while around and around[0] <= row.start_ns:
            heappop(around)
        if len(around) < MOST_OPEN:
            heappush(around, HORIZON_NS if row.end_ns is None else row.end_ns)
            yield row


def _is_mark(line: Line) -> bool:
    ids = (line.get("pid"), line.get("tid"))
    return (
        isinstance(line.get("name"), str)
        and isinstance(line.get("framework"), str | None)
        and line.get("event") in ("begin", "end")
        and _is_number(line.get("time_ns"), HORIZON_NS)
        and all(_is_number(number, _MOST_ID) for number in ids)
    )


def _is_number(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
