"""Phases, and what the time of their threads went to."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from ..material import Material
from .fetching import Fetches, fetch_summary
from .sums import by_cause, total

MAX_PHASES = 24


@dataclass(frozen=True)
class Phase:
    """A phase and what its thread spent the time on, following wakers.

    ``cvmfs_ns``: of the time, what waited for a request or a fetch, whatever the cause;
    ``fetch_ns``: what waited for a fetch, so not a request that the client had not taken yet, of
    which nobody knows what it will need. ``fetches`` are those that it waited for.
    ``page_cache_hits`` is how many reads and page faults the page cache served, ``page_cache_ns``
    the part of ``cpu`` that they took. ``times`` is 1, or how many phases of this name are merged
    into this one. ``device_ns`` is its duration once for each device that its process used,
    ``stalled_ns`` what of that was lost in stalls, by cause.
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
    cvmfs_ns: int
    fetch_ns: int
    device_ns: int = 0
    stalled_ns: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def title(self) -> str:
        """The name, and how many phases of that name are merged."""
        return self.name if self.times == 1 else f"{self.name} ×{self.times:,}"


def phases(material: Material) -> tuple[Phase, ...]:
    """Return the phases in the order of their start; more than ``MAX_PHASES`` are merged by name,
    the longest first.
    """
    spans = material.phases.with_row_index("number").with_columns(
        lasted=pl.col("end_ns").fill_null(material.window.end_ns) - pl.col("start_ns")
    )
    if spans.height > MAX_PHASES:
        groups = spans.partition_by("name", maintain_order=True)
        groups = sorted(groups, key=lambda same: -total(same, "lasted"))[:MAX_PHASES]
    else:
        groups = spans.sort("start_ns").partition_by("number", maintain_order=True)
    return tuple(_phase(same, material) for same in groups)


def _phase(same: pl.DataFrame, material: Material) -> Phase:
    """Return these rows of phases as one phase."""
    row = same.row(0, named=True)
    of_these = pl.col("phase").is_in(same["number"].implode())
    waited = material.phase_fetches.filter(of_these)["fetch_id"].unique()
    fetches = material.frames["fetches"].filter(pl.col("fetch_id").is_in(waited.implode()))
    used = material.phase_devices.cast({"phase": pl.UInt32})
    hits, waits = material.phase_hits.filter(of_these), material.phase_waits.filter(of_these)
    return Phase(
        name=row["name"],
        pid=row["pid"],
        tid=row["tid"],
        start_ns=row["start_ns"],
        end_ns=None if same["end_ns"].has_nulls() else same.select(pl.col("end_ns").max()).item(),
        duration_ns=total(same, "lasted"),
        causes_ns=by_cause(material.phase_causes.filter(of_these)),
        page_cache_hits=total(hits, "count"),
        page_cache_ns=total(hits, "ns"),
        fetches=fetch_summary(fetches, material.window),
        times=same.height,
        cvmfs_ns=total(waits, "cvmfs_ns"),
        fetch_ns=total(waits, "fetch_ns"),
        device_ns=total(same.join(used, left_on="number", right_on="phase"), "lasted"),
        stalled_ns=by_cause(material.phase_stalls.filter(of_these)),
    )
