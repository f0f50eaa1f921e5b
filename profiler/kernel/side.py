"""The kernel's side of a run: tasks, file operations, mounts, FUSE requests, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ...probes import fuse
from ...probes.events import TASK_KINDS, TOUCH_BUCKET_NS
from ..run.journal import Journal
from ..run.places import KEY, file_places
from ..run.spool import Spool
from ..run.times import happened
from ..tables import Part
from .failures import asked_paths, failed_operations, without_others
from .files import file_ids, files
from .fuse_requests import fuse_requests
from .mounts import (
    daemon_mounts,
    mount_attributes,
    mounts,
    with_mount,
)
from .operations import hits, known_files, operations, touches
from .tasks import (
    tasks,
    with_daemons_at_start,
    with_founders,
    with_neighbours,
    with_unannounced,
)


@dataclass(frozen=True)
class Accesses:
    """File operations with the mounts and files they are about.

    ``mounts``: see `mounts.mounts`; ``files``, ``operations``, ``failed``: the tables.
    """

    mounts: pl.DataFrame
    files: pl.DataFrame
    operations: pl.DataFrame
    failed: pl.DataFrame


@dataclass(frozen=True)
class KernelSide:
    """What the kernel saw.

    ``start_ns``: the command's start; ``stop_ns``: the end of recording. ``accesses``: see there.
    ``attributes``: see `mounts.mount_attributes`. ``serving``: pid, mount_id of daemons.
    ``daemons``: those and the processes that forked into them. ``requests``: see
    `fuse_requests.fuse_requests`. ``tasks``: the table. ``events``: TASK records.
    """

    start_ns: int
    stop_ns: int
    accesses: Accesses
    attributes: pl.DataFrame
    serving: pl.DataFrame
    daemons: pl.DataFrame
    requests: pl.DataFrame
    tasks: pl.DataFrame
    events: pl.DataFrame

    @property
    def mounts(self) -> pl.DataFrame:
        """The mounts as they were found: see `mounts.mounts`."""
        return self.accesses.mounts

    @property
    def files(self) -> pl.DataFrame:
        """The table `files`, without ``cached_bytes_at_start``."""
        return self.accesses.files

    @property
    def operations(self) -> pl.DataFrame:
        """The table `operations`."""
        return self.accesses.operations


def file_accesses(spool: Spool, journal: Journal) -> tuple[Accesses, list[Part]]:
    """Operations with their files, and the tables `hits` and `touches`."""
    places = file_places(spool.files())
    asked = asked_paths(spool.failures(), journal)
    raw = without_others(spool.operations().sort("start_ns"), asked)
    raw_hits = spool.hits()
    raw_touches = spool.touches().with_columns(start_ns=pl.col("bucket") * TOUCH_BUCKET_NS)
    uses = [frame.select(*KEY, "start_ns") for frame in (known_files(raw), raw_hits, raw_touches)]
    with_mounts = _mounts(spool, journal, places, [*uses, asked.drop_nulls("dev")])
    referenced = [with_mount(frame, with_mounts, "start_ns") for frame in uses]
    numbered = files(places, with_mounts, referenced)

    def ids(events: pl.DataFrame) -> pl.Series:
        return file_ids(events, with_mounts, numbered, "start_ns")

    every = operations(raw, ids(raw))
    failed = failed_operations(every, with_mount(asked, with_mounts, "start_ns"), numbered)
    accesses = Accesses(with_mounts, numbered, every, failed)
    touched = touches(raw_touches, ids(raw_touches), every)
    return accesses, [("hits", hits(raw_hits, ids(raw_hits))), ("touches", touched)]


def _mounts(
    spool: Spool, journal: Journal, places: pl.DataFrame, uses: Sequence[pl.DataFrame]
) -> pl.DataFrame:
    requests = spool.requests()
    devices = {dev for frame in (*uses, requests) for dev in frame["dev"].unique()}
    changes = requests.filter(pl.col("opcode").is_in([fuse.INIT, fuse.DESTROY]))
    return mounts(journal, places, changes, devices)


def kernel_side(spool: Spool, journal: Journal, accesses: Accesses) -> KernelSide:
    """Join FUSE requests with the operations that queued them and the daemons that took them."""
    events = spool.tasks()
    raw = spool.requests().with_columns(at=pl.max_horizontal("queued_ns", "end_ns"))
    of_mounts = with_mount(raw, accesses.mounts, "at")
    served = spool.served()
    attributes = mount_attributes(journal, accesses.mounts)
    serving = daemon_mounts(of_mounts.drop_nulls("mount_id"), served, attributes)
    announced = with_neighbours(
        with_daemons_at_start(tasks(events), journal, serving["pid"]), journal
    )
    operations = accesses.operations
    return KernelSide(
        start_ns=command_start_ns(journal, events, operations),
        stop_ns=journal.stop_ns or _last_time(operations, events, spool),
        accesses=accesses,
        attributes=attributes,
        serving=serving,
        daemons=with_founders(serving, events),
        requests=fuse_requests(of_mounts, served.join(serving, on="pid"), operations),
        tasks=with_unannounced(announced, operations.select("pid", "tid", "start_ns")),
        events=events,
    )


def command_start_ns(journal: Journal, events: pl.DataFrame, operations: pl.DataFrame) -> int:
    """When the command's process first called exec, also if the call failed and the shell was
    executed then; else when it was forked; else the start of recording.

    ``operations``: the table. Before its exec the process opens nothing else.
    """
    own = pl.col("pid") == (journal.child_pid or -1)
    execs = events.filter(own & (pl.col("kind") == TASK_KINDS.index("exec")))
    called = execs.select(pl.coalesce(happened("began_ns"), "time_ns").min()).item()
    opened = operations.filter(own & (pl.col("kind") == "open"))["start_ns"].min()
    forked = next((line.get("time_ns") for line in journal.of("child")), None)
    first = min((ns for ns in (called, opened) if ns), default=None)
    return int(first or forked or journal.start_ns)  # type: ignore[arg-type]


def _last_time(operations: pl.DataFrame, events: pl.DataFrame, spool: Spool) -> int:
    """The last time in a run whose recording was never stopped."""
    blocked = spool.blocked()
    times = [
        operations["start_ns"],
        operations["end_ns"],
        events["time_ns"],
        blocked["start_ns"],
        blocked["end_ns"],
        spool.requests()["end_ns"],
    ]
    return max((int(column.max() or 0) for column in times), default=0)  # type: ignore[arg-type]
