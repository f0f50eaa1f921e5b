from __future__ import annotations

from cvmprof.reports.figures.timeline import request_lanes
from cvmprof.reports.material import gather
from cvmprof.tests.reports.synthetic import MS, START, run_of, tiny_rows


def test_a_request_that_was_never_answered_lasts_to_the_end() -> None:
    rows = tiny_rows()
    rows.add(
        "fuse_requests",
        mount_id=0,
        unique=8,
        opcode=15,
        node_id=17,
        pid=100,
        tid=101,
        queued_ns=START + 96 * MS,
        error=0,
    )
    material = gather(run_of(rows))
    group = request_lanes(material.frames, material.window)
    (brick,) = group.lanes[0].bricks.rows(named=True)
    assert (brick["end_ns"], group.palette[brick["code"]][0]) == (
        START + 100 * MS,
        "never answered",
    )
