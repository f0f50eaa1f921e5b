"""The request that an operation which never ended waits for."""

from __future__ import annotations

import polars as pl

from .segments import Evidence


def with_hung_requests(evidence: Evidence) -> pl.DataFrame:
    """`blocked`, with a request in flight for the last sleep of each operation that never ended.

    No answer ended that sleep, so there is no proof. But the operation waits for a request for its
    bytes, whichever thread sent it, or else for the request that it sent itself.
    """
    unended = _in_their_lives(evidence)
    in_flight = _with_deaths(_open_at_an_end(unended, evidence.requests), evidence.tasks)
    for_bytes = _requests_for_bytes(unended, in_flight, evidence)
    own = (
        unended.select("op_id", "gone_ns")
        .join(in_flight, on="op_id", maintain_order="left")
        .filter(_WAS_OPEN)
        .select("op_id", "mount_id", "unique")
    )
    waited_for = pl.concat([for_bytes, own]).unique("op_id", keep="first", maintain_order=True)
    if not waited_for.height:
        return evidence.blocked
    # of nested operations, the innermost one's request
    sleeps = (
        _last_sleeps(unended, evidence.blocked)
        .join(waited_for, on="op_id")
        .sort("began_ns")
        .select("row", hung_mount="mount_id", hung_unique="unique")
        .unique("row", keep="last")
    )
    joined = evidence.blocked.with_row_index("row").join(
        sleeps, on="row", how="left", maintain_order="left"
    )
    return joined.with_columns(
        mount_id=pl.coalesce("hung_mount", "mount_id"), unique=pl.coalesce("hung_unique", "unique")
    ).drop("row", "hung_mount", "hung_unique")


def _in_their_lives(evidence: Evidence) -> pl.DataFrame:
    """Operations that never ended, with ``born_ns``? and ``gone_ns``?, when their thread lived.

    Of a thread that has several lives it is the one in which the operation began.
    """
    unended = evidence.operations.filter(pl.col("end_ns").is_null())
    lives = evidence.tasks.select("tid", born_ns="start_ns", gone_ns="end_ns")
    known = (
        unended.select("op_id", "tid", "start_ns")
        .join(lives, on="tid")
        .filter(
            (pl.col("born_ns") <= pl.col("start_ns"))
            & (pl.col("start_ns") <= pl.col("gone_ns")).fill_null(value=True)
        )
        .select("op_id", "born_ns", "gone_ns")
    )
    return unended.join(known, on="op_id", how="left", maintain_order="left")


def _open_at_an_end(unended: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Requests in flight when recording stopped, or after the first of these threads died."""
    first_ns = unended["gone_ns"].min()
    after = pl.lit(value=False) if first_ns is None else pl.col("end_ns") > first_ns
    return requests.filter(pl.col("end_ns").is_null() | after)


#: a request that was in flight when the operation's thread died, or when recording stopped
_WAS_OPEN = pl.col("end_ns").is_null() | (pl.col("end_ns") > pl.col("gone_ns")).fill_null(
    value=False
)


def _with_deaths(in_flight: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """Add ``died_ns``?, when the thread that queued a request ended."""
    lives = tasks.select("pid", "tid", born_ns="start_ns", died_ns="end_ns")
    request = ["mount_id", "unique", "queued_ns"]
    deaths = (
        in_flight.join(lives, on=["pid", "tid"])
        .filter(pl.col("queued_ns").is_between("born_ns", "died_ns"))
        .select(*request, "died_ns")
        .unique(request)
    )
    return in_flight.join(deaths, on=request, how="left")


def _requests_for_bytes(
    unended: pl.DataFrame, in_flight: pl.DataFrame, evidence: Evidence
) -> pl.DataFrame:
    """READs in flight for the bytes of operations, by offset: op_id, mount_id, unique.

    In flight when recording stopped, or when the operation's thread died.

    The kernel silently drops a request that no daemon has taken when its sender is killed, so a
    later operation cannot be waiting for it.
    """
    node = ["mount_id", "node_id"]
    reads = evidence.requests.drop_nulls(["op_id", "offset_bytes"]).select("op_id", *node)
    files = reads.join(evidence.operations.select("op_id", "file_id"), on="op_id")
    needed = unended.drop_nulls(["file_id", "offset_bytes", "size_bytes"]).select(
        "op_id",
        "file_id",
        "gone_ns",
        began_ns="start_ns",
        from_byte="offset_bytes",
        to_byte=pl.sum_horizontal("offset_bytes", "size_bytes"),
    )
    pairs = needed.join(files.select("file_id", *node).unique(), on="file_id").join(
        in_flight, on=node
    )
    overlapping = (pl.col("offset_bytes") < pl.col("to_byte")) & (
        pl.sum_horizontal("offset_bytes", "size_bytes") > pl.col("from_byte")
    )
    dropped = pl.col("served_ns").is_null() & (pl.col("died_ns") < pl.col("began_ns"))
    kept = pairs.filter(_WAS_OPEN & overlapping & ~dropped.fill_null(value=False))
    kept = kept.sort("offset_bytes")
    return kept.select("op_id", "mount_id", "unique")


def _last_sleeps(unended: pl.DataFrame, blocked: pl.DataFrame) -> pl.DataFrame:
    """The last sleep of each operation, if no request's end ended it: op_id, began_ns, row.

    It lasted until the thread died or the recording stopped. ``row``: its row in `blocked`.
    """
    began = unended.drop_nulls("born_ns").select("op_id", "tid", "gone_ns", began_ns="start_ns")
    sleeps = blocked.with_row_index("row").filter(
        ~pl.col("off_reason").is_in(["preempted", "stopped"])
    )
    inside = sleeps.join(began, on="tid").filter(
        (pl.col("start_ns") >= pl.col("began_ns"))
        & (pl.col("start_ns") <= pl.col("gone_ns")).fill_null(value=True)
    )
    last = inside.sort("start_ns").unique("op_id", keep="last")
    stayed = pl.col("end_ns").is_null() | pl.col("gone_ns").is_not_null()
    return last.filter(pl.col("unique").is_null() & stayed).select("op_id", "began_ns", "row")
