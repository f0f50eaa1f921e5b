"""What was checked: rows of one table, written as they come, since any step may be cut off."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_MARKS = {True: "ok", False: "NO", None: ""}
_FOUND_COLUMNS = 64


@dataclass(frozen=True)
class Row:
    """One check of a step. ``good``: whether what was found is what was expected; None: a fact."""

    step: str
    check: str
    expected: str
    found: str
    good: bool | None


@dataclass(frozen=True)
class Report:
    """Where a step writes its rows: a file of JSON lines, and standard output."""

    step: str
    file: Path

    def check(self, check: str, expected: object, found: object, *, good: bool) -> None:
        """Something that shall be so."""
        self._add(Row(self.step, check, str(expected), str(found), good))

    def equal(self, check: str, expected: object, found: object) -> None:
        """Two values that shall be the same."""
        self.check(check, expected, found, good=expected == found)

    def fact(self, what: str, found: object) -> None:
        """Something that nobody knew."""
        self._add(Row(self.step, what, "", str(found), None))

    def _add(self, row: Row) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(f"{row.step}: {row.check}: {row.found} {_MARKS[row.good]}".rstrip(), flush=True)


def read_rows(file: Path) -> list[Row]:
    """The rows so far; a line that was cut off is left out."""
    rows = list[Row]()
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            rows.append(Row(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return rows


def table(rows: Iterable[Row]) -> str:
    """The rows as text: step, check, expected, found, ok or NO. Long findings are wrapped."""
    head = ("step", "check", "expected", "found", "")
    lines = [head, *(line for row in rows for line in _wrapped(row))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in line).rstrip() + "\n" for line in padded
    )


def _wrapped(row: Row) -> list[tuple[str, ...]]:
    found = textwrap.wrap(" ".join(row.found.split()), _FOUND_COLUMNS) or [""]
    first = (row.step, row.check, row.expected, found[0], _MARKS[row.good])
    return [first, *(("", "", "", rest, "") for rest in found[1:])]
