"""Table `incidents`: what happened to the system during the run."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import polars as pl

from ...probes.events import TASK_KINDS
from ..run.journal import Journal
from ..tables import conform, empty

#: an operation without end is a hang if it had lasted this long when its task or the recording
#: ended
HANG_NS = 1_000_000_000
_SIGNAL = TASK_KINDS.index("signal")


@dataclass(frozen=True)
class IncidentEvidence:
    """What incidents are found in.

    ``mounts``, ``tasks``, ``operations``, ``files``: the tables; ``requests``: `fuse_requests`;
    ``last_calls``: see `last_calls`; ``stop_ns``: the end of recording. ``failed``: the table
    `failed_operations`.
    """

    mounts: pl.DataFrame
    tasks: pl.DataFrame
    operations: pl.DataFrame
    requests: pl.DataFrame
    files: pl.DataFrame
    last_calls: pl.DataFrame
    stop_ns: int
    failed: pl.DataFrame = field(default_factory=partial(empty, "failed_operations"))


def incidents(
    journal: Journal, evidence: IncidentEvidence, others: Sequence[pl.DataFrame] = ()
) -> pl.DataFrame:
    """Mounts, deaths of daemons, hung operations, incidents that the recorder saw, and ``others``.

    By time. ``others``: incidents found elsewhere.
    """
    sources = [
        _mounted(evidence.mounts),
        _with_last_calls(_deaths(evidence.tasks, evidence.mounts), evidence.last_calls),
        _hangs(evidence),
        _dead_mounts(evidence),
        _of_recorder(journal),
        *others,
    ]
    rows = [frame for frame in sources if frame.height]
    return pl.concat(rows).sort("time_ns") if rows else empty("incidents")


def _mounted(mounts: pl.DataFrame) -> pl.DataFrame:
    """FUSE file systems mounted during the run."""
    earliest = pl.col("start_ns").fill_null(0).min().over("mountpoint")
    again = pl.col("mountpoint").is_not_null() & (pl.col("start_ns") > earliest)
    place = pl.coalesce("mountpoint", pl.lit("an unknown place"))
    is_fuse = pl.col("filesystem").str.contains("fuse|cvmfs")
    return conform(
        "incidents",
        mounts.with_columns(again=again)
        .drop_nulls("start_ns")
        .filter(is_fuse)
        .select(
            "mount_id",
            time_ns="start_ns",
            kind=pl.when("again").then(pl.lit("remount")).otherwise(pl.lit("mount")),
            pid="daemon_pid",
            detail=pl.format("{} mounted at {}", "device", place),
        ),
    )


def _deaths(tasks: pl.DataFrame, mounts: pl.DataFrame) -> pl.DataFrame:
    """Ends of daemon processes; the end of a single thread is not an incident.

    Nor is the exit of a process that served no mount of the run: a daemon forks some when it
    starts.
    """
    dead = tasks.filter(
        (pl.col("role") == "daemon")
        & (pl.col("pid") == pl.col("tid"))
        & pl.col("end_ns").is_not_null()
    )
    serving = mounts.unique("daemon_pid", keep="last", maintain_order=True)
    killed = pl.col("signal").is_not_null()
    joined = dead.join(serving.select("mount_id", pid="daemon_pid"), on="pid", how="left").filter(
        killed | pl.col("mount_id").is_not_null()
    )
    how = (
        pl.when(killed)
        .then(pl.format("killed by signal {}", "signal"))
        .otherwise(pl.format("exited with status {}", "exit_code"))
    )
    return conform(
        "incidents",
        joined.select(
            "pid",
            "tid",
            "mount_id",
            "signal",
            time_ns="end_ns",
            kind=pl.when(killed).then(pl.lit("crash")).otherwise(pl.lit("exit")),
            detail=pl.format("daemon {} ({}) {}", "pid", "name", how),
        ),
    )


def last_calls(events: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """What daemons did when a crash signal reached them: pid, crash_ns, crash_tid, doing?.

    One row per process. ``events``: TASK records; ``calls``: `daemon_calls`. ``doing`` names the
    innermost call that had not returned on that thread; if there is none, the innermost of the
    process; else its last call.
    """
    signals = (
        events.filter(pl.col("kind") == _SIGNAL)
        .sort("time_ns")
        .unique("pid", keep="first", maintain_order=True)
        .select("pid", crash_ns="time_ns", crash_tid="tid")
    )
    columns = ("pid", "tid", "function", "start_ns", "end_ns", "object_hash")
    before = signals.join(calls.select(columns), on="pid").filter(
        pl.col("start_ns") <= pl.col("crash_ns")
    )
    inside = pl.col("end_ns").is_null() | (pl.col("end_ns") >= pl.col("crash_ns"))
    ranked = before.with_columns(
        inside=inside, own=inside & (pl.col("tid") == pl.col("crash_tid"))
    ).sort("pid", "own", "inside", "start_ns")
    last = ranked.unique("pid", keep="last", maintain_order=True)
    return signals.join(
        last.select("pid", doing=_doing()), on="pid", how="left", maintain_order="left"
    )


def _doing() -> pl.Expr:
    """The call that a crash hit, in words."""
    about = (
        pl.when(pl.col("object_hash").is_not_null())
        .then(pl.format(" of {}", pl.col("object_hash").str.head(8)))
        .otherwise(pl.lit(""))
    )
    ago = ((pl.col("crash_ns") - pl.col("start_ns")) / 1e6).round(1)
    where = (
        pl.when("own")
        .then(pl.lit("in"))
        .when("inside")
        .then(pl.format("while thread {} was in", "tid"))
        .otherwise(pl.lit("after its last call"))
    )
    return pl.format("{} {}{}, begun {} ms before", where, "function", about, ago)


def _with_last_calls(deaths: pl.DataFrame, last_calls: pl.DataFrame) -> pl.DataFrame:
    """Date a crash by its signal and add the thread and call that it hit."""
    if not deaths.height:
        return deaths
    crash = pl.col("kind") == "crash"
    joined = deaths.join(last_calls, on="pid", how="left", maintain_order="left")
    return conform(
        "incidents",
        joined.with_columns(
            time_ns=pl.when(crash).then(pl.coalesce("crash_ns", "time_ns")).otherwise("time_ns"),
            tid=pl.when(crash).then("crash_tid").otherwise("tid"),
            detail=pl.when(crash & pl.col("doing").is_not_null())
            .then(pl.format("{}, {}", "detail", "doing"))
            .otherwise("detail"),
        ),
    )


def _lasting(evidence: IncidentEvidence) -> pl.DataFrame:
    """Operations without end that had lasted `HANG_NS` when their task, or else the recording,
    ended.
    """
    unended = evidence.operations.filter(pl.col("end_ns").is_null())
    lives = evidence.tasks.select("pid", "tid", born_ns="start_ns", died_ns="end_ns")
    deaths = unended.join(lives, on=["pid", "tid"]).filter(
        pl.col("start_ns").is_between("born_ns", "died_ns")
    )
    until = pl.min_horizontal("died_ns", pl.lit(evidence.stop_ns))
    return unended.join(
        deaths.select("op_id", "died_ns"), on="op_id", how="left", maintain_order="left"
    ).filter(until - pl.col("start_ns") >= HANG_NS)


def _hangs(evidence: IncidentEvidence) -> pl.DataFrame:
    """Hung operations; where one names no file, the request that it waits for may."""
    files = evidence.files
    nodes = files.select("mount_id", "path", node_id="inode").unique(["mount_id", "node_id"])
    unanswered = evidence.requests.filter(pl.col("end_ns").is_null())
    waited_for = (
        unanswered.unique("op_id")
        .join(nodes, on=["mount_id", "node_id"], how="left")
        .select("op_id", asked_mount="mount_id", asked_path="path")
    )
    rows = (
        _lasting(evidence)
        .join(files.select("file_id", "mount_id", "path"), on="file_id", how="left")
        .join(waited_for, on="op_id", how="left")
    )
    place = pl.coalesce("path", "asked_path", pl.lit("an unknown file"))
    return conform(
        "incidents",
        rows.select(
            "pid",
            "tid",
            time_ns="start_ns",
            mount_id=pl.coalesce("mount_id", "asked_mount"),
            kind=pl.lit("hang"),
            detail=pl.format("{} of {} never ended", pl.col("kind").cast(pl.String), place),
        ),
    )


def _dead_mounts(evidence: IncidentEvidence) -> pl.DataFrame:
    """Mounts whose client had ended when they were accessed, by the first access that failed."""
    refused = evidence.operations.filter(pl.col("result") == -errno.ENOTCONN)
    first = (
        evidence.failed.join(refused, on="op_id")
        .sort("start_ns", "op_id")
        .unique("mount_id", keep="first", maintain_order=True)
        .join(evidence.mounts.select("mount_id", "mountpoint"), on="mount_id", how="left")
    )
    place = pl.coalesce("mountpoint", pl.lit("an unknown mount"))
    return conform(
        "incidents",
        first.select(
            "pid",
            "tid",
            "mount_id",
            time_ns="start_ns",
            kind=pl.lit("dead"),
            detail=pl.format(
                "{} is dead: its client has ended, and every access fails (ENOTCONN) until it is "
                "unmounted with umount -l and mounted again",
                place,
            ),
        ),
    )


def _of_recorder(journal: Journal) -> pl.DataFrame:
    rows: list[dict[str, Any]] = [
        {
            "time_ns": line.get("time_ns", 0),
            "kind": line.get("incident") or "unknown",
            "pid": line.get("pid"),
            "detail": line.get("detail") or "",
        }
        for line in journal.of("incident")
    ]
    schema: dict[str, Any] = {
        "time_ns": pl.Int64, "kind": pl.String, "pid": pl.Int32, "detail": pl.String,
    }  # fmt: skip
    return conform("incidents", pl.DataFrame(rows, schema=schema, orient="row"))
