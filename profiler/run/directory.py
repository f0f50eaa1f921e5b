"""The run directory's names, its making and its unmaking, without what reads it.

Imports nothing that starts threads: a session makes the directory before it forks the command.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ...errors import CvmprofError
from ...probes.events import DOWNLOAD
from ..record.recorder import JOURNAL as JOURNAL
from ..record.recorder import spool_files

#: version of the tables' layout; a run of a higher one is refused
SCHEMA_VERSION = 1
META, TABLES_DIRECTORY, SPOOL_DIRECTORY = "meta.json", "tables", "spool"
PHASES, SOCKET_SAMPLES = "phases.jsonl", "socket_samples.bin"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def create_run(path: Path) -> Path:
    """Make an empty run directory (0700) with its spool, and return it.

    Raises CvmprofError where something of that name exists, a dangling link included, or cannot be
    made; nothing is left then.
    """
    try:
        path.mkdir()
    except OSError as error:
        raise _unmakable(path, error) from error
    try:
        path.chmod(0o700)
        (path / SPOOL_DIRECTORY).mkdir(mode=0o700)
    except OSError as error:
        discard_run(path)
        raise _unmakable(path, error) from error
    return path


def open_spool(run: Path) -> dict[str, int]:
    """Create all that a recorder appends to in an empty run: descriptors by name, close-on-exec.

    Raises CvmprofError where that cannot be done.
    """
    files = dict[str, int]()
    try:
        top = os.open(run, _DIRECTORY)
        spool = os.open(SPOOL_DIRECTORY, _DIRECTORY, dir_fd=top)
        files[JOURNAL] = os.open(JOURNAL, _NEW_FILE, 0o600, dir_fd=top)
        for name in (*spool_files(), PHASES, SOCKET_SAMPLES):
            files[name] = os.open(name, _NEW_FILE, 0o600, dir_fd=spool)
        os.close(top)
        os.close(spool)
    except OSError as error:
        raise _unmakable(run, error) from error
    return files


def socket_files(run: Path, files: dict[str, int]) -> tuple[Path, int]:
    """Where a recording's connections are announced, and where their samples go."""
    return run / SPOOL_DIRECTORY / f"{DOWNLOAD.name}.ring", files[SOCKET_SAMPLES]


def discard_run(path: Path) -> None:
    """Remove the run of a command that never started, so that its name is free again."""
    shutil.rmtree(path, ignore_errors=True)


def page_of(run: Path) -> Path:
    """Return where the page of a run goes: beside it, NAME.html for NAME.cvmprof."""
    whole = run if run.name not in ("", "..") else Path(os.path.abspath(run))
    return whole.with_name(whole.name.removesuffix(".cvmprof") + ".html")


def _unmakable(path: Path, error: OSError) -> CvmprofError:
    if isinstance(error, FileExistsError):
        return CvmprofError(
            f"{path} exists already", "give another name with -o, or move the old run away"
        )
    return CvmprofError(
        f"cannot make the run directory {path}: {error.strerror}",
        "choose with -o a place that exists, has room, and that you may write to",
    )
