"""The end of a recording: its spool becomes tables.

The spool is removed only after meta.json is written: until then the run can be finalised again.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..errors import BadRun
from .join import joined_tables
from .kernel.scope import ScopedSpool, scoped
from .run.directory import JOURNAL, META, SPOOL_DIRECTORY
from .run.journal import Journal
from .run.opened import Run, open_run, refuse_non_directory
from .run.spool import Spool
from .run.writing import write_run
from .session.attributes import collect

_FROM_START = ("version", "command", "utc_offset_ns", "kernel", "machine", "cpus", "uid", "backend",
               "options")  # fmt: skip


def finish(run: Path) -> Run:
    """Finalise a recording, after reading the attributes of its mounts and files if that has not
    been done.

    Raises as `finalise`.
    """
    if not Spool(run).journal().of("collected"):
        with suppress(OSError):  # of a full disk: `finalise` reports it
            collect(run)
    return finalise(run)


def recover_run(run_dir: str | Path) -> Run:
    """Open a run; finish it first where that has not been done.

    Raises as `open_run` and `finalise`.
    """
    run = Path(run_dir)
    refuse_non_directory(run)
    is_recorded = (run / JOURNAL).is_file() and (run / SPOOL_DIRECTORY).is_dir()
    return finish(run) if is_recorded and not (run / META).exists() else open_run(run)


def finalise(run_dir: str | Path, *, keep_spool: bool = False) -> Run:
    """Join the spool of a recording into its tables and return the run.

    A run without a stop line is finalised too and marked incomplete. May be called again as long as
    the spool exists. Raises BadRun where ``run_dir`` is not a recording, or one of a newer cvmprof;
    CvmprofError where the tables cannot be written, a full disk included. The spool then stays.
    """
    run = Path(run_dir)
    refuse_non_directory(run)
    if not (run / JOURNAL).is_file():
        raise BadRun(f"{run} holds no recording", "give the NAME.cvmprof directory of a trace")
    if not (run / SPOOL_DIRECTORY).is_dir():
        fact = f"{run} no longer has a spool: its tables have been made"
        raise BadRun(fact, "open it: open_run(PATH)")
    journal = Spool(run).journal()
    spool = scoped(Spool(run), journal)
    finalised = write_run(run, joined_tables(spool, journal), partial(_meta, spool, journal))
    if not keep_spool:
        shutil.rmtree(run / SPOOL_DIRECTORY, ignore_errors=True)
    return finalised


def _meta(spool: ScopedSpool, journal: Journal) -> dict[str, object]:
    return {
        "complete": journal.is_complete,
        "start_ns": journal.start_ns,
        "stop_ns": journal.stop_ns,
        "exit_status": journal.exit_status,
        "allowed_cpus": _allowed_cpus(journal),
        "own_requests": spool.own_requests().height,
        **{name: journal.start.get(name) for name in _FROM_START},
    }


def _allowed_cpus(journal: Journal) -> object:
    """How many CPUs the command's first process might use; None: not known."""
    return next((line.get("allowed_cpus") for line in journal.of("cpu_sampler")), None)
