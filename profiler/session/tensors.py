"""Name the tensors of the model files that the command used, after everything else is recorded."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import polars as pl

from ..model.reader import has_model_name
from ..run.directory import SPOOL_DIRECTORY, TENSORS
from .helper import UNANSWERED, Answer, Note, Request, answers

READER = ("-m", "cvmprof.profiler.model.reader")
MAX_FILES = 2_000
MAX_TENSORS = 100_000
MAX_REMARKS = 20
TOTAL_TIMEOUT_S = 20.0
#: a smaller file with no name of a model is not opened
_SMALLEST_BYTES = 1 << 20
#: helpers that may be lost before the rest is given up: files may lie on several mounts
_HELPERS = 3
# where a FIFO stands, opening it fails instead of waiting for a reader
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class _Reading:
    """What has been read so far: a line for each file that holds tensors goes to ``file``."""

    file: IO[str]
    deadline_s: float
    tensors: int = 0
    remarks: list[str] = field(default_factory=list[str])

    @property
    def is_over(self) -> bool:
        """Whether the time or the number of tensors is used up."""
        return self.tensors >= MAX_TENSORS or time.monotonic() > self.deadline_s


def collect_tensors(run: Path, places: pl.DataFrame, silent: list[str], note: Note) -> None:
    """Write the tensors of model files to the spool, and what was wrong to the journal.

    ``places``: see `file_places`; ``silent``: mount points whose files are left alone. Files are
    read that have the name of a model, or are large and begin like one: at most `MAX_FILES`,
    `MAX_TENSORS`, and for `TOTAL_TIMEOUT_S`.
    """
    is_silent = pl.col("mountpoint").is_in(silent).fill_null(value=False)
    paths, unread = _candidates(places.filter(~is_silent)), _candidates(places.filter(is_silent))
    target = run / SPOOL_DIRECTORY / TENSORS
    with os.fdopen(os.open(target, _NEW_FILE, 0o600), "w", encoding="utf-8") as file:
        reading = _Reading(file, time.monotonic() + TOTAL_TIMEOUT_S)
        if len(paths) > MAX_FILES:
            reading.remarks.append(f"only {MAX_FILES:,} of {len(paths):,} files were looked at")
        if unread:
            reading.remarks.append(f"{len(unread):,} files were not read: their mount is silent")
        _read(reading, paths[:MAX_FILES], note)
    _note_remarks(reading.remarks, note)


def _candidates(places: pl.DataFrame) -> list[str]:
    """Paths of possible models, those with the name of one first."""
    files = places.filter(~pl.col("is_superblock")).drop_nulls("path")
    last = files.group_by("path", maintain_order=True).agg(pl.col("size_bytes").max())
    named = [path for path in last["path"] if has_model_name(path)]
    large = last.filter(pl.col("size_bytes") >= _SMALLEST_BYTES)["path"]
    return list(dict.fromkeys([*named, *large]))


def _read(reading: _Reading, paths: list[str], note: Note) -> None:
    """Ask one helper, and others for what is left after one that did not answer."""
    rest = paths
    for _ in range(_HELPERS):
        if rest and not reading.is_over:
            rest = rest[_read_by_helper(reading, rest, note) :]
    if rest:
        why = "enough were read" if reading.is_over else f"{_HELPERS} helpers did not answer"
        reading.remarks.append(f"{len(rest):,} files were not looked at: {why}")


def _read_by_helper(reading: _Reading, paths: list[str], note: Note) -> int:
    """Return how many of the files were dealt with: up to one that brought no answer."""
    requests: list[Request] = [{"path": path, "limit": MAX_TENSORS} for path in paths]
    for number, answer in enumerate(answers(READER, requests, note), start=1):
        if answer.get("reason") == UNANSWERED:
            reading.remarks.append(f"{answer['path']}: {UNANSWERED}")
            return number
        _keep(reading, answer)
        if reading.is_over:
            return number
    return len(paths)


def _keep(reading: _Reading, answer: Answer) -> None:
    path = answer["path"]
    reading.remarks += [f"{path}: {remark}" for remark in answer["remarks"]]
    for holder in answer["files"]:
        room = MAX_TENSORS - reading.tensors
        if len(holder["tensors"]) > room:
            reading.remarks.append(
                f"{path}: only the first {MAX_TENSORS:,} tensors of the run are kept"
            )
        kept = {**holder, "tensors": holder["tensors"][:room]}
        reading.tensors += len(kept["tensors"])
        reading.file.write(json.dumps(kept) + "\n")


def _note_remarks(remarks: list[str], note: Note) -> None:
    more = len(remarks) - MAX_REMARKS
    further = [f"{more:,} more remarks on tensors are left out"] if more > 0 else []
    for detail in [*remarks[:MAX_REMARKS], *further]:
        note("incident", incident="unnamed", detail=detail)
