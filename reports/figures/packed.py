"""Many intervals that overlap, in a bounded number of rows.

What is long enough to be seen is drawn one by one, the rest is summed over time, so that nothing is
left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..words import duration, plural
from .bricks import DURATION, pack, stacked, thin
from .lanes import Lane

#: what is drawn one by one, and the places over time in which the rest is summed
ONE_BY_ONE = 3_000
BINS = 400
#: bricks of the lanes in which each is drawn one by one
_BRICKS = 6_000


@dataclass(frozen=True)
class Rows:
    """How many rows there are for what is drawn one by one, and for the rest; their label."""

    alone: int
    rest: int
    label: str = "in flight"


@dataclass(frozen=True)
class Packed:
    """Lanes, and what is said of what was summed; nothing where all are drawn one by one."""

    lanes: tuple[Lane, ...]
    note: str = ""


def merged_note(shortest_ns: int) -> str:
    """Say what was merged, where what is shorter than ``shortest_ns`` was."""
    if not shortest_ns:
        return "Every interval is drawn."
    return (
        f"Adjacent pieces shorter than {duration(shortest_ns)} are drawn together, sorted by "
        "cause: each colour covers the time it had. Zooming in shows no more of them."
    )


def packed(what: str, wholes: pl.DataFrame, pieces: pl.DataFrame, rows: Rows) -> Packed:
    """Draw ``wholes`` (key, start_ns, end_ns) by their ``pieces``.

    ``what``: the word for one of them. ``pieces``: key, start_ns, end_ns, code and details; those
    of one whole tile it.
    """
    step = _step_ns(wholes)
    visible = wholes if wholes.height <= ONE_BY_ONE else wholes.filter(step <= DURATION)
    alone, _ = pack(visible.top_k(ONE_BY_ONE, by=DURATION), rows.alone)
    rest = wholes.join(pl.concat([wholes.head(0), *alone]), on="key", how="anti")
    of_rest = pieces.join(rest, on="key", how="semi")
    summed, of_sums = rest_of(plural(rest.height, what), of_rest, rows.rest)
    if of_sums and alone:
        drawn = f"{plural(wholes.height - rest.height, what)} drawn one by one"
        of_sums = f"Of {wholes.height:,}: {drawn}, {of_sums}"
    lanes, shortest = _alone(alone, pieces, rows.label)
    said = (merged_note(shortest) if shortest else "", of_sums)
    return Packed((*lanes, *summed), " ".join(filter(None, said)))


def rest_of(name: str, pieces: pl.DataFrame, rows: int) -> tuple[list[Lane], str]:
    """Sum pieces that may overlap, in at most ``rows`` lanes; return these and a note.

    ``name``: how many of what the pieces are of. Nothing is returned where there are none.
    """
    if not pieces.height:
        return [], ""
    found, scale = stacked(pieces, _step_ns(pieces), rows)
    bricks = sum(row.height for row in found)
    unlinked = pl.lit(None, dtype=pl.Int32).alias("fetch_id")
    lanes = [Lane(name if not n else "", row.with_columns(unlinked)) for n, row in enumerate(found)]
    full = "one at a time" if scale == 1 else f"{scale:,} at once"
    return lanes, (
        f"{name} drawn as {plural(bricks, 'merged brick')}: each colour covers the time it had, "
        f"a full row is {full}. Zooming in shows no more of them."
    )


def _step_ns(intervals: pl.DataFrame) -> int:
    span = intervals.select(pl.col("end_ns").max() - pl.col("start_ns").min()).item()
    return max(int(span or 0) // BINS, 1)


def _alone(rows: list[pl.DataFrame], pieces: pl.DataFrame, label: str) -> tuple[list[Lane], int]:
    """The lanes of what is drawn one by one, and below which length pieces were merged."""
    limit = _BRICKS // max(len(rows), 1)
    drawn = [
        thin(pieces.join(row.select("key"), on="key", how="semi").drop("key"), limit)
        for row in rows
    ]
    lanes = [Lane(label if not n else "", row) for n, (row, _) in enumerate(drawn)]
    return lanes, max((shortest for _, shortest in drawn), default=0)
