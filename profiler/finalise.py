"""The end of a recording: spool to tables, all or nothing.

Every file is written under a temporary name, with O_EXCL and O_NOFOLLOW below directories that are
held open and are no links, and renamed when whole. meta.json comes last: a run that has it is
whole. The spool goes only after that.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import polars as pl

from ..errors import BadRun, CvmprofError
from .join import joined_tables
from .kernel.scope import ScopedSpool, scoped
from .run.directory import JOURNAL, META, SCHEMA_VERSION, SPOOL_DIRECTORY, TABLES_DIRECTORY
from .run.journal import Journal
from .run.opened import FORMAT, Run, open_run, refuse_non_directory
from .run.spool import Spool
from .session.attributes import collect
from .tables import TABLES, Part, empty

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FROM_START = ("version", "command", "utc_offset_ns", "kernel", "machine", "cpus", "uid", "backend",
               "options")  # fmt: skip


def finalise(run_dir: str | Path, *, keep_spool: bool = False) -> Run:
    """Join a recorded run's spool into its tables and return the run.

    A run without a stop line is finalised too and marked incomplete. May be called again as long as
    the spool is there. Raises BadRun where ``run_dir`` is no recording or a newer one, CvmprofError
    where it cannot be written, a full disk included; the spool then stays.
    """
    run = Path(run_dir)
    refuse_non_directory(run)
    if not (run / JOURNAL).is_file():
        raise BadRun(f"{run} holds no recording", "give the NAME.cvmprof directory of a trace")
    if not (run / SPOOL_DIRECTORY).is_dir():
        raise BadRun(f"{run} has no spool any more: its tables are made", "open it: open_run(PATH)")
    with _explained(run):
        journal = Spool(run).journal()
        spool = scoped(Spool(run), journal)
        tally = _write_tables(run, joined_tables(spool, journal))
        _write_meta(run, _meta(spool, journal), tally)
        if not keep_spool:
            shutil.rmtree(run / SPOOL_DIRECTORY, ignore_errors=True)
    return open_run(run)


def recover_run(run_dir: str | Path) -> Run:
    """Open a run, finalising it first where that has not been done.

    What its mounts and files say of themselves is asked for if it has not been. Raises as
    `open_run` and `finalise`.
    """
    run = Path(run_dir)
    refuse_non_directory(run)
    recorded = (run / JOURNAL).is_file() and (run / SPOOL_DIRECTORY).is_dir()
    if recorded and not (run / META).exists():
        if not Spool(run).journal().of("collected"):
            collect(run)
        return finalise(run)
    return open_run(run)


@contextlib.contextmanager
def _explained(run: Path) -> Generator[None]:
    """Turn what the file system refuses into a fact and a way out."""
    try:
        yield
    except OSError as error:
        raise _unwritable(run, error.errno, error.strerror or str(error)) from error
    except pl.exceptions.ComputeError as error:
        if "os error 28" in str(error):
            raise _unwritable(run, errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _unwritable(run: Path, number: int | None, reason: str) -> CvmprofError:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return CvmprofError(
            f"no space is left to write the tables of {run}",
            f"free some space, then finish with: cvmprof report {run}",
        )
    return CvmprofError(
        f"cannot write the tables of {run}: {reason}",
        f"make it writable, then finish with: cvmprof report {run}",
    )


@dataclass
class _Tally:
    """Rows written per table, and the events lost."""

    rows: dict[str, int]
    losses: int = 0

    def add(self, name: str, frame: pl.DataFrame) -> None:
        self.rows[name] = self.rows.get(name, 0) + frame.height
        if name == "losses":
            self.losses += int(frame["count"].sum())


def write_run(run: Path, parts: Iterator[Part], meta: Callable[[], dict[str, Any]]) -> Run:
    """Write tables that come from elsewhere into an empty run directory, and what ``meta`` says
    when they have all come.

    The parts of one table follow each other. Raises CvmprofError where they cannot be written.
    """
    with _explained(run):
        tally = _write_tables(run, parts)
        _write_meta(run, meta(), tally)
    return open_run(run)


def _write_tables(run: Path, parts_of_tables: Iterator[Part]) -> _Tally:
    tally = _Tally({table.name: 0 for table in TABLES})
    with _directory(run) as top:
        _make_directory(TABLES_DIRECTORY, top)
        with _directory(TABLES_DIRECTORY, top) as tables:
            written = {
                name
                for name, parts in groupby(parts_of_tables, key=_name)
                if _write_parts(tables, name, parts, tally)
            }
            for table in TABLES:
                if table.name not in written:
                    _write_parts(tables, table.name, iter([(table.name, empty(table.name))]), tally)
            os.fsync(tables)
    return tally


def _name(part: Part) -> str:
    return part[0]


def _write_parts(tables: int, name: str, parts: Iterator[Part], tally: _Tally) -> bool:
    """Write a table. One that comes in parts is kept in files of parts until it is whole."""
    kept: list[str] = []
    try:
        for number, (_, frame) in enumerate(parts):
            tally.add(name, frame)
            kept.append(f".{name}.{number}.part")
            _write_frame(tables, kept[-1], frame)
        if len(kept) > 1:
            _concatenate(tables, name, kept)
        else:
            os.rename(kept[0], f"{name}.parquet", src_dir_fd=tables, dst_dir_fd=tables)
    finally:
        for part in kept:
            _remove(part, tables)
    return True


def _write_frame(directory: int, name: str, frame: pl.DataFrame) -> None:
    with _new_file(name, directory) as handle:
        frame.write_parquet(handle, compression="zstd", compression_level=1)


def _concatenate(tables: int, name: str, parts: list[str]) -> None:
    """Stream the parts into one file: they never are in memory together."""
    held = f"/proc/self/fd/{tables}"
    whole = pl.concat([pl.scan_parquet(f"{held}/{part}") for part in parts])
    temporary = f".{name}.whole"
    with _new_file(temporary, tables) as handle:
        whole.sink_parquet(handle, compression="zstd", compression_level=1)
    os.rename(temporary, f"{name}.parquet", src_dir_fd=tables, dst_dir_fd=tables)


def _meta(spool: ScopedSpool, journal: Journal) -> dict[str, Any]:
    return {
        "complete": journal.is_complete,
        "start_ns": journal.start_ns,
        "stop_ns": journal.stop_ns,
        "exit_status": journal.exit_status,
        "own_requests": spool.own_requests().height,
        **{name: journal.start.get(name) for name in _FROM_START},
    }


def _write_meta(run: Path, of_run: dict[str, Any], tally: _Tally) -> None:
    meta = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        **of_run,
        "losses": tally.losses,
        "rows": tally.rows,
    }
    with _directory(run) as top:
        temporary = f".{META}.new"
        with _new_file(temporary, top) as handle:
            handle.write(json.dumps(meta, indent=1).encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.rename(temporary, META, src_dir_fd=top, dst_dir_fd=top)


@contextlib.contextmanager
def _directory(path: str | Path, parent: int | None = None) -> Generator[int]:
    """Hold a directory open that is not a link."""
    descriptor = os.open(path, _DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_directory(name: str, parent: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    with _directory(name, parent) as descriptor:
        os.fchmod(descriptor, 0o700)


def _new_file(name: str, directory: int) -> IO[bytes]:
    """Create a file of mode 0600 that was not there; what an earlier attempt left is removed."""
    _remove(name, directory)
    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def _remove(name: str, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
