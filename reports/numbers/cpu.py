"""Who could run and had no CPU, for how long, who had it meanwhile, and which quotas there were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from ...profiler.attribution.cpu_holders import LACKS_CPU, OF_CLIENT, held_up, serving_threads
from ..material import WHOLE_COMMAND, Frames, Material
from .sums import total

Whose = Literal["command", "client"]
Had = Literal["quota", "neighbour", "command", "client"]
#: neighbours, and threads, that are named
MAX_NAMED = 5
DOWNLOADING, SERVING = "the download thread", "threads that serve requests"
#: a longer wait for a CPU that was idle is a quota's, if one was used up
_IDLE_NS = 1_000_000


@dataclass(frozen=True)
class Holder:
    """Who had the CPU or kept a thread off it: a quota, another program, the command, the client.

    ``name``, ``pid``: of a neighbour, of whose name there were so many ``processes``; ``users``:
    theirs. The name and the users are None and empty if they are not known.
    """

    kind: Had
    ns: int
    name: str | None = None
    pid: int | None = None
    processes: int = 1
    users: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lack:
    """Time of a phase, or of the whole command, in which threads could run and had no CPU.

    ``whose``: the command's own, or the client's that it waited for. ``ns``, of ``of_ns``: all that
    is `runqueue`, and ``replied_ns``, what of `reply` had a holder. ``holders``, ``threads``: parts
    of it by what had the CPU and by what lacked it, the longest first. What they leave are waits
    under 50 µs, waits for an idle CPU, and waits of which it is not known.
    """

    subject: str
    of_ns: int
    whose: Whose
    ns: int
    threads: dict[str, int]
    holders: tuple[Holder, ...]
    replied_ns: int = 0

    @property
    def share(self) -> float:
        """Of the subject's time."""
        return self.ns / max(self.of_ns, 1)

    @property
    def held_ns(self) -> int:
        """Time in which it is known what had the CPU."""
        return sum(holder.ns for holder in self.holders)

    def held_by(self, kind: Had) -> int:
        """Time in which this kind of holder had the CPU."""
        return sum(holder.ns for holder in self.holders if holder.kind == kind)


@dataclass(frozen=True)
class Quota:
    """A quota of CPU time of a cgroup, and what became of it during the run.

    ``cpus``: how many CPUs' time it allows; ``throttled_ns``: how long it kept the cgroup off them,
    summed over the CPUs. ``whose`` process runs in the cgroup or below.
    """

    path: str
    whose: Whose
    cpus: float
    periods: int
    throttled_periods: int
    throttled_ns: int


@dataclass(frozen=True)
class Cpu:
    """Want of CPU. ``cpus``: of the machine; ``allowed``: of them, those that the command may use.

    ``lacks``: the longest first. Of all threads of the command together, ``ran_ns`` on a CPU and
    ``lacked_ns`` without; ``wanting``: how many wanted one at once, at most.
    """

    cpus: int | None = None
    lacks: tuple[Lack, ...] = ()
    quotas: tuple[Quota, ...] = ()
    ran_ns: int = 0
    lacked_ns: int = 0
    wanting: int = 0
    allowed: int | None = None

    @property
    def is_bound(self) -> bool:
        """Whether the command may not use all CPUs of the machine."""
        if self.cpus is None or self.allowed is None:
            return False
        return self.allowed < self.cpus

    @property
    def usable(self) -> int | None:
        """How many CPUs the command can use."""
        return self.allowed if self.is_bound else self.cpus


def cpu(material: Material) -> Cpu:
    """Return who lacked a CPU in the whole command and in its phases."""
    frames, meta = material.frames, material.meta
    cpus, allowed = meta.get("cpus"), meta.get("allowed_cpus")
    quotas = _quotas(frames)
    lacks = [
        lack
        for subject, of_ns, pieces in _subjects(material)
        for lack in _lacks(
            subject, of_ns, pieces, _with_holders(held_up(pieces, frames), frames, quotas)
        )
    ]
    running = frames["segments"].filter(pl.col("cause").is_in(["cpu", "copy"]))
    without = frames["segments"].filter(LACKS_CPU & ~OF_CLIENT)
    return Cpu(
        cpus=cpus if isinstance(cpus, int) else None,
        lacks=tuple(sorted(lacks, key=lambda lack: -lack.ns)),
        quotas=quotas,
        ran_ns=_time(running),
        lacked_ns=_time(without),
        wanting=_most_at_once(pl.concat([running, without])),
        allowed=allowed if isinstance(allowed, int) else None,
    )


def _subjects(material: Material) -> Iterator[tuple[str, int, pl.DataFrame]]:
    """What is said to have lacked a CPU, how long it took, and its pieces of the tiling."""
    wall = material.command_causes
    yield WHOLE_COMMAND, _time(wall), wall.filter(LACKS_CPU)
    if not material.frames["phases"].height:
        return
    spans = material.phases.select(
        "name",
        pl.int_range(pl.len(), dtype=pl.Int32).alias("phase"),
        ns=pl.col("end_ns").fill_null(material.window.end_ns) - pl.col("start_ns"),
    )
    for (name,), same in spans.group_by("name", maintain_order=True):
        yield str(name), total(same, "ns"), material.phase_lacks.join(same, on="phase", how="semi")


def _quotas(frames: Frames) -> tuple[Quota, ...]:
    """The quotas that were sampled, the most throttled first."""
    daemons = frames["tasks"].filter(pl.col("role") == "daemon")["pid"].implode()
    counted = [
        (pl.col(name).max() - pl.col(name).min()).fill_null(0).alias(name)
        for name in ("periods", "throttled_periods", "throttled_ns")
    ]
    whose = (
        pl.when(pl.col("pid").is_in(daemons)).then(pl.lit("client")).otherwise(pl.lit("command"))
    )
    rows = (
        frames["cgroups"]
        .with_columns(whose=whose, cpus=pl.col("quota_us") / pl.col("period_us"))
        .group_by("path", "whose")
        .agg(pl.col("cpus").last(), *counted)
        .sort("throttled_ns", "path", descending=[True, False])
    )
    return tuple(Quota(**row) for row in rows.iter_rows(named=True))


def _with_holders(held: pl.DataFrame, frames: Frames, quotas: tuple[Quota, ...]) -> pl.DataFrame:
    """Add ``kind`` of what had the CPU, ``thread`` that lacked it, and ns; drop waits for an idle
    CPU, and those of which it is not known.
    """
    serves = pl.col("tid").is_in(serving_threads(frames)["tid"].unique().implode())
    of_client = pl.when(serves).then(pl.lit(SERVING)).otherwise(pl.lit(DOWNLOADING))
    tasks = frames["tasks"].sort("start_ns")
    names = tasks.unique("tid", keep="last", maintain_order=True).select("tid", "name")
    return (
        held.join(names, on="tid", how="left", maintain_order="left")
        .with_columns(
            kind=_kind(tasks, {quota.whose for quota in quotas if quota.throttled_periods}),
            thread=pl.when("of_client").then(of_client).otherwise(pl.col("name").fill_null("")),
            ns=pl.col("end_ns") - pl.col("start_ns"),
        )
        .drop_nulls("kind")
    )


def _kind(tasks: pl.DataFrame, used_up: set[Whose]) -> pl.Expr:
    """What had the CPU; null: it was idle, or not known. ``used_up``: whose quotas were."""
    targets, daemons = (
        tasks.filter(pl.col("role") == role)["pid"].unique().implode()
        for role in ("target", "daemon")
    )
    limited = pl.when("of_client").then("client" in used_up).otherwise("command" in used_up)
    idle, before = pl.col("ran_pid") == 0, pl.col("ran_pid")
    return (
        pl.when(pl.col("throttled") | (idle & (pl.col("part_ns") >= _IDLE_NS) & limited))
        .then(pl.lit("quota"))
        .when(before.is_in(targets))
        .then(pl.lit("command"))
        .when(before.is_in(daemons))
        .then(pl.lit("client"))
        .when(~idle)
        .then(pl.lit("neighbour"))
    )


def _lacks(subject: str, of_ns: int, pieces: pl.DataFrame, held: pl.DataFrame) -> Iterator[Lack]:
    """Of the command and of the client, where anything is known to have had the CPU."""
    runqueue = pl.col("cause") == "runqueue"
    parties: tuple[tuple[Whose, pl.Expr, pl.DataFrame], ...] = (
        ("command", runqueue & ~OF_CLIENT, held.filter(~pl.col("of_client"))),
        ("client", OF_CLIENT, held.filter("of_client")),
    )
    for whose, lacked, rows in parties:
        if rows.height:
            replied_ns = _time(rows.filter(cause="reply"))
            yield Lack(
                subject=subject,
                of_ns=of_ns,
                whose=whose,
                ns=_time(pieces.filter(lacked)) + replied_ns,
                threads=dict(_summed(rows, "thread").head(MAX_NAMED).iter_rows()),
                holders=tuple(sorted(_holders(rows), key=lambda holder: -holder.ns)),
                replied_ns=replied_ns,
            )


def _holders(held: pl.DataFrame) -> Iterator[Holder]:
    """What had the CPU. A neighbour is named by its thread that had it longest."""
    ours = held.filter(pl.col("kind") != "neighbour")
    for kind, ns in _summed(ours, "kind").iter_rows():
        yield Holder(kind, ns)
    others = held.filter(pl.col("kind") == "neighbour")
    threads = _summed(others, "ran_pid", "ran_name", "ran_user")
    processes = threads.group_by("ran_pid", maintain_order=True).agg(
        pl.col("ran_name", "ran_user").drop_nulls().first(), pl.col("ns").sum()
    )
    same = processes.group_by("ran_name", maintain_order=True).agg(
        pl.col("ns").sum(),
        pl.col("ran_pid").sort_by("ns").last(),
        processes=pl.len(),
        users=pl.col("ran_user").drop_nulls().unique().sort(),
    )
    for name, ns, pid, count, users in same.iter_rows():
        yield Holder("neighbour", ns, name, pid, count, tuple(users))


def _summed(held: pl.DataFrame, *by: str) -> pl.DataFrame:
    """ns, the longest first."""
    sums = held.group_by(by).agg(pl.col("ns").sum())
    return sums.sort("ns", *by, descending=[True, *(False for _ in by)])


def _time(pieces: pl.DataFrame) -> int:
    return int((pieces["end_ns"] - pieces["start_ns"]).sum())


def _most_at_once(spans: pl.DataFrame) -> int:
    begun = spans.select(at="start_ns", change=pl.lit(1))
    ended = spans.select(at="end_ns", change=pl.lit(-1))
    changes = pl.concat([begun, ended]).sort("at", "change")
    return int(changes["change"].cum_sum().max() or 0)  # type: ignore[arg-type]
