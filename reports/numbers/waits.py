"""How long the command waited for downloads, by what came of them.

Wall time: a moment in which several threads of the command wait counts once. Other downloads may go
on at the same moment, so the parts may be more than the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from ...profiler.intervals import overlaps, united
from ...profiler.tables import CAUSES
from ..material import Frames, Window, file_names
from .running import download_times, stopped_ns
from .servers import Server, servers
from .sums import total

#: what comes of an attempt at a download
KINDS = ("answered", "in_flight", "unanswered", "error", "rejected", "refused")
#: those of attempts that brought nothing
VAIN = KINDS[2:]
#: what a fetch may be waited for, but that its client is let go on
_OF_DOWNLOADS = tuple(cause for cause in CAUSES if cause != "stopped")


@dataclass(frozen=True)
class Pending:
    """Fetches that had no end when recording ended. Nothing was received of the longest one for
    ``silent_ns`` in which its client was not stopped, and ``received_bytes`` before; ``path``: the
    file it was for.
    """

    count: int
    longest_ns: int
    silent_ns: int
    received_bytes: int
    path: str | None
    servers: tuple[Server, ...]


@dataclass(frozen=True)
class Slowest:
    """The answered download that the command waited for longest, and its parts, without the time
    in which its client was stopped.
    """

    waited_ns: int
    first_byte_ns: int
    transfer_ns: int
    wire_bytes: int
    path: str | None
    servers: tuple[Server, ...]


@dataclass(frozen=True)
class Waits:
    """How long the command waited for fetches.

    ``kinds_ns``: by what came of the attempt in progress: ``answered``; ``unanswered``, ``error``
    status, ``rejected`` content, connection ``refused``, which all were repeated or given up. And
    ``in_flight``: for fetches without an end, their earlier attempts included. None of it is time
    in which the client was stopped; ``total_ns`` has that, too.
    ``first_byte_ns``, ``transfer_ns``: of the time for those answered, what had these causes,
    connecting included. An attempt lasts until the next one, so pauses in between count.
    ``failed_at``: who was asked in vain.
    """

    total_ns: int
    kinds_ns: dict[str, int]
    first_byte_ns: int
    transfer_ns: int
    answered: int
    pending: Pending | None
    slowest: Slowest | None
    failed_at: tuple[Server, ...]

    @property
    def useless_ns(self) -> int:
        """Time that waited for attempts that brought nothing, summed over their kinds."""
        return sum(self.kinds_ns.get(kind, 0) for kind in VAIN)

    @property
    def in_flight_ns(self) -> int:
        """Time that waited for what had not come when recording ended."""
        return self.kinds_ns.get("in_flight", 0)


def waits(frames: Frames, window: Window) -> Waits:
    """Return how long the command waited; ``frames``: only what is its own."""
    waited = _waited(frames, *_OF_DOWNLOADS)
    tried = attempts(frames, window)
    answered = tried.filter(pl.col("kind") == "answered")
    kinds = {kind: _met_ns(waited, tried.filter(pl.col("kind") == kind)) for kind in KINDS}
    kinds["in_flight"] = _met_ns(waited, pending(frames, window))
    return Waits(
        total_ns=_length(_waited(frames)),
        kinds_ns={kind: ns for kind, ns in kinds.items() if ns},
        first_byte_ns=_met_ns(_waited(frames, "connect", "first_byte"), answered),
        transfer_ns=_met_ns(_waited(frames, "transfer"), answered),
        answered=answered.height,
        pending=_longest_pending(frames, window),
        slowest=_slowest(frames, waited, answered),
        failed_at=servers(tried.filter(pl.col("kind").is_in(VAIN))),
    )


def attempts(frames: Frames, window: Window) -> pl.DataFrame:
    """Return the attempts of fetches: rows of `downloads` with fetch_id, start_ns, end_ns, kind.

    An attempt ends when the next one begins, or with its fetch.
    """
    fetches = frames["fetches"].select(
        "fetch_id", "outcome", "object_kind", fetch_end_ns="end_ns", last_id="download_id"
    )
    last = fetches.select(last_of="fetch_id", download_id="last_id").drop_nulls("download_id")
    began = pl.coalesce("sent_ns", "connect_ns", "closed_ns")
    known = frames["downloads"].join(
        last.unique("download_id"), on="download_id", how="left", maintain_order="left"
    )
    dated = known.with_columns(fetch_id=pl.coalesce("fetch_id", "last_of"), start_ns=began)
    of_fetches = dated.drop_nulls(["fetch_id", "start_ns"]).sort("fetch_id", "start_ns")
    next_ns = pl.col("start_ns").shift(-1).over("fetch_id")
    ends = of_fetches.with_columns(next_ns=next_ns).join(
        fetches, on="fetch_id", maintain_order="left"
    )
    until = pl.coalesce("next_ns", "fetch_end_ns", pl.lit(window.end_ns))
    return ends.with_columns(end_ns=until, kind=_kind())


def _kind() -> pl.Expr:
    again = pl.col("next_ns").is_not_null()
    is_useless = again | (pl.col("outcome") == "failed").fill_null(value=False)
    return (
        pl.when(~again & pl.col("fetch_end_ns").is_null())
        .then(pl.lit("in_flight"))
        .when(pl.col("sent_ns").is_null())
        .then(pl.lit("refused"))
        .when(pl.col("status") >= 400)
        .then(pl.lit("error"))
        .when(is_useless & pl.col("status").is_null())
        .then(pl.lit("unanswered"))
        .when(is_useless)
        .then(pl.lit("rejected"))
        .otherwise(pl.lit("answered"))
    )


def _waited(frames: Frames, *causes: str) -> pl.DataFrame:
    """When a thread waited for a fetch, or for one that joined it: fetch_id, start_ns, end_ns.

    For these causes; for any where none is named.
    """
    segments = frames["segments"].drop_nulls("fetch_id")
    if causes:
        segments = segments.filter(pl.col("cause").is_in(causes))
    joined = frames["fetches"].select("fetch_id", "joined_fetch_id")
    of_downloads = segments.join(joined, on="fetch_id", how="left").select(
        "start_ns", "end_ns", fetch_id=pl.coalesce("joined_fetch_id", "fetch_id")
    )
    return united(of_downloads, "fetch_id")


def _within(waited: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The waits within spans (fetch_id, start_ns, end_ns) of their fetch; ``interval``: the row."""
    asked = spans.select("fetch_id", "start_ns", "end_ns").with_row_index("interval")
    known = asked.drop_nulls().filter(pl.col("end_ns") > pl.col("start_ns"))
    return overlaps(known.rename({"fetch_id": "tid"}), waited.rename({"fetch_id": "tid"}))


def _met_ns(waited: pl.DataFrame, spans: pl.DataFrame) -> int:
    return _length(_within(waited, spans))


def _length(intervals: pl.DataFrame) -> int:
    """How long any of the intervals lasts."""
    one = united(intervals.select("start_ns", "end_ns", all=pl.lit(0)), "all")
    return total(one.select(ns=pl.col("end_ns") - pl.col("start_ns")), "ns")


def pending(frames: Frames, window: Window) -> pl.DataFrame:
    """Return the fetches without an end, which the window ends."""
    unended = frames["fetches"].filter(pl.col("end_ns").is_null())
    return unended.with_columns(end_ns=pl.lit(window.end_ns, pl.Int64))


def _longest_pending(frames: Frames, window: Window) -> Pending | None:
    rows = pending(frames, window).sort("start_ns")
    if rows.is_empty():
        return None
    row = rows.join(file_names(frames), on="file_id", how="left", maintain_order="left").row(
        0, named=True
    )
    last = rows.head(1).select("download_id")
    tried = frames["downloads"].join(last, on="download_id", how="semi")
    latest = tried.select(pl.max_horizontal("sent_ns", "last_byte_ns").max()).item()
    return Pending(
        count=rows.select(pl.coalesce("object_hash", pl.format("{}", "fetch_id")))
        .to_series()
        .n_unique(),
        longest_ns=window.end_ns - row["start_ns"],
        silent_ns=_running_ns(row, latest or row["start_ns"], window, frames),
        received_bytes=total(tried, "wire_bytes"),
        path=row["path"],
        servers=servers(tried),
    )


def _running_ns(row: dict[str, Any], since_ns: int, window: Window, frames: Frames) -> int:
    """From then to the end of recording, without the stops of the fetch's client."""
    span = {"download_id": 0, "mount_id": row["mount_id"]}
    times = {"start_ns": since_ns, "end_ns": window.end_ns}
    schema = {
        "download_id": pl.Int32,
        "mount_id": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
    }
    asked = pl.DataFrame([{**span, **times}], schema=schema)
    return window.end_ns - since_ns - stopped_ns(asked, frames)


def _slowest(frames: Frames, waited: pl.DataFrame, answered: pl.DataFrame) -> Slowest | None:
    answered = answered.drop_nulls(["sent_ns", "first_byte_ns", "last_byte_ns"])
    met = _within(waited, answered)
    by_attempt = met.group_by("interval").agg(ns=(pl.col("end_ns") - pl.col("start_ns")).sum())
    if by_attempt.is_empty():
        return None
    longest = by_attempt.sort("ns", "interval", descending=[True, False]).row(0, named=True)
    row = answered.slice(longest["interval"], 1)
    files = (
        frames["fetches"]
        .select("fetch_id", "file_id")
        .join(file_names(frames), on="file_id", how="left")
    )
    took = download_times(frames).select("download_id", "to_first_byte_ns", "in_transfer_ns")
    row = row.join(took, on="download_id")
    values: dict[str, Any] = row.join(files, on="fetch_id", how="left").row(0, named=True)
    return Slowest(
        waited_ns=longest["ns"],
        first_byte_ns=values["to_first_byte_ns"],
        transfer_ns=values["in_transfer_ns"],
        wire_bytes=values["wire_bytes"] or 0,
        path=values["path"],
        servers=servers(row.select(frames["downloads"].columns)),
    )
