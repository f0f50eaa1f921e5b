"""What a report is made from: a run's frames and the views of its causes, each computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from .timeline import Frames, Window


@dataclass(frozen=True)
class Material:
    """A run's description, tables and views.

    ``phase_causes``: one row per phase and cause: phase (place in ``phases``), cause, ns;
    ``stall_causes``: stall_id, cause, ns. Both follow wakers. ``source_bytes``: source, bytes.
    """

    meta: Mapping[str, Any]
    frames: Frames
    window: Window
    phase_causes: pl.DataFrame
    stall_causes: pl.DataFrame
    source_bytes: pl.DataFrame


def _window(frames: Frames) -> Window:
    """From the first to the last thing known of the command."""
    starts: list[int] = []
    ends: list[int] = []
    for name in ("segments", "operations", "phases", "gpu_ops"):
        frame = frames[name]
        if frame.height:
            starts.append(frame["start_ns"].min())  # type: ignore[arg-type]
            ends.append(max(frame["start_ns"].max(), frame["end_ns"].max() or 0))  # type: ignore[type-var, arg-type]
        if name == "segments" and frame.height:
            break
    start = min(starts, default=0)
    return Window(start, max([*ends, start + 1]))


def _clipped(intervals: pl.DataFrame, segments: pl.DataFrame) -> pl.DataFrame:
    met = intervals.join(segments.select("tid", "cause", begin="start_ns", stop="end_ns"), on="tid")
    inside = pl.min_horizontal("stop", "end_ns") - pl.max_horizontal("begin", "start_ns")
    return (
        met.with_columns(ns=inside).filter(pl.col("ns") > 0)
        .group_by("id", "cause").agg(pl.col("ns").sum())
    )  # fmt: skip


def gather(run: Any) -> Material:
    """Return what reports need of ``run``."""
    frames: Frames = run.frames
    window = _window(frames)
    phases = frames["phases"].with_row_index("id").with_columns(pl.col("end_ns").fill_null(window.end_ns))
    stalls = frames["stalls"].select("start_ns", "end_ns", id="stall_id", tid="waiting_tid")
    return Material(
        run.meta, frames, window,
        _clipped(phases.select("id", "tid", "start_ns", "end_ns"), frames["segments"]).rename({"id": "phase"}),
        _clipped(stalls, frames["segments"]).rename({"id": "stall_id"}),
        pl.DataFrame({"source": ["page cache"], "bytes": [int(frames["hits"]["bytes"].sum())]}),
    )  # fmt: skip
