"""Table `reconciliation`: what was recorded against what the client counted itself.

A helper reads the client's counters before the command starts and when recording is about to end,
both while recording. So whatever the client does in between is in both counts, for whichever
process. `Fetcher::Fetch` counts an object (``user.ndownload``) when it hands it to the download
manager; the download manager counts the bytes of an answer's body (``user.rx``, in KiB, rounded
down) when it is done with the answer. When exactly is not seen. What may have been counted on
either side of a reading is in flight: a difference begins where even that does not explain it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from ..client.daemon_calls import FETCH, LOOKUP
from ..run.journal import Journal, Line
from ..tables import HORIZON_NS, conform

OBJECTS, BYTES, CHUNKS = "objects", "body_bytes", "chunks"
_KIB = 1024
_NO_BEFORE = "its counters at the start are unknown"
_BORN = "counted from zero: the client was started during the run"
_RELOADED = "counted since its reload, which reset the client's counters"
_LATE = "its counters were read {} s after recording had ended"


@dataclass(frozen=True)
class _Reading:
    """The counters of one mount's client, read twice; None where unknown.

    ``begin``, ``end``: when each reading was asked for and answered. ``late_ns``: how long after
    the end of recording the second one was asked for; 0 if it was before.
    """

    mount_id: int
    begin: tuple[int, int]
    end: tuple[int, int]
    before: dict[str, int | None]
    after: dict[str, int | None]
    late_ns: int = 0
    remark: str | None = None


@dataclass(frozen=True)
class _Amount:
    """What was recorded between the readings, and what was in flight at one of them."""

    recorded: int
    in_flight: int
    what: str


@dataclass(frozen=True)
class Recorded:
    """What was recorded until ``stop_ns``: the tables; ``fetches`` with ``queued_ns`` beside the
    table.
    """

    stop_ns: int
    mounts: pl.DataFrame
    incidents: pl.DataFrame
    fetches: pl.DataFrame
    downloads: pl.DataFrame
    chunks: pl.DataFrame
    calls: pl.DataFrame


def reconciliation(journal: Journal, recorded: Recorded) -> pl.DataFrame:
    """Three rows for every mount whose counters were read after the command."""
    fetches = _with_handing(recorded.fetches, recorded.calls)
    downloads = _with_done(recorded.downloads, recorded.fetches)
    rows: list[dict[str, Any]] = []
    for reading in _readings(journal, recorded):
        of_mount = pl.col("mount_id") == reading.mount_id
        rows.append(_objects(reading, fetches.filter(of_mount)))
        rows.append(_bytes(reading, downloads.filter(of_mount)))
        rows.append(_chunks(reading, fetches.filter(of_mount), recorded.chunks))
    names = ("mount_id", "quantity", "client_before", "client_after", "counted", "recorded",
             "in_flight", "difference", "remark")  # fmt: skip
    schema = dict.fromkeys(names, pl.Int64()) | {"quantity": pl.String(), "remark": pl.String()}
    return conform("reconciliation", pl.DataFrame(rows, schema=schema, orient="row"))


def _readings(journal: Journal, recorded: Recorded) -> Iterator[_Reading]:
    before = {str(line.get("device")): line for line in journal.of("attributes_before")}
    after = {
        str(line.get("device")): line
        for line in journal.of("attributes")
        if line.get("mountpoint") and "answered_ns" in line
    }
    latest = recorded.mounts.unique("device", keep="last", maintain_order=True)
    for row in latest.iter_rows(named=True):
        last = after.get(row["device"])
        if last is not None and "user.ndownload" in last["attributes"]:
            reading = _reading(row, before.get(row["device"]), last)
            late_ns = max(reading.end[1] - recorded.stop_ns, 0)
            yield _since_reload(replace(reading, late_ns=late_ns), recorded.incidents)


def _reading(mount: dict[str, Any], before: Line | None, after: Line) -> _Reading:
    counters = _counters(after)
    reading = _Reading(mount["mount_id"], (0, 0), _when(after), {}, counters)
    if before is not None and _serves(before) == _serves(after):
        return replace(reading, begin=_when(before), before=_counters(before))
    if mount["start_ns"] is not None:
        zero: dict[str, int | None] = dict.fromkeys(counters, 0)
        return replace(reading, before=zero, remark=_BORN)
    return replace(reading, remark=_NO_BEFORE)


def _when(line: Line) -> tuple[int, int]:
    return int(line["asked_ns"]), int(line["answered_ns"])


def _serves(line: Line) -> str | None:
    pid = line["attributes"].get("user.pid")
    return None if pid is None else str(pid)


def _counters(line: Line) -> dict[str, int | None]:
    attributes = line["attributes"]
    return {name: _number(attributes.get(name)) for name in ("user.ndownload", "user.rx")}


def _number(text: object) -> int | None:
    word = str(text).strip()
    return int(word) if word.isdigit() else None


def _since_reload(reading: _Reading, incidents: pl.DataFrame) -> _Reading:
    reloads = incidents.filter(
        (pl.col("kind") == "reload")
        & (pl.col("mount_id") == reading.mount_id)
        & pl.col("time_ns").is_between(reading.begin[1], reading.end[0])
    )["time_ns"]
    if reloads.is_empty():
        return reading
    zero: dict[str, int | None] = dict.fromkeys(reading.after, 0)
    reset_ns = max(reloads)
    return replace(reading, begin=(reset_ns, reset_ns), before=zero, remark=_RELOADED)


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


def _split(reading: _Reading, events: pl.DataFrame, early: str, late: str) -> pl.DataFrame:
    """Events that the client may have counted between the readings, with ``is_certain``.

    ``early``, ``late``: columns with the bounds of the moment at which it counted.
    """
    last = pl.col(late).fill_null(HORIZON_NS)
    possible = (last >= reading.begin[0]) & (pl.col(early) <= reading.end[1])
    certain = (pl.col(early) >= reading.begin[1]) & (last <= reading.end[0])
    return events.filter(possible.fill_null(value=False)).with_columns(is_certain=certain)


def _objects(reading: _Reading, fetches: pl.DataFrame) -> dict[str, Any]:
    handed = fetches.filter("handed").with_columns(counted_ns=pl.coalesce("queued_ns", "end_ns"))
    met = _split(reading, handed, "start_ns", "counted_ns")
    certain = met.filter("is_certain").height
    return _row(reading, OBJECTS, _Amount(certain, met.height - certain, "objects"))


def _bytes(reading: _Reading, downloads: pl.DataFrame) -> dict[str, Any]:
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
_COUNTERS = {OBJECTS: ("user.ndownload", 1, 0), BYTES: ("user.rx", _KIB, _KIB - 1)}


def _row(
    reading: _Reading, quantity: str, amount: _Amount | None, why: str | None = None
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
        "remark": "; ".join(filter(None, (*_remarks(reading, amount), why))) or None,
    }


def _difference(
    reading: _Reading, amount: _Amount | None, counted: int | None, rounding: int
) -> int | None:
    """How far ``counted`` is from all that can be explained; 0 within it.

    None where one of them is unknown, or where the client counted more and went on counting after
    the end of recording.
    """
    if amount is None or counted is None:
        return None
    low, high = amount.recorded, amount.recorded + amount.in_flight
    if low - counted > rounding:
        return low - counted
    if counted - high > rounding:
        return None if reading.late_ns else high - counted
    return 0


def _remarks(reading: _Reading, amount: _Amount | None) -> Iterator[str | None]:
    yield reading.remark
    if reading.late_ns:
        yield _LATE.format(f"{reading.late_ns / 1e9:.1f}")
    if amount is not None and amount.in_flight:
        more = f"{amount.in_flight:,} more {amount.what}"
        yield f"in flight when the counters were read: {more}"


def _chunks(reading: _Reading, fetches: pl.DataFrame, chunks: pl.DataFrame) -> dict[str, Any]:
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
