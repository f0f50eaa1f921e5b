"""The client's side as a whole: which lookups and which mounts count for what."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes import events
from cvmprof.profiler.client.side import client_side
from cvmprof.profiler.kernel.side import Accesses, KernelSide
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.run.spool import Spool
from cvmprof.tests.profiler.conftest import digest
from cvmprof.tests.profiler.rows import frame, rows

A, B = "a1" * 20, "b2" * 20
DAEMONS = frame({"pid": pl.Int32, "mount_id": pl.Int32}, (200, 1), (201, 0))
#: a device that was mounted twice
MOUNTS = rows("mounts", *({"mount_id": n, "device": "0:50"} for n in (0, 1)))
FILES = rows("files", *({"file_id": n, "mount_id": n, "path": "/a"} for n in (0, 1)))
FETCH, LOOKUP = (
    events.DAEMON_FUNCTIONS.index(name) for name in ("Fetcher::Fetch", "CacheManager::Open")
)


def kernel() -> KernelSide:
    extra = {"served_tid": pl.Int32, "end_pid": pl.Int32, "end_tid": pl.Int32}
    repositories = frame({"mount_id": pl.Int32, "repository": pl.String}, (1, "one"))
    return KernelSide(
        start_ns=0,
        stop_ns=99,
        accesses=Accesses(MOUNTS, FILES, rows("operations"), rows("failed_operations")),
        attributes=repositories,
        serving=DAEMONS,
        daemons=DAEMONS,
        requests=rows("fuse_requests", **extra),
        tasks=rows("tasks"),
        events=pl.DataFrame(),
    )


def test_daemons_are_known_by_their_calls_or_else_by_their_system_calls(spool_writer: Any) -> None:
    """A miss and then a hit in one call, and in system calls: one fetch each."""
    call = {"pid": 200, "tid": 1, "object": digest(A)}
    inside = {**call, "function": LOOKUP, "parent_start_ns": 10, "parent_function": FETCH}
    spool_writer.ring(events.CALL, **call, function=FETCH, start_ns=10, end_ns=20, result=4)
    spool_writer.ring(events.CALL, **inside, start_ns=11, end_ns=12, result=-2)
    spool_writer.ring(events.CALL, **inside, start_ns=18, end_ns=19, result=4)
    for start_ns, result in ((30, -2), (40, 4)):
        path = f"/cache/{B[:2]}/{B[2:]}".encode()
        opened = {"pid": 201, "tid": 2, "syscall": 1, "path": path}
        spool_writer.ring(
            events.CACHE_FILE, **opened, start_ns=start_ns, end_ns=start_ns + 1, result=result
        )
    opened = {"kind": "cache", "pid": 200, "directory": "/", "names": ["/c/one/aa/" + "a" * 38]}
    side = client_side(Spool(spool_writer.run), Journal((opened,)), kernel())
    names = ("fetch_id", "pid", "object_hash", "start_ns", "end_ns", "outcome")
    assert side.fetches.select(names).rows() == [
        (0, 200, A, 10, 20, "joined"), (1, 201, B, 30, 41, "joined"),
    ]  # fmt: skip
    assert side.lookups["hit"].to_list() == [False, True, False, True]
    assert side.cache_paths.rows() == [(0, "/cache")]
    assert side.managers.rows() == [(1, "posix unmanaged", "/c/one"), (0, None, None)]


def test_attributes_are_of_the_latest_mount_of_a_device(spool_writer: Any) -> None:
    line = {
        "kind": "attributes", "device": "0:50", "path": "/a",
        "attributes": {"user.chunk_list": f"{A},0,10"},
    }  # fmt: skip
    side = client_side(Spool(spool_writer.run), Journal((line,)), kernel())
    assert side.chunks.select("file_id", "object_hash").rows() == [(1, A)]
