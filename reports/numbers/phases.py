"""Phases, and what the time of their threads went to."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...profiler.tables import CVMFS_CAUSES
from ..material import Material
from .fetching import Fetches, fetch_summary
from .sums import by_cause, total

MAX_PHASES = 24


@dataclass(frozen=True)
class Phase:
    """A phase and what its thread's time went to, wakers followed.

    ``fetches`` are those that it waited for. ``page_cache_ns`` is the part of ``cpu`` that
    ``page_cache_hits`` reads and page faults took, which came from the page cache and were only
    counted. ``times`` is 1, or how many phases of this name stand together because there are many.
    """

    name: str
    pid: int
    tid: int
    start_ns: int
    end_ns: int | None
    duration_ns: int
    causes_ns: dict[str, int]
    page_cache_hits: int
    page_cache_ns: int
    fetches: Fetches
    times: int

    @property
    def title(self) -> str:
        """The name, with how many phases of that name stand together here."""
        return self.name if self.times == 1 else f"{self.name} ×{self.times:,}"

    @property
    def cvmfs_ns(self) -> int:
        """Time that waited for CVMFS."""
        return sum(ns for cause, ns in self.causes_ns.items() if cause in CVMFS_CAUSES)


def phases(material: Material) -> tuple[Phase, ...]:
    """Return the phases in the order of their start; if many, those of one name as one."""
    spans = material.phases.with_row_index("place").with_columns(
        lasted=pl.col("end_ns").fill_null(material.window.end_ns) - pl.col("start_ns")
    )
    if spans.height > MAX_PHASES:
        groups = spans.partition_by("name", maintain_order=True)
        groups = sorted(groups, key=lambda same: -total(same, "lasted"))[:MAX_PHASES]
    else:
        groups = spans.sort("start_ns").partition_by("place", maintain_order=True)
    return tuple(_phase(same, material) for same in groups)


def _phase(same: pl.DataFrame, material: Material) -> Phase:
    """Return the phase that these rows of phases are together."""
    row = same.row(0, named=True)
    mine = pl.col("phase").is_in(same["place"].implode())
    waited = material.phase_fetches.filter(mine)["fetch_id"].unique()
    fetches = material.frames["fetches"].filter(pl.col("fetch_id").is_in(waited.implode()))
    hits = material.phase_hits.filter(mine)
    return Phase(
        name=row["name"],
        pid=row["pid"],
        tid=row["tid"],
        start_ns=row["start_ns"],
        end_ns=None if same["end_ns"].has_nulls() else same.select(pl.col("end_ns").max()).item(),
        duration_ns=total(same, "lasted"),
        causes_ns=by_cause(material.phase_causes.filter(mine)),
        page_cache_hits=total(hits, "count"),
        page_cache_ns=total(hits, "ns"),
        fetches=fetch_summary(fetches, material.window),
        times=same.height,
    )
