"""Write the tables and meta.json of a run: all or nothing.

Every file is created under a temporary name, with O_EXCL and O_NOFOLLOW, below directories that are
held open and are not links, and is renamed once it is whole. meta.json comes last: a run that has
it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO

import polars as pl

from ...errors import CvmprofError
from ..tables import TABLES, Part, empty
from .directory import META, SCHEMA_VERSION, TABLES_DIRECTORY
from .opened import FORMAT, Run, open_run

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class _Tally:
    """How many rows each table has, and how many events were lost."""

    rows: dict[str, int] = field(default_factory=lambda: {table.name: 0 for table in TABLES})
    losses: int = 0

    def add(self, name: str, frame: pl.DataFrame) -> None:
        self.rows[name] += frame.height
        if name == "losses":
            self.losses += int(frame["count"].sum())


def write_run(run: Path, parts: Iterator[Part], meta: Callable[[], Mapping[str, object]]) -> Run:
    """Write tables and meta.json into a run directory, replacing those of an earlier attempt.

    The parts of one table follow each other; a table without parts is written empty. ``meta`` is
    called after the last part. Raises CvmprofError where a file cannot be written, a full disk
    included.
    """
    with _write_errors_explained(run), _directory(run) as top:
        _make_directory(TABLES_DIRECTORY, top)
        with _directory(TABLES_DIRECTORY, top) as tables:
            tally = _write_tables(tables, parts)
        head = {"format": FORMAT, "schema_version": SCHEMA_VERSION}
        _write_meta(top, {**head, **meta(), "losses": tally.losses, "rows": tally.rows})
    return open_run(run)


@contextlib.contextmanager
def _write_errors_explained(run: Path) -> Generator[None]:
    """Turn errors of the file system into a CvmprofError."""
    try:
        yield
    except OSError as error:
        raise _unwritable(run, error.errno, error.strerror or str(error)) from error
    except pl.exceptions.ComputeError as error:
        if f"os error {errno.ENOSPC}" in str(error):
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


def _write_tables(tables: int, parts: Iterator[Part]) -> _Tally:
    tally, written = _Tally(), set[str]()
    for name, parts_of_table in groupby(parts, key=itemgetter(0)):
        _write_table(tables, name, (frame for _, frame in parts_of_table), tally)
        written.add(name)
    for table in TABLES:
        if table.name not in written:
            _write_table(tables, table.name, [empty(table.name)], tally)
    os.fsync(tables)
    return tally


def _write_table(tables: int, name: str, frames: Iterable[pl.DataFrame], tally: _Tally) -> None:
    """Write each frame to a file of its own, then make one file of them."""
    parts: list[str] = []
    try:
        for number, frame in enumerate(frames):
            tally.add(name, frame)
            parts.append(f".{name}.{number}.part")
            with _new_file(parts[-1], tables) as handle:
                frame.write_parquet(handle, compression="zstd", compression_level=1)
        whole = parts[0] if len(parts) == 1 else _concatenated(tables, name, parts)
        os.rename(whole, f"{name}.parquet", src_dir_fd=tables, dst_dir_fd=tables)
    finally:
        for part in parts:
            _remove(part, tables)


def _concatenated(tables: int, name: str, parts: list[str]) -> str:
    """Stream the parts into one new file, so that they are never all in memory; its name."""
    directory = f"/proc/self/fd/{tables}"
    frames = pl.concat([pl.scan_parquet(f"{directory}/{part}") for part in parts])
    whole = f".{name}.whole"
    with _new_file(whole, tables) as handle:
        frames.sink_parquet(handle, compression="zstd", compression_level=1)
    return whole


def _write_meta(top: int, meta: Mapping[str, object]) -> None:
    temporary = f".{META}.new"
    with _new_file(temporary, top) as handle:
        handle.write(json.dumps(meta, indent=1).encode() + b"\n")
        handle.flush()
        os.fsync(handle.fileno())
    os.rename(temporary, META, src_dir_fd=top, dst_dir_fd=top)


@contextlib.contextmanager
def _directory(path: str | Path, parent: int | None = None) -> Generator[int]:
    """Open a directory that is not a link."""
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
    """Create a file of mode 0600; one that an earlier attempt left is removed first."""
    _remove(name, directory)
    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def _remove(name: str, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
