"""Gaps between a device's kernels, and what they waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..material import IS_FILE_DATA, Material
from .links import Link, links
from .sums import by_cause, total

SLOWEST_STALLS = 50
#: fetches of a stall that are listed
FETCHES_OF_STALL = 200


@dataclass(frozen=True)
class Stall:
    """A gap between a device's kernels and what it waited for.

    ``causes_ns`` sum to its length. ``copying_in_ns`` and ``copying_out_ns``: the device copied
    meanwhile. ``chunk_ns``: of its length, waits for chunks and files; ``chunks``: how many.
    ``fetches``: all that it waited for, but no more than `FETCHES_OF_STALL`, in order. ``links``:
    its longest waits, the longest first.
    """

    stall_id: int
    device: str
    start_ns: int
    end_ns: int
    waiting_tid: int | None
    causes_ns: dict[str, int]
    copying_in_ns: int = 0
    copying_out_ns: int = 0
    chunk_ns: int = 0
    chunks: int = 0
    fetches: tuple[int, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def duration_ns(self) -> int:
        """How long it lasted."""
        return self.end_ns - self.start_ns

    @property
    def worst_chunk(self) -> Link | None:
        """The longest wait in it that was for a chunk or file."""
        kinds = ("chunk", "file")
        return next((x for x in self.links if x.fetch and x.fetch.object_kind in kinds), None)


@dataclass(frozen=True)
class Stalls:
    """All stalls together, and the longest. ``chunk_ns``: time in them that waited for chunks."""

    count: int
    total_ns: int
    causes_ns: dict[str, int]
    longest: tuple[Stall, ...]
    chunk_ns: int = 0


def stalls(material: Material, count: int = SLOWEST_STALLS) -> Stalls:
    """Return the sum of all stalls, and the ``count`` longest, longest first."""
    rows = material.frames["stalls"].with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    slowest = rows.sort("ns", "stall_id", descending=[True, False]).head(count)
    of_these = pl.col("stall_id").is_in(slowest["stall_id"].implode())
    waits = _chunk_waits(material)
    known = _Known(
        _causes_of(material.stall_causes.filter(of_these), "stall_id"),
        {row["stall_id"]: row for row in waits.filter(of_these).iter_rows(named=True)},
        _fetches_of(material.stall_chains.filter(of_these)),
        links(material.frames, material.stall_chains.filter(of_these)),
    )
    longest = tuple(_stall(row, known) for row in slowest.iter_rows(named=True))
    causes_ns = by_cause(material.stall_causes)
    return Stalls(rows.height, total(rows, "ns"), causes_ns, longest, total(waits, "chunk_ns"))


@dataclass(frozen=True)
class _Known:
    """What is known of stalls, by their number."""

    causes_ns: Mapping[int, dict[str, int]]
    chunks: Mapping[int, Mapping[str, int]]
    fetches: Mapping[int, list[int]]
    links: Mapping[int, tuple[Link, ...]]


def _stall(row: Mapping[str, Any], known: _Known) -> Stall:
    number: int = row["stall_id"]
    chunks = known.chunks.get(number, {})
    return Stall(
        stall_id=number,
        device=row["device"],
        start_ns=row["start_ns"],
        end_ns=row["end_ns"],
        waiting_tid=row["waiting_tid"],
        causes_ns=known.causes_ns.get(number, {}),
        copying_in_ns=row["copying_in_ns"],
        copying_out_ns=row["copying_out_ns"],
        chunk_ns=chunks.get("chunk_ns", 0),
        chunks=chunks.get("chunks", 0),
        fetches=tuple(known.fetches.get(number, ())),
        links=known.links.get(number, ()),
    )


def _fetches_of(chains: pl.DataFrame) -> dict[int, list[int]]:
    waited = chains.drop_nulls("fetch_id").group_by("stall_id")
    listed = waited.agg(pl.col("fetch_id").unique().sort().head(FETCHES_OF_STALL))
    return dict(listed.iter_rows())


def _chunk_waits(material: Material) -> pl.DataFrame:
    """The time in each stall that waited for chunks and files: stall_id, chunk_ns, chunks."""
    of_data = material.frames["fetches"].filter(IS_FILE_DATA).select("fetch_id", "object_hash")
    return (
        material.stall_chains.join(of_data, on="fetch_id")
        .group_by("stall_id")
        .agg(
            chunk_ns=(pl.col("end_ns") - pl.col("start_ns")).sum(),
            chunks=pl.coalesce("object_hash", pl.col("fetch_id").cast(pl.String)).n_unique(),
        )
    )


def _causes_of(causes: pl.DataFrame, key: str) -> dict[int, dict[str, int]]:
    """Return ns by cause, the largest first, for each number in the column ``key``."""
    ordered = causes.filter(pl.col("ns") > 0).sort(
        "ns", pl.col("cause").cast(pl.String), descending=[True, False]
    )
    spent: dict[int, dict[str, int]] = {}
    for number, cause, ns in ordered.select(key, "cause", "ns").iter_rows():
        spent.setdefault(number, {})[cause] = ns
    return spent
