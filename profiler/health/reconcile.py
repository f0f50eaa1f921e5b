"""Table `reconciliation`: what was recorded against what the client counted itself.

Whatever the client does between the two readings of its counters is in both counts, for whichever
process. `Fetcher::Fetch` counts an object (``user.ndownload``) when it hands it to the download
manager; the download manager counts the bytes of an answer's body (``user.rx``, in KiB, rounded
down) when it is done with the answer. When exactly is not seen. What may have been counted on
either side of a reading is in flight: a difference begins where even that does not explain it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..client.daemon_calls import FETCH, LOOKUP
from ..run.journal import Journal
from ..tables import HORIZON_NS, conform
from .counters import NDOWNLOAD, RX, Observed, Reading, readings

OBJECTS, BYTES, CHUNKS = "objects", "body_bytes", "chunks"
_KIB = 1024
_LATE = "its counters were read {:.1f} s after recording had ended"
_UNSEEN = (
    "the client counted {:,} more, which may be for others: what they did in the {:.0f} ms before "
    "the command first used the mount is not recorded"
)


@dataclass(frozen=True)
class _Amount:
    """What was recorded between the readings, and what was in flight at one of them."""

    recorded: int
    in_flight: int
    what: str


@dataclass(frozen=True)
class Recorded:
    """What was recorded: when of which mounts, and the tables; ``fetches`` with ``queued_ns``."""

    observed: Observed
    fetches: pl.DataFrame
    downloads: pl.DataFrame
    chunks: pl.DataFrame
    calls: pl.DataFrame


def reconciliation(journal: Journal, recorded: Recorded) -> pl.DataFrame:
    """Three rows for every mount whose counters were read after the command."""
    fetches = _with_handing(recorded.fetches, recorded.calls)
    downloads = _with_done(recorded.downloads, recorded.fetches)
    rows: list[dict[str, Any]] = []
    for reading in readings(journal, recorded.observed):
        of_mount = pl.col("mount_id") == reading.mount_id
        rows.append(_objects(reading, fetches.filter(of_mount)))
        rows.append(_bytes(reading, downloads.filter(of_mount)))
        rows.append(_chunks(reading, fetches.filter(of_mount), recorded.chunks))
    names = ("mount_id", "quantity", "client_before", "client_after", "counted", "recorded",
             "in_flight", "difference", "remark")  # fmt: skip
    schema = dict.fromkeys(names, pl.Int64()) | {"quantity": pl.String(), "remark": pl.String()}
    return conform("reconciliation", pl.DataFrame(rows, schema=schema, orient="row"))


def _with_handing(fetches: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Add ``handed``: whether the client counted the object as one it downloads itself.

    It does so after two misses: the first lookup, and a second one once it knows that no other
    thread downloads the object; even if its cache then has no room for it. Where no calls are
    known: every fetch that did not wait for another one's download.
    """
    own = calls.filter(pl.col("function") == FETCH)["call_id"]
    misses = (
        calls.filter((pl.col("function") == LOOKUP) & (pl.col("result") < 0))
        .group_by(call_id="parent_id")
        .agg(misses=pl.len())
    )
    counted = fetches.join(misses, on="call_id", how="left", maintain_order="left")
    by_call = pl.col("queued_ns").is_not_null() | (pl.col("misses") > 1)
    not_joined = pl.col("outcome").ne_missing(pl.lit("joined"))
    return counted.with_columns(
        handed=pl.when(pl.col("call_id").is_not_null())
        .then(by_call & pl.col("call_id").is_in(own.implode()))
        .otherwise(not_joined)
    ).drop("misses")


def _with_done(downloads: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """Add ``done_ns``?: by when the client was done with the answer; null: not seen.

    It then commits the object, sends the next request on the connection, closes it or ends the
    fetch, whichever is seen first.
    """
    ends = fetches.select("fetch_id", fetch_end_ns="end_ns")
    following = pl.col("sent_ns").shift(-1).over("connection_id")
    return (
        downloads.sort("sent_ns", nulls_last=True)
        .with_columns(next_ns=following)
        .join(ends, on="fetch_id", how="left")
        .with_columns(
            done_ns=pl.min_horizontal("committed_ns", "next_ns", "closed_ns", "fetch_end_ns")
        )
    )


def _split(reading: Reading, events: pl.DataFrame, early: str, late: str) -> pl.DataFrame:
    """Events that the client may have counted between the readings, with ``is_certain``.

    ``early``, ``late``: columns with the bounds of the moment at which it counted.
    """
    last = pl.col(late).fill_null(HORIZON_NS)
    possible = (last >= reading.begin[0]) & (pl.col(early) <= reading.end[1])
    certain = (pl.col(early) >= reading.begin[1]) & (last <= reading.end[0])
    return events.filter(possible.fill_null(value=False)).with_columns(is_certain=certain)


def _objects(reading: Reading, fetches: pl.DataFrame) -> dict[str, Any]:
    handed = fetches.filter("handed").with_columns(counted_ns=pl.coalesce("queued_ns", "end_ns"))
    met = _split(reading, handed, "start_ns", "counted_ns")
    certain = met.filter("is_certain").height
    return _row(reading, OBJECTS, _Amount(certain, met.height - certain, "objects"))


def _bytes(reading: Reading, downloads: pl.DataFrame) -> dict[str, Any]:
    """A difference below 1 KiB is rounding, not a difference."""
    met = _split(reading, downloads, "last_byte_ns", "done_ns")
    headless = met["header_bytes"].null_count()
    if headless:
        why = f"the length of the headers of {headless:,} answers was not seen"
        return _row(reading, BYTES, None, why)
    body = met.select("is_certain", bytes=pl.col("wire_bytes") - pl.col("header_bytes"))
    certain = int(body.filter("is_certain")["bytes"].sum())
    return _row(reading, BYTES, _Amount(certain, int(body["bytes"].sum()) - certain, "bytes"))


#: the client's counter of each quantity, its unit, and what rounding may hide of a difference
_COUNTERS = {OBJECTS: (NDOWNLOAD, 1, 0), BYTES: (RX, _KIB, _KIB - 1)}


def _row(
    reading: Reading, quantity: str, amount: _Amount | None, why: str | None = None
) -> dict[str, Any]:
    attribute, unit, rounding = _COUNTERS[quantity]
    before, after = reading.before.get(attribute), reading.after.get(attribute)
    counted = None if before is None or after is None else (after - before) * unit
    return {
        "mount_id": reading.mount_id,
        "quantity": quantity,
        "client_before": None if before is None else before * unit,
        "client_after": None if after is None else after * unit,
        "counted": counted,
        "recorded": None if amount is None else amount.recorded,
        "in_flight": 0 if amount is None else amount.in_flight,
        "difference": _difference(reading, amount, counted, rounding),
        "remark": "; ".join(filter(None, (*_remarks(reading, amount, counted, rounding), why)))
        or None,
    }


def _difference(
    reading: Reading, amount: _Amount | None, counted: int | None, rounding: int
) -> int | None:
    """How far ``counted`` is from all that can be explained; 0 within it.

    None where one of them is unknown, or where the client counted more, and also counted while the
    mount was not recorded.
    """
    if amount is None or counted is None:
        return None
    low, high = amount.recorded, amount.recorded + amount.in_flight
    if low - counted > rounding:
        return low - counted
    if counted - high > rounding:
        return None if reading.late_ns or reading.unseen_ns else high - counted
    return 0


def _remarks(
    reading: Reading, amount: _Amount | None, counted: int | None, rounding: int
) -> Iterator[str | None]:
    yield reading.remark
    if reading.late_ns:
        yield _LATE.format(reading.late_ns / 1e9)
    if amount is None or counted is None:
        return
    more = counted - amount.recorded - amount.in_flight
    if reading.unseen_ns and more > rounding:
        yield _UNSEEN.format(more, reading.unseen_ns / 1e6)
    if amount.in_flight:
        yield f"in flight when the counters were read: {amount.in_flight:,} more {amount.what}"


def _chunks(reading: Reading, fetches: pl.DataFrame, chunks: pl.DataFrame) -> dict[str, Any]:
    """Downloaded chunks and files against those in the files' chunk lists, which were read of the
    command's files only.
    """
    data = fetches.filter(
        (pl.col("outcome") == "downloaded") & pl.col("object_kind").is_in(["chunk", "file"])
    )
    of_files = data.join(chunks.select("file_id"), on="file_id", how="semi")
    key = ["file_id", "object_hash"]
    listed = of_files.join(chunks.select(key), on=key, how="semi").height
    others = data.height - of_files.height
    why = f"of files whose chunk lists were not read: {others:,} more" if others else None
    return {
        "mount_id": reading.mount_id,
        "quantity": CHUNKS,
        "client_before": None,
        "client_after": None,
        "counted": listed,
        "recorded": of_files.height,
        "in_flight": 0,
        "difference": of_files.height - listed,
        "remark": why,
    }
