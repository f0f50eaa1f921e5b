"""Name the processes of others that use the command's mounts, while they live.

Whoever queued a request on such a mount is recorded by number only. The journal gets a line
``neighbour`` for each of them that is still there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import polars as pl

from ...probes import events
from ..run.spool import Spool
from .helper import Note

#: processes that are named, those with the most requests
_MOST = 100
#: the unit in which the kernel gives the start of a process
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def note_neighbours(run: Path, note: Note) -> None:
    """Note pid, name and start_ns of the processes alive that used the mounts, and are neither of
    the command nor daemons nor helpers of ours.
    """
    spool = Spool(run)
    known = spool.ring(events.TASK)["pid"].unique()
    readers = [int(line["pid"]) for line in spool.journal().of("reader")]
    others = spool.ring(events.REQUEST).filter(
        (pl.col("pid") != 0) & ~pl.col("pid").is_in(known.implode()) & ~pl.col("pid").is_in(readers)
    )
    used = others.group_by("pid").agg(pl.len(), pl.col("queued_ns").min())
    busiest = used.sort("len", "pid", descending=[True, False]).head(_MOST)
    for pid, queued_ns in busiest.select("pid", "queued_ns").iter_rows():
        _note(pid, queued_ns, note)


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
