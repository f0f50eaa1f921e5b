"""Table `reconciliation`: what was recorded against what the client counted itself.

A helper reads the client's counters before the command starts and after it has ended, both while
recording. So whatever the client does in between is in both counts, for whichever process.
`Fetcher::Fetch` counts an object (``user.ndownload``) when it hands it to the download manager; the
download manager counts the bytes of an answer's body (``user.rx``, in KiB, rounded down) when the
answer is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from ..client.daemon_calls import FETCH, LOOKUP
from ..run.journal import Journal, Line
from ..tables import conform

OBJECTS, BYTES, CHUNKS = "objects", "body_bytes", "chunks"
_KIB = 1024
_NO_BEFORE = "its counters at the start are unknown"
_BORN = "counted from zero: the client was started during the run"
_RELOADED = "counted since its reload, which reset the client's counters"


@dataclass(frozen=True)
class _Reading:
    """The counters of one mount's client at two moments of the run; None where unknown."""

    mount_id: int
    begin_ns: int
    end_ns: int
    before: dict[str, int | None]
    after: dict[str, int | None]
    remark: str | None = None


@dataclass(frozen=True)
class Recorded:
    """What was recorded: the tables; ``fetches`` with ``queued_ns`` beside the table."""

    mounts: pl.DataFrame
    incidents: pl.DataFrame
    fetches: pl.DataFrame
    downloads: pl.DataFrame
    chunks: pl.DataFrame
    calls: pl.DataFrame


def reconciliation(journal: Journal, recorded: Recorded) -> pl.DataFrame:
    """Three rows for every mount whose counters were read after the command."""
    fetches = _with_handing(recorded.fetches, recorded.calls)
    rows: list[dict[str, Any]] = []
    for reading in _readings(journal, recorded.mounts, recorded.incidents):
        of_mount = pl.col("mount_id") == reading.mount_id
        rows.append(_objects(reading, fetches.filter(of_mount)))
        rows.append(_bytes(reading, recorded.downloads.filter(of_mount)))
        rows.append(_chunks(reading, fetches.filter(of_mount), recorded.chunks))
    names = ("mount_id", "quantity", "client_before", "client_after", "counted", "recorded",
             "difference", "remark")  # fmt: skip
    schema = dict.fromkeys(names, pl.Int64()) | {"quantity": pl.String(), "remark": pl.String()}
    return conform("reconciliation", pl.DataFrame(rows, schema=schema, orient="row"))


def _readings(
    journal: Journal, mounted: pl.DataFrame, incidents: pl.DataFrame
) -> Iterator[_Reading]:
    before = {str(line.get("device")): line for line in journal.of("attributes_before")}
    after = {
        str(line.get("device")): line
        for line in journal.of("attributes")
        if line.get("mountpoint") and "answered_ns" in line
    }
    latest = mounted.unique("device", keep="last", maintain_order=True)
    for row in latest.iter_rows(named=True):
        last = after.get(row["device"])
        if last is not None and "user.ndownload" in last["attributes"]:
            reading = _reading(row, before.get(row["device"]), last)
            yield _since_reload(reading, incidents)


def _reading(mount: dict[str, Any], before: Line | None, after: Line) -> _Reading:
    counters = _counters(after)
    reading = _Reading(mount["mount_id"], 0, int(after["asked_ns"]), {}, counters)
    if before is not None and _serves(before) == _serves(after):
        return replace(reading, begin_ns=int(before["answered_ns"]), before=_counters(before))
    if mount["start_ns"] is not None:
        zero: dict[str, int | None] = dict.fromkeys(counters, 0)
        return replace(reading, before=zero, remark=_BORN)
    return replace(reading, remark=_NO_BEFORE)


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
        & pl.col("time_ns").is_between(reading.begin_ns, reading.end_ns)
    )["time_ns"]
    if reloads.is_empty():
        return reading
    zero: dict[str, int | None] = dict.fromkeys(reading.after, 0)
    return replace(reading, begin_ns=max(reloads), before=zero, remark=_RELOADED)


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


def _objects(reading: _Reading, fetches: pl.DataFrame) -> dict[str, Any]:
    moment = pl.coalesce("queued_ns", "start_ns")
    within = moment.is_between(reading.begin_ns, reading.end_ns)
    return _row(reading, OBJECTS, "user.ndownload", fetches.filter("handed", within).height)


def _bytes(reading: _Reading, downloads: pl.DataFrame) -> dict[str, Any]:
    """A difference below 1 KiB is rounding, not a difference."""
    ended = downloads.filter(pl.col("last_byte_ns").is_between(reading.begin_ns, reading.end_ns))
    headless = ended["header_bytes"].null_count()
    body = (ended["wire_bytes"] - ended["header_bytes"]).sum()
    row = _row(reading, BYTES, "user.rx", None if headless else int(body), _KIB)
    if headless:
        why = f"the length of the headers of {headless:,} answers was not seen"
        return {**row, "remark": "; ".join(filter(None, (row["remark"], why)))}
    if row["difference"] is not None and abs(row["difference"]) < _KIB:
        row["difference"] = 0
    return row


def _row(
    reading: _Reading, quantity: str, attribute: str, recorded: int | None, unit: int = 1
) -> dict[str, Any]:
    before, after = reading.before.get(attribute), reading.after.get(attribute)
    counted = None if before is None or after is None else (after - before) * unit
    unknown = counted is None or recorded is None
    return {
        "mount_id": reading.mount_id,
        "quantity": quantity,
        "client_before": None if before is None else before * unit,
        "client_after": None if after is None else after * unit,
        "counted": counted,
        "recorded": recorded,
        "difference": None if unknown else (recorded or 0) - (counted or 0),
        "remark": reading.remark,
    }


def _chunks(reading: _Reading, fetches: pl.DataFrame, chunks: pl.DataFrame) -> dict[str, Any]:
    """Downloaded chunks and files against those in the files' chunk lists."""
    data = fetches.filter(
        (pl.col("outcome") == "downloaded") & pl.col("object_kind").is_in(["chunk", "file"])
    )
    key = ["file_id", "object_hash"]
    listed = data.join(chunks.select(key), on=key, how="semi").height
    placeless = data["file_id"].null_count()
    why = f"the file of {placeless:,} of them is not known" if placeless else None
    return {
        "mount_id": reading.mount_id,
        "quantity": CHUNKS,
        "client_before": None,
        "client_after": None,
        "counted": listed,
        "recorded": data.height,
        "difference": data.height - listed,
        "remark": why,
    }
