"""Open a run directory. `open_run` is the notebook API."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import polars as pl

from ...errors import BadRun
from ..tables import TABLES, empty
from .directory import JOURNAL, META, SCHEMA_VERSION, SPOOL_DIRECTORY, TABLES_DIRECTORY
from .journal import DAMAGED_HELP, refuse_newer
from .older import is_newer, upgraded

FORMAT = "cvmprof run"
_NAMES = tuple(table.name for table in TABLES)
_TRACE_HELP = "give the NAME.cvmprof directory of a trace"


@dataclass(frozen=True)
class RunTables(Mapping[str, pl.DataFrame]):
    """The tables of a run by name, each read when it is accessed: ``tables["operations"]``.

    ``version``: the run's schema version; tables of older ones are read as those of today.
    """

    path: Path
    version: int = SCHEMA_VERSION

    def __getitem__(self, name: str) -> pl.DataFrame:
        lazy = self.scan(name)
        try:
            return lazy.collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _damaged(self.path / f"{name}.parquet", error) from error

    def __getattr__(self, name: str) -> pl.DataFrame:
        if name not in _NAMES:
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)

    def scan(self, name: str) -> pl.LazyFrame:
        """Return a table lazily. Raises KeyError for an unknown name, BadRun for a damaged file."""
        if name not in _NAMES:
            raise KeyError(name)
        if is_newer(name, self.version):
            return empty(name).lazy()
        file = self.path / f"{name}.parquet"
        try:
            lazy = pl.scan_parquet(file)
            lazy.collect_schema()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _damaged(file, error) from error
        return lazy if self.version == SCHEMA_VERSION else upgraded(name, lazy)


@dataclass(frozen=True)
class Run:
    """A finalised run: ``meta`` as in meta.json, ``tables`` read when they are accessed."""

    path: Path
    meta: Mapping[str, Any]

    @property
    def tables(self) -> RunTables:
        """The tables by name."""
        return RunTables(self.path / TABLES_DIRECTORY, int(self.meta["schema_version"]))

    def scan(self, name: str) -> pl.LazyFrame:
        """Return a table as a polars LazyFrame."""
        return self.tables.scan(name)

    @property
    def is_complete(self) -> bool:
        """Whether recording ended properly."""
        return bool(self.meta.get("complete"))

    @property
    def losses(self) -> int:
        """How many events were lost."""
        return int(self.meta.get("losses", 0))


def open_run(path: str | Path) -> Run:
    """Open a finalised run.

    Raises BadRun where the path does not exist, is not a run, was never finalised, lacks tables, or
    comes from a newer cvmprof. Of each table only the number of rows is read.
    """
    run = Path(path)
    meta = read_meta(run)
    present = (name for name in _NAMES if not is_newer(name, meta["schema_version"]))
    for name in present:
        _check_whole(run / TABLES_DIRECTORY / f"{name}.parquet", meta["rows"].get(name))
    return Run(run, MappingProxyType(meta))


def read_meta(run: Path) -> dict[str, Any]:
    """Read meta.json. Raises BadRun, see `open_run`."""
    refuse_non_directory(run)
    try:
        content: Any = json.loads((run / META).read_bytes())
    except FileNotFoundError as error:
        raise _without_meta(run) from error
    except (OSError, ValueError) as error:
        raise _damaged(run / META, error) from error
    meta = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    if meta.get("format") != FORMAT:
        raise BadRun(f"{run} is not a run of cvmprof", _TRACE_HELP)
    refuse_newer(meta.get("schema_version"))
    if not isinstance(meta.get("rows"), dict):
        raise _damaged(run / META, ValueError("no row counts"))
    return meta


def refuse_non_directory(run: Path) -> None:
    """Raise BadRun unless ``run`` is a directory that can be entered."""
    try:
        mode = run.stat().st_mode
    except FileNotFoundError as error:
        raise BadRun(f"there is no {run}", _TRACE_HELP) from error
    except OSError as error:
        raise BadRun(
            f"cannot open {run}: {error.strerror}", "open it as the user who recorded it"
        ) from error
    if not stat.S_ISDIR(mode):
        raise BadRun(f"{run} is not a directory", _TRACE_HELP)
    if not os.access(run, os.R_OK | os.X_OK):
        raise BadRun(f"no permission to read {run}", "open it as the user who recorded it")


def _without_meta(run: Path) -> BadRun:
    if (run / TABLES_DIRECTORY).is_dir() and not (run / SPOOL_DIRECTORY).is_dir():
        return _damaged(run / META, FileNotFoundError())
    if (run / JOURNAL).exists():
        for part, is_there in ((JOURNAL, Path.is_file), (SPOOL_DIRECTORY, Path.is_dir)):
            if not is_there(run / part):
                fact = f"{run / part} is missing or damaged: the recording cannot be finished"
                return BadRun(fact, "record it again")
        return BadRun(
            f"{run} was never finalised: its recording was cut off, or is still running",
            f"once it has ended, recover it with: cvmprof report {run}",
        )
    return BadRun(f"{run} is not a run of cvmprof", _TRACE_HELP)


def _check_whole(file: Path, rows: object) -> None:
    """Compare a table's row count, which is in the file's last bytes, with that in meta.json."""
    try:
        count = pl.scan_parquet(file).select(pl.len()).collect().item()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _damaged(file, error) from error
    if count != rows:
        raise BadRun(f"{file} has {count} rows where {META} says {rows}", DAMAGED_HELP)


def _damaged(file: Path, error: Exception) -> BadRun:
    state = "missing" if isinstance(error, FileNotFoundError) else "damaged"
    return BadRun(f"{file} is {state}", DAMAGED_HELP)
