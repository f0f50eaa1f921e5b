from __future__ import annotations

from dataclasses import asdict

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.links import LONGEST_LINKS, Link, links
from cvmprof.tests.reports.rows import fetch, tile
from cvmprof.tests.reports.synthetic import MAIN, MIB, MS, PID, START, Rows, run_of, sha1
from cvmprof.tests.reports.synthetic_gpu import MODEL, gpu_run

#: the copy of layer 2 waits this long for its chunk: in a queue 340 µs, 700 + 10 ms, 300 µs to wake
WAIT_NS = 710_640_000


def of(rows: Rows) -> dict[int, tuple[Link, ...]]:
    material = gather(run_of(rows))
    return links(material.frames, material.stall_chains)


def stalled(rows: Rows, end: int) -> None:
    rows.add("stalls", stall_id=0, device="d", start_ns=0, end_ns=end, waiting_tid=MAIN)


def test_a_link_leads_from_the_thread_to_the_chunk_and_its_tensors() -> None:
    material = gather(gpu_run())
    link = links(material.frames, material.stall_chains)[5][0]
    begin = START + 453_280_000
    layer = {"path": MODEL, "more": 0}
    assert asdict(link) == {
        "ns": WAIT_NS, "start_ns": begin, "end_ns": begin + WAIT_NS, "tid": MAIN,
        "thread": "python3", "fetches": 1,
        "access": {
            "kind": "fault", "start_ns": begin, "end_ns": begin + WAIT_NS,
            "part": {**layer, "offset_bytes": 20 * MIB, "tensors": ("layers.2.mlp.weight",)},
        },
        "request": {
            "mount": "/cvmfs/models.example.org", "unique": 2004, "start_ns": begin + 30_000,
            "end_ns": begin + WAIT_NS,
        },
        "fetch": {
            "fetch_id": 2, "object_hash": sha1("layer 2"), "object_kind": "chunk",
            "host": "stratum1:8000", "start_ns": begin + 40_000,
            "end_ns": begin + 710_340_000,
            "part": {
                **layer, "offset_bytes": 16 * MIB,
                "tensors": ("layers.2.attention.weight", "layers.2.mlp.weight"),
            },
        },
    }  # fmt: skip


def test_the_thread_of_a_link_is_the_one_that_was_followed_to() -> None:
    material = gather(gpu_run())
    found = links(material.frames, material.stall_chains)
    stalls = material.frames["stalls"]
    assert (stalls["waiting_tid"][4], found[4][0].tid, found[4][0].thread) == (102, 103, "loader")


def test_pieces_of_one_operation_are_one_link_with_its_main_request_and_fetch() -> None:
    rows = Rows()
    for start, end, cause, ids in (
        (0, 10, "copy", {}), (10, 30, "fuse_queue", {"mount_id": 0, "unique": 4}),
        (30, 35, "transfer", {"mount_id": 0, "unique": 4, "fetch_id": 0}),
        (35, 45, "transfer", {"mount_id": 0, "unique": 6, "fetch_id": 1}),
    ):  # fmt: skip
        tile(rows, start, end, cause, op_id=0, **ids)
    tile(rows, 45, 50, "cpu")
    fetch(rows, 0, 35)
    fetch(rows, 35, None)
    stalled(rows, 50)
    first, second = of(rows)[0]
    assert (first.ns, first.start_ns, first.end_ns, first.fetches) == (45, 0, 45, 2)
    assert (first.request.unique if first.request else None) == 6
    assert (first.fetch.fetch_id if first.fetch else None) == 1
    assert (second.ns, second.access, second.request, second.fetch) == (5, None, None, None)


def test_a_fetch_outside_any_operation_is_a_link_of_its_own() -> None:
    rows = Rows()
    tile(rows, 0, 10, "transfer", fetch_id=0)
    tile(rows, 10, 30, "transfer", fetch_id=1)
    fetch(rows, 0, 10)
    fetch(rows, 10, 30)
    stalled(rows, 30)
    assert [(link.ns, link.fetch and link.fetch.fetch_id) for link in of(rows)[0]] == [
        (20, 1), (10, 0),
    ]  # fmt: skip


def test_a_joined_fetch_has_the_host_of_the_one_that_downloads() -> None:
    rows = Rows()
    tile(rows, 0, 10, "fetch_joined", fetch_id=1)
    fetch(rows, 0, 10, download_id=0)
    fetch(rows, 0, 10, outcome="joined", joined_fetch_id=0)
    rows.add("downloads", download_id=0, host="a:80", attempt=1)
    stalled(rows, 10)
    (link,) = of(rows)[0]
    assert (link.fetch.host if link.fetch else None) == "a:80"


def test_the_longest_waits_are_kept() -> None:
    rows = Rows()
    for number in range(LONGEST_LINKS + 3):
        tile(rows, 100 * number, 100 * number + number + 1, "disk", op_id=number)
        rows.add("operations", op_id=number, kind="read", start_ns=0, pid=PID, tid=MAIN, result=0)
    stalled(rows, 2000)
    waits = [link.ns for link in of(rows)[0] if link.access is not None]
    assert waits == list(range(LONGEST_LINKS + 3, 4, -1))


def test_a_read_names_two_of_its_tensors_and_counts_the_others() -> None:
    rows = Rows()
    rows.add("files", file_id=3, mount_id=0, inode=1, generation=0, path="/m")
    for number in range(5):
        rows.add("tensors", file_id=3, name=f"t{number}", offset_bytes=100 * number,
                 size_bytes=100, dtype="F32", shape=[25])  # fmt: skip
    rows.add("operations", op_id=0, kind="read", start_ns=0, end_ns=9, pid=PID, tid=MAIN, result=0,
             file_id=3, offset_bytes=100, size_bytes=201)  # fmt: skip
    tile(rows, 0, 9, "disk", op_id=0)
    stalled(rows, 9)
    (link,) = of(rows)[0]
    assert link.access is not None
    assert (link.access.part.tensors, link.access.part.more) == (("t1", "t2"), 1)
    rows.rows["operations"][0]["size_bytes"] = 200
    part = of(rows)[0][0].access
    assert part is not None
    assert (part.part.tensors, part.part.more) == (("t1", "t2"), 0)


def test_a_run_without_stalls_has_no_links() -> None:
    rows = Rows()
    tile(rows, 0, MS, "cpu")
    assert of(rows) == {}
