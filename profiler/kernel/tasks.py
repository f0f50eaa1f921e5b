"""Table `tasks`: processes and threads, from their life events."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from ...probes.events import ROLE_DAEMON, TASK_KINDS
from ..intervals import next_begun
from ..run.journal import Journal, Line
from ..run.text import c_strings, visible
from ..run.times import happened
from ..tables import ROLE, conform

_FORK, _EXEC, _EXIT, _SIGNAL = (
    TASK_KINDS.index(kind) for kind in ("fork", "exec", "exit", "signal")
)
#: a client forks twice to detach from its terminal
_FORKS_TO_DAEMON = 2


def tasks(events: pl.DataFrame) -> pl.DataFrame:
    """Fold TASK records into one row per (tid, start_ns); the latest name and argv win.

    A daemon killed by a signal keeps as ``signal`` the first crash signal of its process: the
    client's watchdog may send another one afterwards. An exec ends all threads of its process but
    one, and that one continues under the leader's tid (kernel: de_thread). So an exit of the leader
    before an exec is not its end, and a thread without an exit ends at the exec.
    """
    ordered = events.sort("time_ns", maintain_order=True)
    named = ordered.with_columns(
        c_strings(ordered["name"]),
        _arguments(ordered),
        start_ns=pl.coalesce(happened("start_ns"), "time_ns"),
        parent=pl.when(pl.col("parent_pid") != 0).then("parent_pid"),
    ).with_columns(
        ended=pl.when(_is_end()).then("time_ns"),
        code=pl.when(_is_end()).then("exit_code"),
        # of any thread: the signal ends all of them
        crash=pl.col("exit_code").filter(pl.col("kind") == _SIGNAL).first().over("pid"),
    )
    folded = named.group_by("tid", "start_ns", maintain_order=True).agg(
        pl.col("pid").last(),
        parent_pid=pl.col("parent").drop_nulls().first().fill_null(0),
        name=pl.col("name").last(),
        argv=pl.col("argv").drop_nulls().last(),
        is_daemon=(pl.col("role") == ROLE_DAEMON).any(),
        end_ns=pl.col("ended").drop_nulls().last(),
        code=pl.col("code").drop_nulls().last(),
        crash=pl.col("crash").first(),
    )
    rows = _ended_by_exec(folded, named.filter(pl.col("kind") == _EXEC))
    return conform("tasks", _ended(rows).sort("start_ns", "tid"))


def with_daemons_at_start(
    tasks: pl.DataFrame, journal: Journal, daemon_pids: pl.Series
) -> pl.DataFrame:
    """Add the threads of daemons that were alive at the start and had no life event since.

    Only processes in ``daemon_pids``: daemons of mounts that the command did not use are left out.
    ``start_ns`` is 0 where the recorder does not know when a thread began.
    """
    pids = set(daemon_pids)
    threads = (
        (line, tid)
        for line in journal.of("daemon")
        if line["pid"] in pids
        for tid in dict.fromkeys([line["pid"], *(line.get("threads") or ())])
    )
    return _with_silent(tasks, threads, "daemon")


def with_neighbours(tasks: pl.DataFrame, journal: Journal) -> pl.DataFrame:
    """Add the processes of others that used the mounts, as far as they have been named."""
    leaders = ((line, line["pid"]) for line in journal.of("neighbour"))
    return _with_silent(tasks, leaders, "neighbour")


def _with_silent(
    tasks: pl.DataFrame, threads: Iterable[tuple[Line, int]], role: str
) -> pl.DataFrame:
    """Add threads of a role, each by a line of the journal and its tid, that have no row yet."""
    rows = [
        (line["pid"], tid, line.get("name") or "", line.get("start_ns") or 0)
        for line, tid in threads
    ]
    schema = {"pid": pl.Int32, "tid": pl.Int32, "name": pl.String, "start_ns": pl.Int64}
    alive = pl.DataFrame(rows, schema=schema, orient="row").unique("tid", maintain_order=True)
    silent = alive.join(tasks, on="tid", how="anti", maintain_order="left").with_columns(
        parent_pid=pl.lit(0), role=pl.lit(role, dtype=ROLE)
    )
    return pl.concat([tasks, conform("tasks", silent)]).sort("start_ns", "tid")


def with_founders(serving: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Add the client processes that forked into the daemons.

    They loaded the manifest and the catalog before they forked. ``serving``: pid, mount_id;
    ``events``: TASK records. Founders come after the daemons.
    """
    forks = events.filter((pl.col("kind") == _FORK) & (pl.col("role") == ROLE_DAEMON)).filter(
        pl.col("pid") == pl.col("tid")
    )
    parents = forks.select("pid", founder="parent_pid").unique("pid", keep="last")
    family = serving
    for _ in range(_FORKS_TO_DAEMON):
        founders = family.join(parents, on="pid").select("mount_id", pid="founder").unique("pid")
        new = founders.join(family, on="pid", how="anti").select(family.columns)
        family = pl.concat([family, new])
    return family


def with_unannounced(tasks: pl.DataFrame, operations: pl.DataFrame) -> pl.DataFrame:
    """Add target threads that have operations (pid, tid, start_ns) but no life event."""
    missing = (
        operations.join(tasks, on="tid", how="anti")
        .group_by("pid", "tid")
        .agg(pl.col("start_ns").min())
    )
    rows = missing.with_columns(
        parent_pid=pl.lit(0), name=pl.lit(""), role=pl.lit("target", dtype=ROLE)
    )
    return pl.concat([tasks, conform("tasks", rows)]).sort("start_ns", "tid")


def _arguments(events: pl.DataFrame) -> pl.Series:
    rows = [
        _split(argv, length) if kind == _EXEC and length else None
        for argv, length, kind in events.select("argv", "arguments", "kind").iter_rows()
    ]
    return pl.Series("argv", rows, dtype=pl.List(pl.String))


def _split(argv: bytes, length: int) -> list[str]:
    """Split argv at its NULs. Records drop trailing NULs, which may end empty arguments."""
    whole = argv[:length].ljust(min(length, 256), b"\0")
    return [visible(part) for part in whole.removesuffix(b"\0").split(b"\0")]


def _is_end() -> pl.Expr:
    """An exit after the last exec of the task."""
    execs = pl.col("time_ns").filter(pl.col("kind") == _EXEC)
    last_exec = execs.max().over("tid", "start_ns")
    return (pl.col("kind") == _EXIT) & (pl.col("time_ns") > last_exec.fill_null(0))


def _ended_by_exec(folded: pl.DataFrame, execs: pl.DataFrame) -> pl.DataFrame:
    """End threads that have no end, except leaders, at the next exec of their process."""
    times = execs.select("pid", exec_ns="time_ns")
    joined = next_begun(folded, times, at="start_ns", begin="exec_ns", by="pid")
    by_exec = pl.when(pl.col("tid") != pl.col("pid")).then("exec_ns")
    return joined.with_columns(pl.coalesce("end_ns", by_exec).alias("end_ns"))


def _ended(folded: pl.DataFrame) -> pl.DataFrame:
    signal = pl.col("code") % 128
    return folded.with_columns(
        signal=pl.when(signal != 0).then(pl.coalesce("crash", signal)),
        exit_code=pl.when(signal == 0).then(pl.col("code") // 256 % 256),
        role=pl.when("is_daemon").then(pl.lit("daemon")).otherwise(pl.lit("target")).cast(ROLE),
    )
