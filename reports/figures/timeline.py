"""The timeline as data: groups of lanes, each a bounded number of bricks with their details.

Nothing is drawn here. A lane's ``bricks`` have start_ns, end_ns, code (index into the group's
palette), merged (how many intervals one brick stands for) and the group's detail columns, among
them fetch_id (Int32, null where none), which links bricks of different lanes on the page.
"""

from __future__ import annotations

import polars as pl

from ...profiler.attribution.causes import OF_CVMFS
from ...profiler.tables import CAUSES
from .. import palette
from ..material import Frames, Material, Window, file_names
from ..words import plural
from .bricks import DURATION, clip, thin
from .lanes import Lane, LaneGroup, Palette
from .packed import merged_note, rest_of

#: upper bounds on what is drawn, however large the run is
MAX_THREADS, ROWS_OF_OTHERS = 12, 4
BRICKS_OF_COMMAND = 5_000
BRICKS_OF_THREADS = 14_000

#: the causes, and what failed: the colours of all lanes but those of phases and devices
CAUSE_PALETTE: Palette = (
    *zip(CAUSES, palette.CAUSE_COLOURS, strict=True),
    ("failed", palette.FAILED_COLOUR),
)
FAILED_CODE = len(CAUSES)


def cause_code() -> pl.Expr:
    """Return the column `cause` as a place in the palette."""
    return (
        pl.col("cause")
        .cast(pl.String)
        .replace_strict(list(CAUSES), list(range(len(CAUSES))), return_dtype=pl.UInt8)
        .alias("code")
    )


def command_lanes(material: Material) -> LaneGroup:
    """What kept the command from going on, at each instant of its wall time."""
    window = material.window
    tiles = clip(material.command_causes, window.start_ns, window.end_ns)
    bricks, shortest = thin(tiles.with_columns(cause_code()), BRICKS_OF_COMMAND)
    lane = Lane("the command", _segment_details(material.frames, bricks))
    return LaneGroup(
        "command",
        "The command as a whole",
        "What kept it from going on: what its threads on a CPU do, else what the waiting ones "
        "wait for.",
        CAUSE_PALETTE,
        (lane,),
        merged_note(shortest),
    )


def _busiest_threads(segments: pl.DataFrame, phases: pl.DataFrame) -> pl.DataFrame:
    """Return pid and tid by rank: first threads that marked a phase, then by time waiting for
    CVMFS, then by time awake.
    """
    spent = segments.group_by("pid", "tid").agg(
        cvmfs_ns=DURATION.filter(OF_CVMFS).sum(),
        awake_ns=DURATION.filter(pl.col("cause") != "blocked").sum(),
    )
    marked = pl.col("tid").is_in(phases["tid"].unique().implode())
    return spent.with_columns(marked=marked).sort(
        "marked", "cvmfs_ns", "awake_ns", "tid", descending=[True, True, True, False]
    )


def thread_labels(frames: Frames) -> dict[int, str]:
    """Return the name and number of each thread that has a name."""
    tasks = frames["tasks"].select("tid", "name").unique("tid", keep="last")
    return {tid: f"{name} {tid}" for tid, name in tasks.iter_rows() if name}


def _segment_details(frames: Frames, segments: pl.DataFrame) -> pl.DataFrame:
    operations = frames["operations"].select("op_id", "kind", "file_id", "offset_bytes")
    fetches = frames["fetches"].select("fetch_id", "object_hash")
    return (
        segments.join(operations, on="op_id", how="left")
        .join(file_names(frames), on="file_id", how="left")
        .join(fetches, on="fetch_id", how="left")
        .select(
            "start_ns",
            "end_ns",
            "code",
            "merged",
            "fetch_id",
            pl.col("kind").cast(pl.String).alias("operation"),
            pl.col("path").alias("file"),
            "offset_bytes",
            pl.col("object_hash").alias("object"),
            pl.col("via_tid").alias("through thread"),
            pl.col("tid").alias("thread"),
        )
    )


def thread_lanes(frames: Frames, window: Window) -> LaneGroup:
    """The traced threads, coloured by cause: the busiest each, all others summed."""
    segments = clip(frames["segments"], window.start_ns, window.end_ns)
    ranked = _busiest_threads(segments, frames["phases"]).select("pid", "tid")
    shown, others = ranked.head(MAX_THREADS), ranked.slice(MAX_THREADS)
    coded, labels = segments.with_columns(cause_code()), thread_labels(frames)
    lanes: list[Lane] = []
    shortest = 0
    for pid, tid in shown.iter_rows():
        of_thread = coded.filter((pl.col("pid") == pid) & (pl.col("tid") == tid))
        thinned, merged = thin(of_thread, BRICKS_OF_THREADS // shown.height)
        shortest = max(shortest, merged)
        bricks = _segment_details(frames, thinned)
        lanes.append(Lane(labels.get(tid, f"thread {tid}"), bricks))
    of_others = coded.join(others, on=["pid", "tid"], how="semi")
    summed, note = rest_of(plural(others.height, "other thread"), of_others, ROWS_OF_OTHERS)
    return LaneGroup(
        "threads",
        "Traced threads",
        "What each thread of the command spent its time on. Click a wait for a chunk to see its "
        "fetch.",
        CAUSE_PALETTE,
        (*lanes, *summed),
        f"{merged_note(shortest)} {note}".strip(),
    )
