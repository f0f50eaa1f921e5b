"""Who lacked a CPU in segments of cause ``runqueue`` and ``reply``, and who had it then."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ..intervals import overlaps, uncovered

#: a segment in which a thread could run and had no CPU
LACKS_CPU = pl.col("cause").is_in(["runqueue", "reply"])
#: of these: it was a thread of the client that a request waited for
OF_CLIENT = (pl.col("cause") == "runqueue") & pl.col("unique").is_not_null()

_FACTS = ("pid", "tid", "ran_pid", "ran_name", "ran_user", "throttled", "part_ns")


def held_up(pieces: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Divide segments by the waits for a CPU that they consist of.

    ``pieces``: tid, start_ns, end_ns, cause, mount_id?, unique?, fetch_id? of segments or a view of
    them, those that are `LACKS_CPU`. ``tables``: those of the run. Returns of_client, cause,
    start_ns, end_ns, and of the thread's row in `cpu_waits` pid, tid, ran_pid, ran_name, ran_user,
    throttled, and part_ns, its whole length. What no row covers is left out: short waits.
    """
    waits = tables["cpu_waits"].select(
        "start_ns", "end_ns", *_FACTS[:-1], part_ns=pl.col("end_ns") - pl.col("start_ns")
    )
    own = _covered(pieces.filter(LACKS_CPU & ~OF_CLIENT), waits)
    clients = _of_clients(pieces.filter(OF_CLIENT), waits, tables)
    names = ["of_client", "cause", "start_ns", "end_ns", *_FACTS]
    both = [own.with_columns(of_client=pl.lit(value=False)), clients]
    return pl.concat([part.select(names) for part in both]).sort("start_ns", "tid")


def serving_threads(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Threads of clients that serve requests: mount_id, unique, tid."""
    calls = tables["daemon_calls"].select("mount_id", "unique", "tid")
    fetches = tables["fetches"].select("mount_id", "unique", "tid")
    return pl.concat([calls, fetches]).drop_nulls().unique(["mount_id", "unique"])


def _covered(spans: pl.DataFrame, waits: pl.DataFrame) -> pl.DataFrame:
    """The waits of each span's thread within it, with the span's ``cause``."""
    numbered = spans.with_row_index("interval")
    found = overlaps(numbered.select("interval", "tid", "start_ns", "end_ns"), waits)
    return found.join(numbered.select("interval", "cause"), on="interval", maintain_order="left")


def _of_clients(
    pieces: pl.DataFrame, waits: pl.DataFrame, tables: Mapping[str, pl.DataFrame]
) -> pl.DataFrame:
    """The waits of the client's threads that requests waited for.

    At each instant of the thread that served the request; else of one that serves none, the
    download thread; else of any other of the same client.
    """
    daemons = tables["mounts"].select("mount_id", daemon_pid="daemon_pid").drop_nulls()
    serving = serving_threads(tables)
    rest = (
        pieces.drop("tid", "pid", strict=False)
        .join(serving, on=["mount_id", "unique"], how="left")
        .join(daemons.unique("mount_id"), on="mount_id", how="left")
    )
    others = waits.join(serving.select("tid").unique(), on="tid", how="anti")
    done = list[pl.DataFrame]()
    for key, candidates in (
        ("tid", waits.with_columns(lane="tid")),
        ("daemon_pid", _one_at_a_time(others)),
        ("daemon_pid", _one_at_a_time(waits)),
    ):
        rows = rest.with_row_index("interval")
        spans = rows.select("interval", "start_ns", "end_ns", tid=key).drop_nulls()
        renamed = candidates.rename({"tid": "late_tid", "lane": "tid"})
        found = overlaps(spans, renamed)
        done.append(found.drop("tid").rename({"late_tid": "tid"}))
        rest = uncovered(rows, found).drop("interval")
    parts = pl.concat([part.select("start_ns", "end_ns", *_FACTS) for part in done])
    return parts.with_columns(
        of_client=pl.lit(value=True), cause=pl.lit("runqueue", pieces.schema["cause"])
    )


def _one_at_a_time(waits: pl.DataFrame) -> pl.DataFrame:
    """The waits of each process, of overlapping ones that begun first; ``lane``: the process."""
    reached = pl.col("end_ns").cum_max().shift(1).over("pid").fill_null(0)
    return (
        waits.sort("pid", "start_ns")
        .with_columns(pl.max_horizontal("start_ns", reached).alias("start_ns"), lane="pid")
        .filter(pl.col("end_ns") > pl.col("start_ns"))
    )
