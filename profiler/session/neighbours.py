"""Name the processes of others that use the command's mounts, while they live.

Whoever queued a request on such a mount is recorded by number only. The journal gets a line
``neighbour`` for each of them that is still there, then a line ``neighbours``: they are named once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from ...probes import events
from ..record.journal import boot_id
from ..run.journal import Journal
from ..run.spool import Spool
from .helper import Note

#: processes that are named, those with the most requests
_MOST = 100
#: the unit in which the kernel gives the start of a process
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def note_neighbours(run: Path, note: Note) -> None:
    """Note pid, name and start_ns of the processes alive that used the mounts, and are neither of
    the command nor daemons nor helpers of ours.

    Nothing where that has been done, or where the run was recorded before this kernel's start or on
    another machine: the same numbers are then other processes.
    """
    journal, boot = Spool(run).journal(), boot_id()
    if boot and journal.start.get("boot_id") == boot and not journal.of("neighbours"):
        for pid, queued_ns in _busiest(run, journal):
            _note(pid, queued_ns, note)
        note("neighbours")


def _busiest(run: Path, journal: Journal) -> Iterable[tuple[int, int]]:
    """Those with the most requests: pid, and when the first of them was queued."""
    spool = Spool(run)
    known = spool.ring(events.TASK)["pid"].unique()
    readers = [int(line["pid"]) for line in journal.of("reader")]
    others = spool.ring(events.REQUEST).filter(
        (pl.col("pid") != 0) & ~pl.col("pid").is_in(known.implode()) & ~pl.col("pid").is_in(readers)
    )
    used = others.group_by("pid").agg(pl.len(), pl.col("queued_ns").min())
    busiest = used.sort("len", "pid", descending=[True, False]).head(_MOST)
    return busiest.select("pid", "queued_ns").iter_rows()


def _note(pid: int, queued_ns: int, note: Note) -> None:
    """Note one process, unless its number has been given to a younger one."""
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n")
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # it has ended
        return
    since_boot_ns = int(status.rpartition(b")")[2].split()[19]) * _TICK_NS
    start_ns = since_boot_ns - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns())
    if start_ns <= queued_ns + _TICK_NS:
        note("neighbour", pid=pid, name=name.decode("utf-8", "backslashreplace"), start_ns=start_ns)
