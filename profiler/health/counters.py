"""The client's own counters, read before the command starts and when recording is about to end.

A helper reads them, both times while recording; where that failed, later. What happened on a mount
before the command first used it is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from ..run.journal import Journal, Line
from ..run.text import whole_number

#: objects that the client began to download; KiB that it received
NDOWNLOAD, RX = "user.ndownload", "user.rx"
_NO_BEFORE = "its counters at the start are unknown"
_BORN = "counted from zero: the client was started during the run"
_RELOADED = "counted since its reload, which reset the client's counters"


@dataclass(frozen=True)
class Observed:
    """What was recorded of mounts, until ``stop_ns``; ``first_uses``: mount_id, first_ns."""

    stop_ns: int
    first_uses: pl.DataFrame
    mounts: pl.DataFrame
    incidents: pl.DataFrame


@dataclass(frozen=True)
class Reading:
    """The counters of one mount's client, read twice; None where unknown.

    ``begin``, ``end``: when each reading was asked for and answered. ``late_ns``: how long after
    the end of recording the second one was answered; 0 if it was before. ``unseen_ns``: how long
    after the first one the command first used the mount; until then it is not recorded.
    """

    mount_id: int
    begin: tuple[int, int]
    end: tuple[int, int]
    before: dict[str, int | None]
    after: dict[str, int | None]
    late_ns: int = 0
    unseen_ns: int = 0
    remark: str | None = None


def readings(journal: Journal, observed: Observed) -> Iterator[Reading]:
    """Yield what was read of the latest mount of each device, if it was read after the command."""
    before = {str(line.get("device")): line for line in journal.of("attributes_before")}
    after = {
        str(line.get("device")): line
        for line in journal.of("attributes")
        if line.get("mountpoint") and "answered_ns" in line
    }
    latest = observed.mounts.unique("device", keep="last", maintain_order=True)
    for row in latest.iter_rows(named=True):
        last = after.get(row["device"])
        if last is not None and NDOWNLOAD in last["attributes"]:
            reading = _reading(row, before.get(row["device"]), last)
            yield _limited(_since_reload(reading, observed.incidents), observed)


def _reading(mount: dict[str, Any], before: Line | None, after: Line) -> Reading:
    counters = _counters(after)
    reading = Reading(mount["mount_id"], (0, 0), _when(after), {}, counters)
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
    return {name: whole_number(attributes.get(name)) for name in (NDOWNLOAD, RX)}


def _since_reload(reading: Reading, incidents: pl.DataFrame) -> Reading:
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


def _limited(reading: Reading, observed: Observed) -> Reading:
    """Say how much of the time between the readings was not recorded, at either end."""
    uses = observed.first_uses.filter(pl.col("mount_id") == reading.mount_id)["first_ns"]
    first_ns = observed.stop_ns if uses.is_empty() else int(uses[0])
    is_born = reading.remark == _BORN  # its daemon is recorded from the start
    return replace(
        reading,
        late_ns=max(reading.end[1] - observed.stop_ns, 0),
        unseen_ns=0 if is_born else max(first_ns - reading.begin[0], 0),
    )
