"""How long and how much memory finalising a run of N events takes.

    python tests/bench/bench_finalise.py 1000000 10000000 [--shape mixed|storm] [--directory DIR]

``mixed``: threads that read through FUSE: an operation that waits for a request that a daemon
thread serves with three calls and a wait of its own, then four operations that wait for nothing;
every 500th request fetches a chunk. ``storm``: one thread's reads, each an operation of its own, as
with --every-read. Prints one line per run: events, seconds, peak resident memory, segments. The
reach: 1 M in 5 s, 10 M in 40 s and 3 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmprof.probes import events
from cvmprof.probes.events import Layout
from cvmprof.profiler.finalise import finalise
from cvmprof.profiler.run.directory import create_run

Numbers = NDArray[np.int64]
THREADS, DEVICE, DAEMON, TARGET = 8, 50, 200, 100
CYCLE_NS, FETCH_EVERY, RECORDS_PER_CYCLE = 100_000, 500, 12
CHUNK_BYTES, READ_BYTES = 8 << 20, 128 << 10
FUNCTIONS = {name: number for number, name in enumerate(events.DAEMON_FUNCTIONS)}
KNOWN = events.OPERATION_KNOWN_FILE | events.OPERATION_HAS_RANGE


def write_ring(spool: Path, layout: Layout, count: int, **columns: Any) -> None:
    """Write ``count`` records, in blocks."""
    dtype = np.dtype([("_length", "<u4"), ("_page", "<u4"), *layout.dtype()])
    with (spool / f"{layout.name}.ring").open("ab") as ring:
        for low in range(0, count, 1 << 18):
            high = min(count, low + (1 << 18))
            block = np.zeros(high - low, dtype)
            block["_length"] = layout.size
            for name, column in columns.items():
                block[name] = column[low:high] if isinstance(column, np.ndarray) else column
            block.tofile(ring)


def write_storm(spool: Path, count: int) -> int:
    """Write one thread's reads; return when they end."""
    start = 10_000 + np.arange(count, dtype=np.int64) * 2_000
    write_ring(
        spool,
        events.OPERATION,
        count,
        start_ns=start,
        end_ns=start + 1_200,
        ino=7,
        dev=DEVICE,
        pid=TARGET,
        tid=TARGET,
        offset=np.arange(count) * 4096 % (1 << 30),
        size=4096,
        result=4096,
        kind=1,
        flags=KNOWN,
    )
    return int(start[-1]) + 10_000


def write_mixed(spool: Path, count: int) -> int:
    """Write cycles of reads through FUSE; return when they end."""
    cycles = max(1, count // RECORDS_PER_CYCLE)
    number = np.arange(cycles, dtype=np.int64)
    thread, start = number % THREADS, 10_000 + number // THREADS * CYCLE_NS
    tid, server, unique = TARGET + thread, DAEMON + 1 + thread, 2 + 2 * number
    write_target(spool, start, tid, server, unique)
    write_daemon(spool, start, server, unique, number)
    write_fetches(spool, start, server, unique, number)
    return int(start[-1]) + 2 * CYCLE_NS


def write_target(
    spool: Path, start: Numbers, tid: Numbers, server: Numbers, unique: Numbers
) -> None:
    """Write the target's side of each cycle: operations, its sleep, its request."""
    count, offset = len(start), unique // 2 * READ_BYTES % (1 << 33)
    common: dict[str, Any] = {"ino": 7, "dev": DEVICE, "pid": TARGET, "tid": tid, "kind": 1,
                              "offset": offset, "flags": KNOWN}  # fmt: skip
    write_ring(
        spool,
        events.OPERATION,
        count,
        start_ns=start,
        end_ns=start + 60_000,
        size=READ_BYTES,
        result=READ_BYTES,
        **common,
    )
    for extra in range(4):
        at = start + 62_000 + extra * 8_000
        write_ring(
            spool,
            events.OPERATION,
            count,
            start_ns=at,
            end_ns=at + 5_000,
            size=4096,
            result=4096,
            **common,
        )
    write_ring(
        spool,
        events.BLOCKED,
        count,
        start_ns=start + 6_000,
        woken_ns=start + 50_000,
        end_ns=start + 52_000,
        unique=unique,
        dev=DEVICE,
        pid=TARGET,
        tid=tid,
        waker_pid=DAEMON,
        waker_tid=server,
        state=2,
    )
    write_ring(
        spool,
        events.REQUEST,
        count,
        queued_ns=start + 5_000,
        end_ns=start + 49_000,
        unique=unique,
        node_id=7,
        offset=offset,
        op_start_ns=start,
        size=READ_BYTES,
        dev=DEVICE,
        pid=TARGET,
        tid=tid,
        end_pid=DAEMON,
        end_tid=server,
        opcode=15,
    )


def write_daemon(
    spool: Path, start: Numbers, server: Numbers, unique: Numbers, number: Numbers
) -> None:
    """Write the daemon's side of each cycle: the request taken, three calls, a wait for a lock."""
    count = len(start)
    write_ring(
        spool,
        events.SERVED,
        count,
        time_ns=start + 8_000,
        unique=unique,
        pid=DAEMON,
        tid=server,
        opcode=15,
    )
    objects = np.zeros(count, "V32")
    raw = objects.view("u1").reshape(count, 32)
    raw[:, :8] = (1 + number // FETCH_EVERY).astype("<u8").view("u1").reshape(count, 8)
    raw[:, 20] = 1
    fetched = number % FETCH_EVERY == 0
    nested = ("Fetcher::Fetch", start + 12_000, start + 44_000, start + 10_000, "cvmfs_read", 5)
    lookup = (
        "CacheManager::Open",
        start + 13_000,
        start + 14_000,
        start + 12_000,
        "Fetcher::Fetch",
        np.where(fetched, -2, 5),
    )
    outer = ("cvmfs_read", start + 10_000, start + 49_500, 0, "none", 0)
    for function, begin, end, parent, parent_function, result in (nested, lookup, outer):
        write_ring(
            spool,
            events.CALL,
            count,
            start_ns=begin,
            end_ns=end,
            parent_start_ns=parent,
            parent_function=FUNCTIONS[parent_function],
            function=FUNCTIONS[function],
            unique=unique,
            result=result,
            pid=DAEMON,
            tid=server,
            object=objects if function != "cvmfs_read" else np.zeros(count, "V32"),
        )
    write_ring(
        spool,
        events.BLOCKED,
        count,
        start_ns=start + 20_000,
        woken_ns=start + 22_000,
        end_ns=start + 23_000,
        pid=DAEMON,
        tid=server,
        waker_pid=DAEMON,
        waker_tid=DAEMON + 50,
        state=1,
    )


def write_fetches(
    spool: Path, start: Numbers, server: Numbers, unique: Numbers, number: Numbers
) -> None:
    """Write a download for every request that fetches."""
    picked = number % FETCH_EVERY == 0
    begin, count = start[picked], int(picked.sum())
    write_ring(
        spool,
        events.CALL,
        count,
        start_ns=begin + 15_000,
        end_ns=begin + 42_000,
        parent_start_ns=begin + 12_000,
        parent_function=FUNCTIONS["Fetcher::Fetch"],
        function=FUNCTIONS["DownloadManager::Fetch"],
        unique=unique[picked],
        pid=DAEMON,
        tid=server[picked],
    )
    names = [
        int(n).to_bytes(8, "little").hex() + "00" * 12 for n in 1 + number[picked] // FETCH_EVERY
    ]
    requests = np.array(
        [f"GET /cvmfs/r/data/{n[:2]}/{n[2:]}P HTTP/1.1\r\nHost: s\r\n\r\n".encode() for n in names]
    )
    write_ring(
        spool,
        events.DOWNLOAD,
        count,
        sent_ns=begin + 16_000,
        first_byte_ns=begin + 20_000,
        last_byte_ns=begin + 40_000,
        bytes=1 << 20,
        pid=DAEMON,
        tid=DAEMON + 50,
        fd=9,
        sequence=np.arange(count),
        answer=b"HTTP/1.1 200 OK",
        request=requests,
    )


def write_run(run: Path, count: int, shape: str) -> None:
    """Write a run directory that waits to be finalised."""
    spool = create_run(run) / "spool"
    stop_ns = write_storm(spool, count) if shape == "storm" else write_mixed(spool, count)
    tids = np.arange(TARGET, TARGET + (1 if shape == "storm" else THREADS))
    write_ring(
        spool,
        events.TASK,
        len(tids),
        time_ns=5_000,
        start_ns=4_000,
        pid=TARGET,
        tid=tids,
        kind=2,
        role=1,
        name=b"python",
    )
    chunks = "".join(
        f"{int(n + 1).to_bytes(8, 'little').hex() + '00' * 12},{n * CHUNK_BYTES},{CHUNK_BYTES}\n"
        for n in range(1024)
    )
    path = b"model\0r\0cvmfs\0"
    write_ring(
        spool,
        events.FILE,
        1,
        time_ns=6_000,
        ino=7,
        size=1 << 33,
        dev=DEVICE,
        pid=TARGET,
        components=np.array([path.ljust(2048, b"\0")], "V2048"),
        text=len(path),
        mount_text=6,
        complete=1,
    )
    lines: list[dict[str, Any]] = [
        {"kind": "start", "time_ns": 1_000, "schema_version": 1, "command": ["bench"]},
        {
            "kind": "attributes",
            "time_ns": stop_ns,
            "device": "0:50",
            "path": "/cvmfs/r/model",
            "attributes": {"user.chunk_list": chunks},
        },
        {"kind": "stop", "time_ns": stop_ns, "complete": True},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "journal.jsonl").write_text(text)


def finalise_here(run: Path) -> None:
    """Finalise in this process and print the figures as JSON."""
    before = time.monotonic()
    rows = finalise(run).meta["rows"]
    seconds = time.monotonic() - before
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_mb": peak_kb / 1024, "rows": rows}))


def measure(directory: Path, count: int, shape: str) -> dict[str, Any]:
    """Write a run, finalise it in a process of its own, and return seconds, peak_mb and rows."""
    run = directory / f"{shape}-{count}.cvmprof"
    write_run(run, count, shape)
    command = [sys.executable, __file__, "--finalise", str(run)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    shutil.rmtree(run)
    figures: dict[str, Any] = json.loads(answer)
    return figures


def rows() -> Iterator[tuple[str, str, str, bool | None]]:
    """Yield what `make bench` prints."""
    with tempfile.TemporaryDirectory() as directory:
        for count, seconds, peak_mb in ((1_000_000, 5, 3_000), (10_000_000, 40, 3_000)):
            found = measure(Path(directory), count, "mixed")
            what = f"finalise and join, {count // 1_000_000} M events"
            yield (
                what,
                f"{found['seconds']:.1f} s",
                f"{seconds} s (with the page)",
                found["seconds"] <= seconds,
            )
            peak = found["peak_mb"]
            yield f"{what}: memory", f"{peak:.0f} MB", f"{peak_mb} MB", peak <= peak_mb


def described(count: int, shape: str, figures: dict[str, Any]) -> str:
    """Say how it went in a line."""
    rows = figures["rows"]
    return (
        f"{shape}: {count:>12,} events {figures['seconds']:6.1f} s {figures['peak_mb']:6.0f} MB "
        f"peak  {rows['segments']:,} segments, {rows['fetches']:,} fetches, {rows['waits']:,} waits"
    )


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[1_000_000])
    parser.add_argument("--shape", choices=["mixed", "storm"], default="mixed")
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--finalise", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.finalise:
        finalise_here(arguments.finalise)
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as temporary:
        for count in arguments.counts:
            figures = measure(Path(temporary), count, arguments.shape)
            print(described(count, arguments.shape, figures), flush=True)


if __name__ == "__main__":
    main()
