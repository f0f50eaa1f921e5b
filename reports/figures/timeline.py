"""The timeline as data: groups of lanes, each a bounded number of bricks with their details.

Nothing is drawn here. A lane's ``bricks`` have start_ns, end_ns, code (index into the group's
palette), merged (how many intervals one brick stands for) and the group's detail columns, among
them fetch_id (Int32, null where none), which links bricks of different lanes on the page.
"""

from __future__ import annotations

import polars as pl

from ...probes import fuse
from ...profiler.attribution.causes import OF_CVMFS
from ...profiler.tables import CAUSES
from .. import palette
from ..material import Frames, Window, file_names
from .bricks import DURATION, clip, disjoint, left_out, longest, merge_short, pack, resolution_ns
from .lanes import Lane, LaneGroup, Palette

#: upper bounds on what is drawn, however large the run is
MAX_LANES = 20
REQUEST_ROWS = 32
BRICKS_OF_THREADS = 12_000
BRICKS_OF_LANES = 6_000


CAUSE_PALETTE: Palette = tuple(zip(CAUSES, palette.CAUSE_COLOURS, strict=True))
REQUEST_PALETTE: Palette = (
    ("READ", palette.STYLES["cache_read"].colour),
    ("READ that caused a fetch", palette.STYLES["transfer"].colour),
    ("other request", palette.STYLES["fuse_queue"].colour),
    ("error", "#8f1d14"),
    ("never answered", "#111111"),
)
DAEMON_PALETTE: Palette = (
    ("serving a call", palette.STYLES["cache_read"].colour),
    ("fetch: downloaded", palette.STYLES["transfer"].colour),
    ("fetch: joined another thread's", palette.STYLES["fetch_joined"].colour),
    ("fetch: failed or never ended", "#8f1d14"),
)


def fetches_of_requests(frames: Frames) -> pl.DataFrame:
    """Return mount_id, unique, fetch_id: the first fetch that each FUSE request caused."""
    return (
        frames["fetches"]
        .select("mount_id", "unique", "fetch_id")
        .drop_nulls()
        .group_by("mount_id", "unique")
        .agg(pl.col("fetch_id").min())
    )


def _cause_code() -> pl.Expr:
    return (
        pl.col("cause")
        .cast(pl.String)
        .replace_strict(list(CAUSES), list(range(len(CAUSES))), return_dtype=pl.UInt8)
        .alias("code")
    )


def _merged_note(shortest_ns: int) -> str:
    if not shortest_ns:
        return "Every interval is drawn."
    return (
        f"Neighbours shorter than {shortest_ns / 1e6:.3g} ms are drawn as one, "
        "in the colour that covers most of them."
    )


def _busiest_threads(segments: pl.DataFrame, phases: pl.DataFrame) -> pl.DataFrame:
    """Return pid and tid by rank: first threads that marked a phase, then by time waiting for
    CVMFS, then by time awake.
    """
    cause = pl.col("cause").cast(pl.String)
    spent = segments.group_by("pid", "tid").agg(
        cvmfs_ns=DURATION.filter(OF_CVMFS).sum(),
        awake_ns=DURATION.filter(cause != "blocked").sum(),
    )
    marked = pl.col("tid").is_in(phases["tid"].unique().implode())
    return spent.with_columns(marked=marked).sort(
        "marked", "cvmfs_ns", "awake_ns", "tid", descending=[True, True, True, False]
    )


def _thread_labels(frames: Frames) -> dict[int, str]:
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
    """The traced threads, coloured by cause."""
    segments = frames["segments"]
    ranked = _busiest_threads(segments, frames["phases"])
    shown = ranked.head(MAX_LANES).select("pid", "tid").rows()
    labels = _thread_labels(frames)
    coded = clip(segments, window.start_ns, window.end_ns).with_columns(_cause_code())
    per_lane = BRICKS_OF_THREADS // max(len(shown), 1)
    lanes: list[Lane] = []
    shortest = 0
    for pid, tid in shown:
        of_thread = coded.filter((pl.col("pid") == pid) & (pl.col("tid") == tid))
        limit = resolution_ns(of_thread, per_lane)
        shortest = max(shortest, limit)
        bricks = _segment_details(frames, merge_short(of_thread, limit, "code"))
        lanes.append(Lane(labels.get(tid, f"thread {tid}"), bricks))
    left = ranked.height - len(shown)
    note = _merged_note(shortest) + (f" {left:,} less busy threads are not drawn." if left else "")
    return LaneGroup(
        "threads",
        "Traced threads",
        "What each thread of the command spent its time on. Click a wait for a chunk to see its "
        "fetch.",
        CAUSE_PALETTE,
        tuple(lanes),
        note,
    )


def _request_frame(frames: Frames) -> pl.DataFrame:
    operations = frames["operations"].select("op_id", "file_id", pl.col("kind").cast(pl.String))
    by_node = (
        frames["files"]
        .select("mount_id", pl.col("inode").alias("node_id"), by_node="file_id")
        .unique(("mount_id", "node_id"))
    )
    linked = (
        frames["fuse_requests"]
        .filter(pl.col("queued_ns").is_not_null() | pl.col("served_ns").is_not_null())
        .join(operations, on="op_id", how="left")
        .join(by_node, on=("mount_id", "node_id"), how="left")
        .with_columns(file_id=pl.coalesce("file_id", "by_node"))
        .join(fetches_of_requests(frames), on=("mount_id", "unique"), how="left")
    )
    return linked.join(file_names(frames), on="file_id", how="left")


def _request_code() -> pl.Expr:
    return (
        pl.when(pl.col("unanswered"))
        .then(4)
        .when((pl.col("error") < 0) & (pl.col("opcode") == fuse.READ))
        .then(3)
        .when(pl.col("opcode") != fuse.READ)
        .then(2)
        .when(pl.col("fetch_id").is_not_null())
        .then(1)
        .otherwise(0)
        .cast(pl.UInt8)
    )


def request_lanes(frames: Frames, window: Window) -> LaneGroup:
    """FUSE requests in flight, packed into rows."""
    names = pl.col("opcode").replace_strict(
        list(fuse.OPCODES), list(fuse.OPCODES.values()), default=pl.format("opcode {}", "opcode")
    )
    requests = _request_frame(frames).select(
        pl.coalesce("queued_ns", "served_ns").alias("start_ns"),
        "end_ns",
        "error",
        "opcode",
        "fetch_id",
        pl.col("end_ns").is_null().alias("unanswered"),
        names.alias("request"),
        pl.col("path").alias("file"),
        "offset_bytes",
        "size_bytes",
        "unique",
        pl.col("kind").alias("queued by"),
        (pl.col("served_ns") - pl.col("queued_ns")).alias("queue_ns"),
    )
    requests = clip(requests, window.start_ns, window.end_ns)
    drawn = longest(requests, BRICKS_OF_LANES).with_columns(
        code=_request_code(), merged=pl.lit(1, dtype=pl.Int32)
    )
    rows = pack(drawn.drop("error", "opcode", "unanswered"), REQUEST_ROWS)
    lanes = tuple(Lane("in flight" if not n else "", row) for n, row in enumerate(rows))
    note = left_out("requests", drawn.height, requests.height).strip()
    without_row = drawn.height - sum(row.height for row in rows)
    if without_row:
        note += f" {without_row:,} more have no row: over {REQUEST_ROWS} were in flight at once."
    return LaneGroup(
        "requests",
        "FUSE requests",
        "Requests from the kernel to cvmfs2, from queued to answered.",
        REQUEST_PALETTE,
        lanes,
        note,
    )


def _daemon_frames(frames: Frames) -> tuple[pl.DataFrame, pl.DataFrame]:
    none = pl.lit(None, dtype=pl.String)
    calls = (
        frames["daemon_calls"]
        .filter(pl.col("parent_id").is_null())
        .join(fetches_of_requests(frames), on=("mount_id", "unique"), how="left")
        .select(
            "tid",
            "start_ns",
            "end_ns",
            pl.lit(0, dtype=pl.UInt8).alias("code"),
            "fetch_id",
            what="function",
            file=none,
            offset_bytes=pl.lit(None, dtype=pl.Int64),
            object=none,
            unique="unique",
        )
    )
    outcome = pl.col("outcome").cast(pl.String)
    code = pl.when(outcome == "downloaded").then(1).when(outcome == "joined").then(2).otherwise(3)
    kind = pl.col("object_kind").cast(pl.String).fill_null("object")
    fetches = (
        frames["fetches"]
        .join(file_names(frames), on="file_id", how="left")
        .select(
            "tid",
            "start_ns",
            "end_ns",
            code.cast(pl.UInt8).alias("code"),
            "fetch_id",
            what=pl.format("fetch of a {}", kind),
            file="path",
            offset_bytes="offset_bytes",
            object="object_hash",
            unique=pl.lit(None, dtype=pl.UInt64),
        )
    )
    return calls, fetches


def daemon_lanes(frames: Frames, window: Window) -> LaneGroup:
    """The daemon's threads: the calls that they serve, and below them the fetches inside."""
    calls, fetches = (clip(part, window.start_ns, window.end_ns) for part in _daemon_frames(frames))
    spent = pl.concat([calls, fetches]).group_by("tid").agg(ns=DURATION.sum())
    tids = spent.sort("ns", "tid", descending=[True, False])["tid"].to_list()
    labels = _thread_labels(frames)
    shown = tids[: MAX_LANES // 2]
    budget = BRICKS_OF_LANES // max(2 * len(shown), 1)
    lanes: list[Lane] = []
    for tid in shown:
        for label, part in ((labels.get(tid, f"cvmfs2 {tid}"), calls), ("fetches", fetches)):
            of_thread = disjoint(part.filter(pl.col("tid") == tid).drop("tid"))
            if of_thread.height or part is calls:
                bricks = merge_short(of_thread, resolution_ns(of_thread, budget), "code")
                lanes.append(Lane(label, bricks))
    left = len(tids) - len(shown)
    note = f"{left:,} less busy threads are not drawn." if left else ""
    return LaneGroup(
        "daemon",
        "cvmfs2 threads",
        "The calls that each thread of the daemon serves and, below them, its fetches.",
        DAEMON_PALETTE,
        tuple(lanes),
        note,
    )
