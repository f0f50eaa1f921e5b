from __future__ import annotations

import polars as pl

from cvmprof.reports.figures.bricks import DURATION
from cvmprof.reports.figures.lanes import LaneGroup
from cvmprof.reports.figures.timeline import (
    BRICKS_OF_COMMAND,
    BRICKS_OF_THREADS,
    MAX_THREADS,
    ROWS_OF_OTHERS,
    command_lanes,
    thread_lanes,
)
from cvmprof.reports.material import gather
from cvmprof.tests.reports.rows import tile
from cvmprof.tests.reports.synthetic import MAIN, MS, START, Rows, huge_run, run_of


def spent(group: LaneGroup) -> dict[str, int]:
    """Nanoseconds by word of the palette."""
    bricks = pl.concat(
        [lane.bricks.select("code", ns=DURATION) for lane in group.lanes], how="vertical_relaxed"
    )
    sums = bricks.group_by("code").agg(pl.col("ns").sum()).sort("code")
    return {group.palette[code][0]: ns for code, ns in sums.iter_rows()}


def test_the_commands_lane_is_the_tiling_of_its_wall_time() -> None:
    rows = Rows()
    tile(rows, START, START + 60 * MS, "blocked")
    tile(rows, START + 60 * MS, START + 100 * MS, "cpu")
    tile(rows, START, START + 40 * MS, "first_byte", tid=MAIN + 1, mount_id=0, unique=2, fetch_id=3)
    group = command_lanes(gather(run_of(rows)))
    (lane,) = group.lanes
    assert spent(group) == {"first_byte": 40 * MS, "blocked": 20 * MS, "cpu": 40 * MS}
    assert lane.bricks["fetch_id"].to_list() == [3, None, None]
    assert lane.bricks["thread"].to_list() == [MAIN + 1, MAIN, MAIN]
    assert group.note == "Every interval is drawn."


def test_more_threads_than_have_a_lane_are_summed_in_a_few() -> None:
    rows = Rows()
    for number in range(MAX_THREADS + 30):
        tid = MAIN + number
        tile(rows, START, START + 50 * MS, "cpu", tid=tid)
        tile(rows, START + 50 * MS, START + 100 * MS, "blocked", tid=tid)
    material = gather(run_of(rows))
    group = thread_lanes(material.frames, material.window)
    assert len(group.lanes) == MAX_THREADS + ROWS_OF_OTHERS
    assert group.lanes[MAX_THREADS].label == "30 other threads"
    assert group.note == (
        "Every interval is drawn. 30 other threads drawn as 1,600 merged bricks: each colour "
        "covers the time it had, a full row is 8 at once. Zooming in shows no more of them."
    )
    others = spent(LaneGroup("", "", "", group.palette, group.lanes[MAX_THREADS:]))
    # 30 threads in rows of 8: 3.75 rows for 50 ms each
    assert others == {"cpu": 187_500_000, "blocked": 187_500_000}


def test_of_a_huge_run_every_cause_keeps_its_time_in_every_lane() -> None:
    material = gather(huge_run())
    group = thread_lanes(material.frames, material.window)
    assert sum(lane.bricks.height for lane in group.lanes[:MAX_THREADS]) <= BRICKS_OF_THREADS
    assert "are drawn together, sorted by cause" in group.note
    true = material.thread_causes.group_by(pl.col("cause").cast(pl.String)).agg(pl.col("ns").sum())
    assert spent(group) == dict(true.iter_rows())
    command = command_lanes(material)
    assert command.lanes[0].bricks.height <= BRICKS_OF_COMMAND
    wall = material.command_causes.group_by(pl.col("cause").cast(pl.String)).agg(DURATION.sum())
    assert spent(command) == dict(wall.iter_rows())
