"""The network's side as a whole."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes import events
from cvmprof.profiler.client.side import ClientSide
from cvmprof.profiler.kernel.side import Accesses, KernelSide
from cvmprof.profiler.run.spool import Spool
from cvmprof.profiler.wire.side import wire_side
from cvmprof.tests.profiler.rows import frame, rows

A, B = "a1" * 20, "b2" * 20
DAEMONS = frame({"pid": pl.Int32, "mount_id": pl.Int32}, (200, 1))
PROXIES = frame({"mount_id": pl.Int32, "proxy": pl.String})
NO_FRAME = pl.DataFrame()
COMMITS = {"pid": pl.Int32, "object_hash": pl.String, "end_ns": pl.Int64}
KERNEL = KernelSide(
    start_ns=0,
    stop_ns=99,
    accesses=Accesses(NO_FRAME, NO_FRAME, NO_FRAME, NO_FRAME),
    attributes=PROXIES,
    serving=DAEMONS,
    daemons=DAEMONS,
    requests=NO_FRAME,
    tasks=NO_FRAME,
    events=NO_FRAME,
)


def client(*fetches: dict[str, Any]) -> ClientSide:
    made = [{"pid": 200, "fetch_id": n, **each} for n, each in enumerate(fetches)]
    return ClientSide(
        calls=rows("daemon_calls"),
        lookups=NO_FRAME,
        chunks=NO_FRAME,
        fetches=rows("fetches", *made, queued_ns=pl.Int64),
        commits=frame(COMMITS, (200, A, 60)),
        cache_paths=NO_FRAME,
        managers=NO_FRAME,
    )


def test_requests_are_for_fetches_that_download(spool_writer: Any) -> None:
    """Not for those that joined; one of an object that nobody names is for the only download."""
    for sent_ns, path in ((20, f"GET /data/{A[:2]}/{A[2:]} HTTP/1.1\r\n"), (70, "")):
        spool_writer.ring(
            events.DOWNLOAD, sent_ns=sent_ns, pid=200, tid=9, fd=5, request=path.encode()
        )
    spool_writer.ring(events.WORK, start_ns=30, end_ns=31, sent_ns=20, pid=200, fd=5)
    joined = {"object_hash": A, "outcome": "joined", "start_ns": 15, "end_ns": 50}
    side = wire_side(
        Spool(spool_writer.run),
        KERNEL,
        client(
            {"object_hash": A, "outcome": "downloaded", "start_ns": 10, "end_ns": 50,
             "queued_ns": 12},
            joined,
            {"object_hash": B, "start_ns": 60},
            {**joined, "end_ns": 80},
        ),
    )  # fmt: skip
    assert side.attempts.rows() == [(0, 0, 1, 9), (2, 1, 1, 9)]
    names = ("download_id", "object_hash", "queued_ns", "committed_ns")
    assert side.downloads.select(names).rows() == [(0, A, 12, 60), (1, B, None, None)]
    assert side.work["download_id"].to_list() == [0]
