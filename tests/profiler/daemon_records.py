"""Records of one daemon's calls, cache files and HTTP requests, as a spool holds them."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import DAEMON_FUNCTIONS
from cvmprof.tests.profiler.conftest import digest

FUNCTION = {name: number for number, name in enumerate(DAEMON_FUNCTIONS)}
FETCH, LOOKUP, DOWNLOADING = (
    FUNCTION[name] for name in ("Fetcher::Fetch", "CacheManager::Open", "DownloadManager::Fetch")
)
A, B = "a1" * 20, "b2" * 20
DAEMONS = pl.DataFrame(
    {"pid": [200], "mount_id": [3]}, schema={"pid": pl.Int32, "mount_id": pl.Int32}
)


def fetching(
    tid: int, start: int, end: int, looked: int | None, took: tuple[int, int] | None, **values: Any
) -> list[dict[str, Any]]:
    """Records of a Fetcher::Fetch: its lookup's result, its download's times."""
    nested = {"pid": 200, "tid": tid, "parent_start_ns": start, "parent_function": FETCH}
    whole = {"pid": 200, "tid": tid, "start_ns": start, "end_ns": end, "function": FETCH,
             "object": digest(A), "result": 4, **values}  # fmt: skip
    rows = [whole]
    if looked is not None:
        rows += [
            {
                **nested,
                "start_ns": start + 1,
                "end_ns": start + 2,
                "function": LOOKUP,
                "object": digest(A),
                "result": looked,
            },
            {
                **nested,
                "start_ns": start + 8,
                "end_ns": start + 9,
                "function": LOOKUP,
                "object": digest(A),
                "result": 5,
            },
        ]
    if took is not None:
        rows += [{**nested, "start_ns": took[0], "end_ns": took[1], "function": DOWNLOADING}]
    return rows


def cache_file(
    start: int, tid: int, syscall: str, path: str, result: int = 0, flags: int = 0, new: str = ""
) -> dict[str, Any]:
    number = ("none", "openat", "rename", "unlink").index(syscall)
    return {
        "start_ns": start,
        "end_ns": start + 2,
        "pid": 200,
        "tid": tid,
        "syscall": number,
        "path": path.encode(),
        "new_path": new.encode(),
        "result": result,
        "open_flags": flags,
    }


CACHED = f"/cache/{A[:2]}/{A[2:]}"


def served_requests(*rows: tuple[int, int, int, int | None]) -> pl.DataFrame:
    """Requests (unique, served_tid, served_ns, end_ns)."""
    schema = {
        "unique": pl.UInt64,
        "served_tid": pl.Int32,
        "served_ns": pl.Int64,
        "end_ns": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        mount_id=pl.lit(3, pl.Int32)
    )


def download(sent: int, request: str, **values: Any) -> dict[str, Any]:
    return {"sent_ns": sent, "pid": 200, "tid": 9, "fd": 5, "request": request.encode(), **values}


PROXIES = pl.DataFrame(
    {"mount_id": [3], "proxy": ["http://squid:3128"]},
    schema={"mount_id": pl.Int32, "proxy": pl.String},
)
PATH = f"/cvmfs/r.ch/data/{A[:2]}/{A[2:]}"
