"""The run directory: the names in it, how it is created and removed.

Imports nothing that starts threads: a session creates the directory before it forks the command.
"""

from __future__ import annotations

import os
import shutil
from itertools import count
from pathlib import Path

from ...errors import BadRun, CvmprofError
from ...probes.events import DOWNLOAD, TASK
from ..record.names import JOURNAL as JOURNAL
from ..record.names import ring_file, spool_files

#: version of the tables' layout; a run of a higher one is refused
SCHEMA_VERSION = 3
META, TABLES_DIRECTORY, SPOOL_DIRECTORY = "meta.json", "tables", "spool"
PHASES, SOCKET_SAMPLES = "phases.jsonl", "socket_samples.bin"
GPU_SAMPLES = "gpu_samples.bin"
CPU_SAMPLES = "cpu_samples.jsonl"
#: in the spool: what the library injected by the GPU's driver writes, two files a process
GPU_DIRECTORY = "gpu"
#: made after the recording
TENSORS = "tensors.jsonl"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def create_run(path: Path) -> Path:
    """Create an empty run directory (0700) with its spool, and return it.

    Raises CvmprofError where the name exists, as a dangling link too, or where the directory cannot
    be created; nothing is left then.
    """
    try:
        path.mkdir()
    except OSError as error:
        raise _cannot_create(path, error) from error
    return _completed(path)


def create_numbered_run(path: Path) -> Path:
    """Create a run directory of this name, else NAME-2, NAME-3 and so on: the first that is free.

    Runs that begin at the same time get different ones. Raises as `create_run`.
    """
    stem = path.name.removesuffix(".cvmprof")
    for number in count(2):
        try:
            path.mkdir()
        except FileExistsError:
            path = path.with_name(f"{stem}-{number}.cvmprof")
        except OSError as error:
            raise _cannot_create(path, error) from error
        else:
            break
    return _completed(path)


def refuse_removed(run: Path) -> None:
    """Raise BadRun where what was recorded is no longer where it was."""
    whole = {run: run.is_dir(), run / JOURNAL: (run / JOURNAL).is_file(),
             run / SPOOL_DIRECTORY: (run / SPOOL_DIRECTORY).is_dir()}  # fmt: skip
    missing = next((part for part, is_there in whole.items() if not is_there), None)
    if missing is not None:
        fact = f"{missing} was removed or replaced while the command ran"
        raise BadRun(fact, "record again, with -o at a place where the command removes nothing")


def _completed(path: Path) -> Path:
    try:
        path.chmod(0o700)
        (path / SPOOL_DIRECTORY).mkdir(mode=0o700)
    except OSError as error:
        discard_run(path)
        raise _cannot_create(path, error) from error
    return path


def open_spool(run: Path) -> dict[str, int]:
    """Create the files that a recorder appends to; return their descriptors by name, close-on-exec.

    Raises CvmprofError where one cannot be created.
    """
    files = dict[str, int]()
    try:
        top = os.open(run, _DIRECTORY)
        spool = os.open(SPOOL_DIRECTORY, _DIRECTORY, dir_fd=top)
        files[JOURNAL] = os.open(JOURNAL, _NEW_FILE, 0o600, dir_fd=top)
        for name in (*spool_files(), PHASES, SOCKET_SAMPLES, GPU_SAMPLES, CPU_SAMPLES):
            files[name] = os.open(name, _NEW_FILE, 0o600, dir_fd=spool)
        os.close(top)
        os.close(spool)
    except OSError as error:
        raise _cannot_create(run, error) from error
    return files


def socket_files(run: Path, files: dict[str, int]) -> tuple[Path, int]:
    """Return where a recording announces connections, and the descriptor for their samples."""
    return run / SPOOL_DIRECTORY / ring_file(DOWNLOAD), files[SOCKET_SAMPLES]


def cpu_files(run: Path, files: dict[str, int]) -> tuple[Path, int]:
    """Return where a recording announces daemons, and the descriptor for samples of CPU time."""
    return run / SPOOL_DIRECTORY / ring_file(TASK), files[CPU_SAMPLES]


def discard_run(path: Path) -> None:
    """Remove the run of a command that never started, so that its name can be used again."""
    shutil.rmtree(path, ignore_errors=True)


def page_of(run: Path) -> Path:
    """Return the path of a run's page: beside the run, NAME.html for NAME.cvmprof."""
    named = run if run.name not in ("", "..") else Path(os.path.abspath(run))
    return named.with_name(named.name.removesuffix(".cvmprof") + ".html")


def _cannot_create(path: Path, error: OSError) -> CvmprofError:
    if isinstance(error, FileExistsError):
        return CvmprofError(
            f"{path} exists already", "give another name with -o, or move the old run away"
        )
    return CvmprofError(
        f"cannot make the run directory {path}: {error.strerror}",
        "choose a place with -o that exists, has free space, and that you may write to",
    )
