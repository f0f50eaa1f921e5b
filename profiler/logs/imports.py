"""Make a run from what sites already have: a client's debug log, or its trace file.

A log holds less than a recording: what it lacks is null in the tables, process and thread are 0,
and ``imported`` in meta.json says what the run was made from and how precise its times are.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import polars as pl

from ...errors import CvmprofError
from ..run.directory import SPOOL_DIRECTORY, create_run, discard_run
from ..run.opened import Run
from ..run.writing import write_run
from ..tables import Part, conform
from . import debug_log, trace_file
from .client_log import ClientLog
from .log_blocks import first_block

_GZIP = b"\x1f\x8b"
_UTC = ("UTC", "GMT", "Z")


def import_log(path: Path, run: Path, version: str, timezone: str | None = None) -> Run:
    """Make a run directory from a log and return it.

    ``timezone``: the IANA name of the time zone of a debug log, needed where that is not UTC.
    Raises CvmprofError where the file is neither kind of log, or the run cannot be created.
    """
    beginning = _beginning(path)
    with path.open("rb") as file:
        log, start_utc_ns = _recognised(path, beginning, file, timezone)
        made = create_run(run)
        try:
            (made / SPOOL_DIRECTORY).rmdir()
            meta = partial(_meta, log, path, version, start_utc_ns)
            return write_run(made, _with_losses(log), meta)
        except BaseException:
            discard_run(made)
            raise


def _beginning(path: Path) -> bytes:
    try:
        return first_block(path)
    except OSError as error:
        fact = f"cannot read {path}: {error.strerror}"
        help_text = "give the file that CVMFS_DEBUGLOG or CVMFS_TRACEFILE names"
        raise CvmprofError(fact, help_text) from error


def _recognised(
    path: Path, beginning: bytes, file: IO[bytes], timezone: str | None
) -> tuple[ClientLog, int]:
    """Return the log, by the format of its beginning, and the UTC time that is the run's zero."""
    if beginning.startswith(_GZIP):
        raise CvmprofError(f"{path} is compressed", f"unpack it first: gunzip -k {path}")
    if trace_file.LINE.match(beginning):
        start_ns = _second_of(trace_file.first_time_ns(beginning))
        return trace_file.TraceFile(file, start_ns), start_ns
    line = debug_log.LINE.search(beginning)
    if line is None or not beginning.lstrip().startswith(b"("):
        raise CvmprofError(
            f"{path} is neither a debug log nor a trace file of a CVMFS client",
            "give the whole file that CVMFS_DEBUGLOG or CVMFS_TRACEFILE names, not a later part",
        )
    zone = _zone(path, line["zone"].decode(), timezone)
    times = debug_log.local_ns(pl.Series([line["time"].decode()]), zone)
    start_ns = _second_of(times[0])
    return debug_log.DebugLog(file, start_ns, zone), start_ns


def _zone(path: Path, written: str, timezone: str | None) -> str:
    """Return the zone of a log's times. Abbreviations are not guessed: CST stands for several."""
    if timezone is None and written in _UTC:
        return "UTC"
    if timezone is None:
        fact = f"the times of {path} are in {written}, a name of more than one time zone"
        raise CvmprofError(fact, "give its IANA name, as in --timezone Europe/Zurich")
    try:
        zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CvmprofError(
            f"no time zone is called {timezone}",
            "give its IANA name, as in --timezone Europe/Zurich",
        ) from error
    return timezone


def _second_of(time_ns: int | None) -> int:
    """The full second at or before a time: the zero of the run's times."""
    return (time_ns or 0) // 1_000_000_000 * 1_000_000_000


def _with_losses(log: ClientLog) -> Iterator[Part]:
    yield from log.tables()
    yield "losses", _losses(log)


def _losses(log: ClientLog) -> pl.DataFrame:
    counts = {
        "a line of unknown format": log.bad_lines,
        "a wait for an object that the log does not name": log.unnamed_waits,
    }
    rows = [
        {"probe": log.kind, "cause": cause, "count": count}
        for cause, count in counts.items()
        if count
    ]
    schema = {"probe": pl.String, "cause": pl.String, "count": pl.Int64}
    return conform("losses", pl.DataFrame(rows, schema=schema, orient="row"))


def _meta(log: ClientLog, path: Path, version: str, start_utc_ns: int) -> dict[str, object]:
    return {
        "complete": True,
        "start_ns": 0,
        "stop_ns": log.end_ns + log.precision_ns,
        "exit_status": None,
        "version": version,
        "utc_offset_ns": start_utc_ns,
        "imported": {
            "kind": log.kind,
            "file": path.name,
            "precision_ns": log.precision_ns,
            "lines": log.lines,
            "bad_lines": log.bad_lines,
        },
    }
