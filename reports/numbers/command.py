"""What the command as a whole waited for: its wall time, its threads' time, and each process's."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from ...profiler.attribution.causes import OF_CVMFS, spent
from ..material import Material
from .fetching import Fetches, fetch_summary
from .gains import Gain, gains, reads_alone
from .held import REQUEST
from .lost import divided, lost_spans
from .sums import by_cause, total


@dataclass(frozen=True)
class ProcessTime:
    """A process of the command, with the tiling of its own wall time.

    ``threads``: how many were watched. ``start_ns``, ``end_ns``: of its first and its last thread;
    None: it lived when recording ended. ``causes_ns`` sum to ``wall_ns``, the time in which any of
    its threads was watched; ``cvmfs_ns``: of that, what waited for CVMFS.
    """

    pid: int
    name: str
    argv: tuple[str, ...] | None
    threads: int
    start_ns: int
    end_ns: int | None
    wall_ns: int
    causes_ns: dict[str, int]
    cvmfs_ns: int


@dataclass(frozen=True)
class CommandTime:
    """The command's own time.

    ``causes_ns``: one cause at each instant, over all threads; they sum to ``wall_ns``. Of it,
    ``cvmfs_ns`` waited for CVMFS, by cause ``cvmfs_causes_ns``, and ``fetch_ns`` for a fetch; in
    ``polled_ns`` only threads that poll ran. ``threads_ns``: the lives of all
    threads, summed, with ``thread_causes_ns`` and ``thread_cvmfs_ns``. ``fetches``: those that any
    thread waited for. ``processes``: the longest first, no more than `material.MAX_PROCESSES` of
    the ``process_count``.

    Of ``cvmfs_causes_ns``, ``vain_causes_ns`` waited for attempts that brought nothing, and
    ``hung_causes_ns`` for what had not come when recording ended (`lost`). Of ``causes_ns``,
    ``reads_causes_ns`` are asynchronous reads in flight, for which no thread waited. ``gains``: the
    parts of what waited neither in vain nor for what hung, by the names of `gains.PARTS`.
    """

    wall_ns: int
    causes_ns: dict[str, int]
    cvmfs_ns: int
    cvmfs_causes_ns: dict[str, int]
    fetch_ns: int
    polled_ns: int
    threads_ns: int
    thread_causes_ns: dict[str, int]
    thread_cvmfs_ns: int
    fetches: Fetches
    process_count: int = 0
    processes: tuple[ProcessTime, ...] = ()
    vain_causes_ns: dict[str, int] = field(default_factory=dict[str, int])
    hung_causes_ns: dict[str, int] = field(default_factory=dict[str, int])
    reads_causes_ns: dict[str, int] = field(default_factory=dict[str, int])
    gains: dict[str, Gain] = field(default_factory=dict[str, Gain])

    @property
    def vain_ns(self) -> int:
        """Wall time that waited for attempts that brought nothing."""
        return sum(self.vain_causes_ns.values())

    @property
    def hung_ns(self) -> int:
        """Wall time that waited for what had not come when recording ended."""
        return sum(self.hung_causes_ns.values())


def command_time(material: Material) -> CommandTime:
    """Return what the command's time went to."""
    wall = spent(material.command_causes, "cause", "polled")
    threads = material.thread_causes
    waited = material.frames["fetches"].join(material.command_fetches, on="fetch_id", how="semi")
    lost = lost_spans(material.own, material.window)
    of_wall, of_threads, of_reads = (
        divided(_waits_of(pieces), lost, material.frames["fetches"])
        for pieces in (
            material.command_causes,
            material.command_waits,
            reads_alone(material.command_reads),
        )
    )
    return CommandTime(
        wall_ns=total(wall, "ns"),
        causes_ns=by_cause(wall),
        cvmfs_ns=total(wall, "cvmfs_ns"),
        cvmfs_causes_ns=by_cause(wall.select("cause", ns="cvmfs_ns")),
        fetch_ns=total(wall, "fetch_ns"),
        polled_ns=total(wall.filter("polled"), "ns"),
        threads_ns=total(threads, "ns"),
        thread_causes_ns=by_cause(threads),
        thread_cvmfs_ns=total(threads, "cvmfs_ns"),
        fetches=fetch_summary(waited, material.window),
        process_count=material.frames["segments"]["pid"].n_unique(),
        processes=_processes(material.process_causes, material.frames["tasks"]),
        vain_causes_ns=by_cause(_timed(of_wall.vain)),
        hung_causes_ns=by_cause(_timed(of_wall.hung)),
        reads_causes_ns=by_cause(_timed(_of_reads(material))),
        gains=gains(of_wall.useful, of_threads.useful, of_reads.useful),
    )


def _waits_of(pieces: pl.DataFrame) -> pl.DataFrame:
    return pieces.filter(OF_CVMFS).select("start_ns", "end_ns", "cause", "fetch_id")


def _of_reads(material: Material) -> pl.DataFrame:
    """The pieces of the wall time that asynchronous reads held."""
    return material.command_causes.join(material.command_reads, on=REQUEST, how="semi")


def _timed(pieces: pl.DataFrame) -> pl.DataFrame:
    return pieces.select("cause", ns=pl.col("end_ns") - pl.col("start_ns"))


def _processes(causes: pl.DataFrame, tasks: pl.DataFrame) -> tuple[ProcessTime, ...]:
    walls = causes.group_by("pid").agg(pl.col("ns", "cvmfs_ns").sum())
    longest = walls.sort("ns", "pid", descending=[True, False])
    lives = _lives(tasks.filter(pl.col("role") == "target"))
    rows = longest.join(lives, on="pid", how="left", maintain_order="left")
    return tuple(
        ProcessTime(
            pid=row["pid"],
            name=row["name"] or "",
            argv=None if row["argv"] is None else tuple(row["argv"]),
            threads=row["threads"] or 0,
            start_ns=row["start_ns"] or 0,
            end_ns=row["end_ns"],
            wall_ns=row["ns"],
            causes_ns=by_cause(causes.filter(pid=row["pid"])),
            cvmfs_ns=row["cvmfs_ns"],
        )
        for row in rows.iter_rows(named=True)
    )


def _lives(tasks: pl.DataFrame) -> pl.DataFrame:
    """Processes by their threads: pid, name, argv?, threads, start_ns, end_ns?."""
    leads = pl.col("tid") == pl.col("pid")
    lasted = ~pl.col("end_ns").is_null().any()
    return tasks.group_by("pid").agg(
        pl.col("name", "argv").sort_by(leads, "start_ns").last(),
        pl.col("start_ns").min(),
        threads=pl.len(),
        end_ns=pl.when(lasted).then(pl.col("end_ns").max()),
    )
