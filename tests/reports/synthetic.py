"""Runs made by hand, shaped like a model load through CVMFS, for the reports' tests.

The cold run: thread 101 loads a model of 200 MiB in 17 chunks, 20 ms to the first byte each, one
after another; 12 of the model's 29 chunks are in the client's cache. Two workers help. The warm run
touches the page cache only.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from cvmprof.profiler import tables
from cvmprof.profiler.run.directory import SCHEMA_VERSION

MS = 1_000_000
MIB = 1 << 20
START = 5_000_000_000_000
PID, MAIN, DAEMON = 100, 101, 900
WORKERS = (102, 103, 104)
MODEL = "/cvmfs/models.example.org/phi4/model.onnx.data"


def sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def meta(command: list[str], duration_ns: int, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "version": "0.1",
        "command": command,
        "utc_offset_ns": 1_790_000_000 * 1_000_000_000 - START,
        "kernel": "6.12.48+deb12-amd64",
        "machine": "x86_64",
        "cpus": 8,
        "uid": 1000,
        "backend": "auto",
        "options": {"every_read": False, "stall_threshold_ns": MS},
        "start_ns": START,
        "stop_ns": START + duration_ns,
        "complete": True,
        "exit_status": 0,
    }
    return base | changes


def _usual(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """What most rows of a table have."""
    match table:
        case "operations":
            return {"passthrough": False}
        case "gpu_ops":
            return {"pageable": False}
        case "stalls":
            nothing_copied = {"copying_in_ns": 0, "copying_out_ns": 0}
            return {"submitted_ns": row["end_ns"], "source": "runner", **nothing_copied}
        case _:
            return {}


@dataclass
class Rows:
    """Rows by table, in the making."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])

    def add(self, table: str, **row: Any) -> int:
        """Append a row; return its place."""
        filled = {**_usual(table, row), **row}
        self.rows.setdefault(table, []).append(filled)
        return len(self.rows[table]) - 1

    def frames(self) -> dict[str, pl.DataFrame]:
        """Return every table of the contract."""
        return {
            table.name: tables.conform(
                table.name,
                pl.DataFrame(self.rows[table.name], infer_schema_length=None)
                if self.rows.get(table.name)
                else tables.empty(table.name),
            )
            for table in tables.TABLES
        }


def _world(rows: Rows, end_ns: int, chunks: int, cached: set[int]) -> None:
    rows.add(
        "mounts",
        mount_id=0,
        device="0:55",
        mountpoint="/cvmfs/models.example.org",
        filesystem="fuse",
        repository="models.example.org",
        revision=7,
        client_version="2.12.0",
        daemon_pid=DAEMON,
    )
    rows.add(
        "files",
        file_id=0,
        mount_id=0,
        inode=17,
        generation=0,
        path=MODEL,
        size_bytes=chunks * 8 * MIB,
        cached_bytes_at_start=len(cached) * 8 * MIB,
    )
    rows.add(
        "files",
        file_id=1,
        mount_id=0,
        inode=18,
        generation=0,
        path="/cvmfs/models.example.org/phi4/model.onnx",
        size_bytes=300_000,
    )
    for index in range(chunks):
        rows.add(
            "chunks",
            file_id=0,
            index=index,
            object_hash=sha1(f"chunk {index}"),
            offset_bytes=index * 8 * MIB,
            size_bytes=8 * MIB,
            cached_at_start=index in cached,
        )
    for tid in (MAIN, *WORKERS):
        rows.add(
            "tasks",
            pid=PID,
            tid=tid,
            parent_pid=1,
            name="python3",
            role="target",
            argv=["python3", "infer.py"] if tid == MAIN else None,
            start_ns=START,
            end_ns=end_ns,
            exit_code=0,
        )
    for number in range(4):
        rows.add(
            "tasks",
            pid=DAEMON,
            tid=DAEMON + number,
            parent_pid=1,
            name="cvmfs2",
            role="daemon",
            start_ns=START - 10**12,
        )
    _probes(rows)


def _probes(rows: Rows) -> None:
    rows.add(
        "probes",
        event="fuse request",
        family="raw tracepoint",
        target="fuse_request_send",
        hits=560,
    )
    rows.add(
        "probes",
        event="daemon call",
        family="uprobe",
        target="libcvmfs_fuse3.so:cvmfs::Fetcher::Fetch",
        build_id="6a1f",
        hits=17,
    )
    rows.add(
        "probes",
        event="page fault",
        family="software event",
        target="mm_filemap_fault",
        hits=301,
        reason="kprobes are off in this kernel",
    )
    rows.add(
        "probes",
        event="GPU submit",
        family="none",
        target="",
        hits=0,
        reason="no libcuda on this machine",
    )


def _segment(rows: Rows, tid: int, start: int, end: int, cause: str, **ids: Any) -> None:
    if end > start:
        rows.add("segments", pid=PID, tid=tid, start_ns=start, end_ns=end, cause=cause, **ids)


def _chunk(rows: Rows, fetch: int, chunk: int, now: int, rng: random.Random) -> int:
    """Load one chunk cold on the main thread from ``now``; return the time after it."""
    first, wire = 20 * MS + rng.randrange(MS), rng.randrange(3 * MIB, 8 * MIB)
    size, transfer = 8 * MIB, 45 * MS + rng.randrange(25 * MS)
    taken = now + 40_000
    sent = taken + 300_000
    first_byte, last_byte = sent + first, sent + first + transfer
    committed = last_byte + 2 * MS
    end = committed + 120_000
    worker = DAEMON + 1 + fetch % 3
    unique = 1000 + 40 * fetch
    offset = chunk * size
    op = rows.add(
        "operations",
        op_id=fetch,
        kind="fault",
        start_ns=now,
        end_ns=end + 60_000,
        pid=PID,
        tid=MAIN,
        file_id=0,
        offset_bytes=offset,
        size_bytes=4096,
        result=0,
    )
    for step in range(32):
        queued = now + 20_000 + step * 2_000
        served = end + step * 150_000
        rows.add(
            "fuse_requests",
            mount_id=0,
            unique=unique + step,
            opcode=15,
            node_id=17,
            offset_bytes=offset + step * 262_144,
            size_bytes=262_144,
            pid=PID,
            tid=MAIN,
            queued_ns=queued,
            served_ns=taken + step * 1000,
            end_ns=end if step == 0 else served + 90_000,
            error=0,
            op_id=op,
        )
    rows.add(
        "waits", op_id=op, mount_id=0, unique=unique, start_ns=now + 30_000, end_ns=end, how="waker"
    )
    call = rows.add(
        "daemon_calls",
        call_id=2 * fetch,
        mount_id=0,
        function="cvmfs::cvmfs_read",
        pid=DAEMON,
        tid=worker,
        start_ns=taken,
        end_ns=end,
        unique=unique,
    )
    rows.add(
        "daemon_calls",
        call_id=2 * fetch + 1,
        parent_id=call,
        mount_id=0,
        function="cvmfs::Fetcher::Fetch",
        pid=DAEMON,
        tid=worker,
        start_ns=taken + 50_000,
        end_ns=committed,
        unique=unique,
        object_hash=sha1(f"chunk {chunk}"),
    )
    rows.add(
        "downloads",
        download_id=fetch,
        mount_id=0,
        object_hash=sha1(f"chunk {chunk}"),
        url_path=f"/cvmfs/models.example.org/data/{sha1(f'chunk {chunk}')[:2]}/…P",
        host="127.0.0.1:8000",
        connection_id=0,
        encrypted=False,
        reused=fetch > 0,
        attempt=1,
        status=200,
        queued_ns=taken + 100_000,
        sent_ns=sent,
        first_byte_ns=first_byte,
        last_byte_ns=last_byte,
        committed_ns=committed,
        wire_bytes=wire,
    )
    rows.add(
        "fetches",
        fetch_id=fetch,
        call_id=2 * fetch + 1,
        mount_id=0,
        start_ns=taken + 50_000,
        end_ns=committed,
        pid=DAEMON,
        tid=worker,
        unique=unique,
        object_hash=sha1(f"chunk {chunk}"),
        object_kind="chunk",
        outcome="downloaded",
        file_id=0,
        offset_bytes=offset,
        unpacked_bytes=size,
        download_id=fetch,
    )
    ids = {"op_id": op, "mount_id": 0, "unique": unique}
    deep = ids | {"fetch_id": fetch}
    _segment(rows, MAIN, now, now + 30_000, "copy", op_id=op)
    _segment(rows, MAIN, now + 30_000, taken, "fuse_queue", **ids)
    _segment(rows, MAIN, taken, taken + 50_000, "daemon", **ids)
    _segment(rows, MAIN, taken + 50_000, sent, "fetch_queue", **deep)
    _segment(rows, MAIN, sent, first_byte, "first_byte", **deep)
    _segment(rows, MAIN, first_byte, last_byte, "transfer", **deep)
    _segment(rows, MAIN, last_byte, committed, "cache_write", **deep)
    _segment(rows, MAIN, committed, end, "daemon", **ids)
    _segment(rows, MAIN, end, end + 60_000, "reply", **ids)
    for granule in range(8):
        rows.add(
            "touches",
            file_id=0,
            granule=chunk * 8 + granule,
            start_ns=now - now % (100 * MS),
            bytes_read=0,
            pages_mapped=256,
            pages_inserted=256,
        )
    return end + 60_000


def _after(rows: Rows, chunk: int, now: int, rng: random.Random) -> int:
    """Use the chunk that has arrived: CPU time and page-cache hits."""
    end = now + 3 * MS + rng.randrange(5 * MS)
    _segment(rows, MAIN, now, end, "cpu")
    rows.add(
        "hits",
        pid=PID,
        tid=MAIN,
        file_id=0,
        kind="fault",
        start_ns=now,
        end_ns=end,
        count=2047,
        bytes=2047 * 4096,
        ns=MS,
        max_ns=9_000,
    )
    return end


def _runs(rows: Rows, load_start: int, now: int, count: int) -> int:
    """Inference: device calls by the main thread, with the workers on CPU."""
    load_end = now
    for step in range(count):
        end = now + 28 * MS
        rows.add(
            "gpu_ops",
            device="cpu",
            kind="run",
            start_ns=now,
            end_ns=end,
            pid=PID,
            tid=MAIN,
            source="runner",
        )
        _segment(rows, MAIN, now, end, "cpu")
        for tid in WORKERS:
            _segment(rows, tid, now, end, "cpu")
            _segment(rows, tid, end, end + 2 * MS, "blocked", via_tid=MAIN)
        _segment(rows, MAIN, end, end + 2 * MS, "cpu")
        if step:
            rows.add(
                "stalls",
                stall_id=step,
                device="cpu",
                start_ns=now - 2 * MS,
                end_ns=now,
                waiting_tid=MAIN,
            )
        now = end + 2 * MS
    rows.add("stalls", stall_id=0, device="cpu", start_ns=START, end_ns=load_end, waiting_tid=MAIN)
    for tid in WORKERS:
        _segment(rows, tid, START, load_end, "blocked", via_tid=MAIN)
    rows.add("phases", name="load", start_ns=load_start, end_ns=load_end, pid=PID, tid=MAIN)
    rows.add("phases", name="infer", start_ns=load_end, end_ns=now, pid=PID, tid=MAIN)
    return now


@dataclass(frozen=True)
class SyntheticRun:
    """What ``open_run`` gives, without a directory."""

    meta: Mapping[str, Any]
    tables: Mapping[str, pl.DataFrame]


def cold_run(fetched: int = 17, chunks: int = 29) -> SyntheticRun:
    """Return the cold run: chunks ``chunks - fetched`` and later are downloaded in order."""
    rng, rows = random.Random(1), Rows()
    cached = set(range(chunks - fetched))
    now = START + 150 * MS
    _segment(rows, MAIN, START, now, "cpu")
    load_start = now
    for chunk in range(chunks):
        if chunk in cached:
            op_end = now + 2 * MS
            _segment(rows, MAIN, now, op_end, "cache_read")
            now = op_end
        else:
            now = _chunk(rows, chunk - len(cached), chunk, now, rng)
        now = _after(rows, chunk, now, rng)
    end = _runs(rows, load_start, now, 12)
    _world(rows, end, chunks, cached)
    return SyntheticRun(meta(["python3", "infer.py", MODEL], end - START), rows.frames())


def warm_run() -> SyntheticRun:
    """Return the warm run: page-cache hits, no request to the daemon but one open."""
    rng, rows = random.Random(2), Rows()
    now = START + 20 * MS
    _segment(rows, MAIN, START, now, "cpu")
    rows.add(
        "fuse_requests",
        mount_id=0,
        unique=3,
        opcode=14,
        node_id=17,
        pid=PID,
        tid=MAIN,
        queued_ns=now,
        served_ns=now + 20_000,
        end_ns=now + 60_000,
        error=0,
        op_id=0,
    )
    rows.add(
        "operations",
        op_id=0,
        kind="open",
        start_ns=now,
        end_ns=now + 70_000,
        pid=PID,
        tid=MAIN,
        file_id=0,
        result=3,
    )
    _segment(rows, MAIN, now, now + 70_000, "daemon", op_id=0, mount_id=0, unique=3)
    now += 70_000
    load_start = START + 20 * MS
    for chunk in range(29):
        _segment(rows, MAIN, now, now + MS, "copy")
        now = _after(rows, chunk, now + MS, rng)
    end = _runs(rows, load_start, now, 4)
    _world(rows, end, 29, set(range(29)))
    return SyntheticRun(meta(["python3", "infer.py", MODEL], end - START), rows.frames())


def tiny_rows() -> Rows:
    """Return 100 ms of load: two chunks of 1 MiB, one after another, each 20 ms + 15 ms.

    Main thread, in ms: cpu 0–10, first_byte 10–30, transfer 30–45, cpu 45–60, first_byte 60–80,
    transfer 80–95, unknown 95–100.
    """
    rows = Rows()
    tiling = ((0, 10, "cpu", None), (10, 30, "first_byte", 0), (30, 45, "transfer", 0),
              (45, 60, "cpu", None), (60, 80, "first_byte", 1), (80, 95, "transfer", 1),
              (95, 100, "unknown", None))  # fmt: skip
    for start, end, cause, fetch in tiling:
        ids = {} if fetch is None else {"fetch_id": fetch, "op_id": fetch}
        _segment(rows, MAIN, START + start * MS, START + end * MS, cause, **ids)
    for fetch, start in ((0, 10), (1, 60)):
        begin = START + start * MS
        rows.add(
            "operations",
            op_id=fetch,
            kind="read",
            start_ns=begin,
            end_ns=begin + 35 * MS,
            pid=PID,
            tid=MAIN,
            file_id=0,
            offset_bytes=fetch * MIB,
            size_bytes=MIB,
            result=MIB,
        )
        rows.add(
            "fetches",
            fetch_id=fetch,
            mount_id=0,
            start_ns=begin,
            end_ns=begin + 35 * MS,
            pid=DAEMON,
            tid=DAEMON + 1,
            object_hash=sha1(f"chunk {fetch}"),
            file_id=0,
            object_kind="chunk",
            outcome="downloaded",
            offset_bytes=fetch * MIB,
            unpacked_bytes=MIB,
            download_id=fetch,
            unique=2 * fetch + 2,
        )
        rows.add(
            "downloads",
            download_id=fetch,
            mount_id=0,
            object_hash=sha1(f"chunk {fetch}"),
            url_path="/data",
            host="h",
            connection_id=0,
            encrypted=False,
            reused=fetch > 0,
            attempt=1,
            status=200,
            sent_ns=begin,
            first_byte_ns=begin + 20 * MS,
            last_byte_ns=begin + 35 * MS,
            wire_bytes=600_000,
        )
    rows.add(
        "hits",
        pid=PID,
        tid=MAIN,
        file_id=0,
        kind="read",
        start_ns=START + 45 * MS,
        end_ns=START + 46 * MS,
        count=98,
        bytes=401_408,
        ns=MS,
        max_ns=MS,
    )
    rows.add("phases", name="load", start_ns=START, end_ns=START + 100 * MS, pid=PID, tid=MAIN)
    _world(rows, START + 100 * MS, 3, {2})
    return rows


def run_of(rows: Rows, **changes: Any) -> SyntheticRun:
    """Return the run of 100 ms with these rows."""
    return SyntheticRun(meta(["python3", "infer.py"], 100 * MS, **changes), rows.frames())


HOSTILE = (
    "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
    "<b class=evil>b</b><a href='javascript:window.pwned=1'>%{x}</a>\x1b]0;\u202egnp.exe\x00\udcff"
)


def crashed_run() -> SyntheticRun:
    """Return the cold run with a crash of the daemon in its midst, and a new mount after it."""
    cold = cold_run()
    rows = [
        {
            "time_ns": START + 900 * MS,
            "kind": "crash",
            "pid": DAEMON,
            "tid": DAEMON + 1,
            "mount_id": 0,
            "signal": 11,
            "detail": "daemon killed, after its last call cvmfs_read",
        },
        {
            "time_ns": START + 1000 * MS,
            "kind": "remount",
            "pid": DAEMON,
            "mount_id": 0,
            "detail": "0:50 mounted at /cvmfs/models.lab.test",
        },
    ]
    incidents = tables.conform("incidents", pl.DataFrame(rows, infer_schema_length=None))
    return SyntheticRun(cold.meta, {**cold.tables, "incidents": incidents})


def hostile_run() -> SyntheticRun:
    """Return the cold run with every string of every table hostile, the command's too."""
    cold = cold_run()
    word = HOSTILE.encode("utf-8", "replace").decode()  # polars holds no surrogates
    spoilt = {name: spoilt_text(frame, word) for name, frame in cold.tables.items()}
    incident = {"time_ns": START + MS, "kind": word, "detail": word, "pid": 1}
    spoilt["incidents"] = tables.conform("incidents", pl.DataFrame([incident]))
    spoilt["losses"] = tables.conform(
        "losses", pl.DataFrame([{"probe": word, "cause": word, "count": 3}])
    )
    changes = {"command": ["python3", HOSTILE], "kernel": HOSTILE, "version": HOSTILE}
    return SyntheticRun({**cold.meta, **changes}, spoilt)


def spoilt_text(frame: pl.DataFrame, word: str) -> pl.DataFrame:
    """Return the frame with ``word`` before every text."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    return frame.with_columns((word + pl.col(name).fill_null("")).alias(name) for name in texts)


def huge_run(segments: int = 1_000_000, threads: int = 16, requests: int = 400_000) -> SyntheticRun:
    """Return a run with so many segments, operations and FUSE requests, all of microseconds."""
    cold = cold_run()
    each = segments // threads
    one = pl.select(place=pl.int_range(each, dtype=pl.Int64)).select(
        start_ns=pl.col("place") * 2000 + START,
        end_ns=pl.col("place") * 2000 + START + 2000,
        cause=pl.col("place")
        .mod(5)
        .replace_strict([0, 1, 2, 3, 4], ["cpu", "copy", "transfer", "first_byte", "blocked"]),
        op_id="place",
        pid=pl.lit(PID),
    )
    tiles = pl.concat([one.with_columns(tid=pl.lit(MAIN + n)) for n in range(threads)])
    operations = one.select(
        "op_id",
        "start_ns",
        end_ns=pl.col("start_ns") + 1500,
        kind=pl.lit("read"),
        pid=pl.lit(PID),
        tid=pl.lit(MAIN),
        file_id=pl.lit(0),
        offset_bytes=pl.col("op_id") * 4096,
        size_bytes=pl.lit(4096),
        result=pl.lit(4096),
        passthrough=pl.lit(value=False),
    )
    asked = (
        pl.select(unique=pl.int_range(requests, dtype=pl.UInt64))
        .with_columns(
            mount_id=pl.lit(0),
            opcode=pl.lit(15),
            node_id=pl.lit(17),
            pid=pl.lit(PID),
            error=pl.lit(0),
            tid=pl.lit(MAIN),
            queued_ns=pl.col("unique").cast(pl.Int64) * 300 + START,
            op_id=pl.col("unique") % each,
        )
        .with_columns(end_ns=pl.col("queued_ns") + 100_000 + pl.col("unique").cast(pl.Int64) % 977)
    )
    made = {"segments": tiles, "operations": operations, "fuse_requests": asked}
    return SyntheticRun(
        cold.meta, {**cold.tables, **{k: tables.conform(k, v) for k, v in made.items()}}
    )
