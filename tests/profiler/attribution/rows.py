"""Builders of frames for the tests of the tiling: only what matters in a test is given."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.profiler.attribution import segments as tiling
from cvmprof.profiler.tables import CAUSE, empty

from ..rows import frame, rows

PROOF: dict[str, Any] = {"on_disk": pl.Boolean, "mount_id": pl.Int32, "unique": pl.UInt64}


def operations(*given: dict[str, Any]) -> pl.DataFrame:
    """Reads of thread 1."""
    return rows("operations", *({"op_id": n, "tid": 1, **row} for n, row in enumerate(given)))


def blocked(*given: dict[str, Any]) -> pl.DataFrame:
    """Sleeps of thread 1."""
    return rows("blocked", *({"tid": 1, **row} for row in given), **PROOF)


def tasks(*given: dict[str, Any]) -> pl.DataFrame:
    """Target threads."""
    return rows("tasks", *given)


def requests(*given: dict[str, Any]) -> pl.DataFrame:
    """READ requests of thread 1 for node 7, taken and ended by thread 5."""
    read = {"opcode": 15, "node_id": 7, "tid": 1, "served_tid": 5, "end_tid": 5}
    threads: dict[str, Any] = {"end_tid": pl.Int32, "served_tid": pl.Int32}
    return rows("fuse_requests", *({**read, **row} for row in given), **threads)


def pieces(*given: tuple[int, int, int, str, int | None]) -> pl.DataFrame:
    """Pieces of requests: unique, start, end, cause, fetch."""
    schema = {"unique": pl.UInt64, "start_ns": pl.Int64, "end_ns": pl.Int64, "cause": CAUSE}
    made = frame({**schema, "fetch_id": pl.Int32}, *given)
    return made.with_columns(mount_id=pl.lit(0, pl.Int32))


def built(
    evidence: tiling.Evidence, parts: pl.DataFrame, stop_ns: int = 100
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`segments` and `waits`."""
    living = tiling.lives(evidence.tasks, 0, stop_ns)
    both = list(tiling.segments_and_waits(living, evidence, parts))
    tiles = pl.concat([empty("segments"), *(one for one, _ in both)])
    waits = pl.concat([empty("waits"), *(one for _, one in both)]).unique()
    return tiles, waits.sort("op_id", "start_ns")


def causes(tiles: pl.DataFrame) -> list[tuple[object, ...]]:
    """What each tile was spent on."""
    return tiles.select("start_ns", "end_ns", "cause", "op_id", "via_tid").rows()


ONE = tasks({"tid": 1, "start_ns": 0, "end_ns": 100})
