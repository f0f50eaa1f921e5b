"""The mounts' numbers, and the processes of others that they worked for."""

from __future__ import annotations

from cvmprof.reports.numbers.sharing import Neighbour
from cvmprof.tests.reports.rows import asked, download, fetch, statistics_of
from cvmprof.tests.reports.synthetic import PID, Rows

OTHER, SECOND = 71, 72


def shared() -> Rows:
    """The command fetches one chunk, another process two, a second one none, the client one."""
    rows = Rows()
    rows.add("tasks", pid=PID, tid=PID, parent_pid=1, name="python3", role="target", start_ns=0)
    rows.add("tasks", pid=OTHER, tid=OTHER, parent_pid=0, name="rsync", role="neighbour",
             start_ns=0)  # fmt: skip
    for unique, pid in ((1, PID), (2, OTHER), (3, OTHER), (4, SECOND), (5, 0)):
        asked(rows, unique, pid)
    for number, request in enumerate((1, 2, 3, None)):
        download(rows, number, 0, 10, 20, 20, fetch_id=number, mount_id=0)
        fetch(rows, 0, 10, unique=request, mount_id=0, download_id=number)
    return rows


def test_the_commands_own_is_apart_from_the_mounts() -> None:
    found = statistics_of(shared())
    assert (found.fetches.downloaded, found.of_mounts.fetches.downloaded) == (1, 4)
    assert (found.bytes.over_http, found.of_mounts.over_http) == (77, 4 * 77)
    assert (found.latency.downloads, found.of_mounts.latency.downloads) == (1, 4)
    assert (found.counts["downloads"], found.of_mounts.counts["downloads"]) == (1, 4)
    assert (found.counts["fuse_requests"], found.of_mounts.counts["fuse_requests"]) == (1, 5)
    assert [chunk.fetch_id for chunk in found.slowest_chunks] == [0]


def test_neighbours_by_what_was_fetched_for_them() -> None:
    mounts = statistics_of(shared()).of_mounts
    assert mounts.neighbours == (
        Neighbour(OTHER, "rsync", requests=2, fetches=2, wire_bytes=2 * 77),
        Neighbour(SECOND, None, requests=1, fetches=0, wire_bytes=0),
    )
    assert (mounts.client_fetches, mounts.client_wire_bytes) == (1, 77)


def test_all_attempts_for_a_neighbour_count() -> None:
    rows = shared()
    download(rows, 4, 0, None, None, None, fetch_id=1, mount_id=0)
    assert statistics_of(rows).of_mounts.neighbours[0].wire_bytes == 3 * 77


def test_alone_on_a_mount() -> None:
    rows = Rows()
    rows.add("tasks", pid=PID, tid=PID, parent_pid=1, name="python3", role="target", start_ns=0)
    asked(rows, 1)
    download(rows, 0, 0, 10, 20, 20, fetch_id=0)
    fetch(rows, 0, 10, unique=1, mount_id=0, download_id=0)
    found = statistics_of(rows)
    assert found.of_mounts.neighbours == ()
    assert (found.of_mounts.client_fetches, found.of_mounts.over_http) == (0, found.bytes.over_http)


def test_twenty_neighbours_are_kept() -> None:
    rows = shared()
    for number in range(30):
        asked(rows, 100 + number, pid=200 + number)
    assert len(statistics_of(rows).of_mounts.neighbours) == 20
