from __future__ import annotations

from cvmprof.reports.figures.heat import hottest_file, touches_figure
from cvmprof.reports.material import gather
from cvmprof.reports.palette import HEAT_COLOURS
from cvmprof.tests.reports.synthetic import MS, START, Rows, run_of, tiny_rows

OPENDIR, READDIR, READLINK = 27, 28, 5


def file(rows: Rows, number: int, path: str | None, granules: int, pages: int) -> None:
    """Add a file, and touches of its first granules."""
    rows.add("files", file_id=number, mount_id=0, inode=number, generation=0, path=path)
    for granule in range(granules):
        rows.add("touches", file_id=number, granule=granule, start_ns=START + 10 * MS,
                 bytes_read=0, pages_mapped=0, pages_inserted=pages)  # fmt: skip


def hottest(rows: Rows) -> str | None:
    material = gather(run_of(rows))
    heat = hottest_file(material.frames, material.window)
    return None if heat is None else heat.path


def runs() -> Rows:
    rows = tiny_rows()
    rows.rows["touches"] = []
    return rows


def test_the_file_with_the_most_bytes_touched_is_shown() -> None:
    rows = runs()
    file(rows, 40, "/cvmfs/a/small", 2, 1)
    file(rows, 41, "/cvmfs/a/large", 2, 9)
    assert hottest(rows) == "/cvmfs/a/large"
    material = gather(run_of(rows))
    heat = hottest_file(material.frames, material.window)
    assert heat is not None
    assert heat.files == 2
    (trace,) = touches_figure(heat, material.window)["data"]
    assert [colour for _, colour in trace["colorscale"]] == list(HEAT_COLOURS)


def test_directories_and_links_are_no_files_though_their_pages_are_cached() -> None:
    rows = runs()
    file(rows, 40, "/cvmfs/a/model", 2, 1)
    for number, opcode in enumerate((READDIR, OPENDIR, READLINK), 41):
        file(rows, number, f"/cvmfs/a/{number}", 2, 99)
        rows.add("fuse_requests", mount_id=0, unique=100 + number, opcode=opcode, node_id=number,
                 pid=1, tid=1, queued_ns=START, end_ns=START + MS, error=0)  # fmt: skip
    assert hottest(rows) == "/cvmfs/a/model"


def test_what_has_no_name_or_one_granule_is_not_drawn() -> None:
    rows = runs()
    file(rows, 40, None, 5, 9)
    file(rows, 41, "/cvmfs/a/one", 1, 9)
    assert hottest(rows) is None
