"""Tables `probes` and `losses`, from the journal."""

from __future__ import annotations

from typing import Any

import polars as pl

from ...probes.catalog import GPU_ACTIVITY
from ..run.journal import Journal
from ..tables import conform


def probes(journal: Journal) -> pl.DataFrame:
    """How each logical event was observed; the last count of hits is the final one."""
    hits = {row.get("event"): int(row.get("hits") or 0) for row in journal.rows("hits")}
    names = ("event", "family", "target", "build_id", "symbols", "reason")
    rows: list[dict[str, Any]] = [
        {**{name: row.get(name) for name in names}, "hits": hits.get(row.get("event"), 0)}
        for row in journal.rows("probes")
    ]
    schema: dict[str, Any] = {**dict.fromkeys(names, pl.String()), "hits": pl.Int64()}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.col("event", "family", "target").fill_null("")
    )
    return conform(
        "probes", frame.unique(["event", "family", "target"], keep="last", maintain_order=True)
    )


def losses(journal: Journal, gpu_records: int) -> pl.DataFrame:
    """Events lost. Counts of one probe and cause only grow: the highest is the final one.

    ``gpu_records``: how many CUPTI or the injected library could not keep.
    """
    rows = [
        {
            "probe": str(row.get("probe")),
            "cause": str(row.get("cause")),
            "count": row.get("count") or 0,
        }
        for row in journal.rows("losses")
    ]
    rows.append({"probe": GPU_ACTIVITY.name, "cause": "lost in its process", "count": gpu_records})
    schema: dict[str, Any] = {"probe": pl.String, "cause": pl.String, "count": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    highest = frame.group_by("probe", "cause").agg(pl.col("count").max())
    return conform("losses", highest.filter(pl.col("count") > 0).sort("probe", "cause"))
