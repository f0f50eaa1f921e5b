"""Idle gaps of a device, and what they waited for."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..material import Material
from .sums import by_cause, total

SLOWEST_STALLS = 50


@dataclass(frozen=True)
class Stall:
    """An idle gap of a device and what it waited for."""

    stall_id: int
    device: str
    start_ns: int
    end_ns: int
    waiting_tid: int
    causes_ns: dict[str, int]


@dataclass(frozen=True)
class Stalls:
    """All stalls together, and the longest."""

    count: int
    total_ns: int
    causes_ns: dict[str, int]
    longest: tuple[Stall, ...]


def stalls(material: Material, count: int = SLOWEST_STALLS) -> Stalls:
    """Return the sum of all stalls, and the ``count`` longest, longest first."""
    rows = material.frames["stalls"].with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    slowest = rows.sort("ns", "stall_id", descending=[True, False]).head(count)
    of_these = pl.col("stall_id").is_in(slowest["stall_id"].implode())
    spent = _causes_of(material.stall_causes.filter(of_these), "stall_id")
    longest = tuple(
        Stall(
            row["stall_id"],
            row["device"],
            row["start_ns"],
            row["end_ns"],
            row["waiting_tid"],
            spent.get(row["stall_id"], {}),
        )
        for row in slowest.iter_rows(named=True)
    )
    return Stalls(rows.height, total(rows, "ns"), by_cause(material.stall_causes), longest)


def _causes_of(causes: pl.DataFrame, key: str) -> dict[int, dict[str, int]]:
    """Return ns by cause, the largest first, for each number in the column ``key``."""
    ordered = causes.filter(pl.col("ns") > 0).sort(
        "ns", pl.col("cause").cast(pl.String), descending=[True, False]
    )
    spent: dict[int, dict[str, int]] = {}
    for number, cause, ns in ordered.select(key, "cause", "ns").iter_rows():
        spent.setdefault(number, {})[cause] = ns
    return spent
