"""A run made by hand in which two GPUs wait for the layers of a model, for the reports' tests.

Thread 101 copies layers to GPU 0 straight from the mapped model, so that it faults inside the
driver's copy; thread 102 does the same for GPU 1, but the pages are touched by thread 103, which
wakes it. When GPU 1 has its layers, thread 102 waits until thread 101 has the others. Each layer is
one chunk of 8 MiB with two tensors. Most chunks take 30 ms, those of ``LATE`` take longer. Kernels
run on stream 7 of each device, copies on stream 13; GPU 0 also has stream 14, which copies back.
Samples of both devices come every 50 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from cvmprof.profiler import tables

from .synthetic import (
    DAEMON,
    HOSTILE,
    MAIN,
    MIB,
    MS,
    PID,
    START,
    Rows,
    SyntheticRun,
    meta,
    sha1,
    spoilt_text,
)

UUIDS = (
    "GPU-6d1c9f3e-20b7-4a51-9a5e-0f3f5c0d7a11",
    "GPU-b02e77c4-91d3-4f0e-8a44-6a1c2b9de052",
)
SECOND, TOUCHER = 102, 103
LAYERS, LAYER_BYTES = 12, 8 * MIB
#: ms that the first byte of a layer's chunk takes, where it is late; GPU 1 has layers 6 to 11
LATE = {2: 700, 4: 250, 8: 480, 10: 120}
MODEL = "/cvmfs/models.example.org/phi4/model.safetensors"


def layer_tensors(layer: int) -> tuple[str, str]:
    """Return the names of a layer's two tensors, each half of its chunk."""
    return f"layers.{layer}.attention.weight", f"layers.{layer}.mlp.weight"


@dataclass
class Lane:
    """A device and the thread that submits to it; ``toucher`` faults in the pages."""

    device: int
    tid: int
    toucher: int
    layers: range
    correlation: int = 0


def gpu_run() -> SyntheticRun:
    """Return the run."""
    rows = gpu_rows()
    end = max(row["end_ns"] for row in rows.rows["segments"])
    return SyntheticRun(meta(["python3", "generate.py", MODEL], end - START), rows.frames())


def calls_run() -> SyntheticRun:
    """Return the run as calls of the driver alone show it."""
    rows = gpu_rows()
    for table in ("gpu_ops", "gpu_samples", "devices"):
        del rows.rows[table]
    for table in ("gpu_calls", "stalls"):
        rows.rows[table] = [row | {"source": "cuda_api"} for row in rows.rows[table]]
    end = max(row["end_ns"] for row in rows.rows["segments"])
    return SyntheticRun(meta(["python3", "generate.py", MODEL], end - START), rows.frames())


def hostile_gpu_run() -> SyntheticRun:
    """Return the run with every string of every table hostile."""
    made = gpu_run()
    word = HOSTILE.encode("utf-8", "replace").decode()  # polars holds no surrogates
    spoilt = {name: spoilt_text(frame, word) for name, frame in made.tables.items()}
    return SyntheticRun(made.meta, spoilt)


def gpu_rows() -> Rows:
    """Return the rows of the run."""
    rows, end = Rows(), START
    lanes = Lane(0, MAIN, MAIN, range(6)), Lane(1, SECOND, TOUCHER, range(6, LAYERS))
    loaded, waiting = (_load(rows, lane) for lane in lanes)
    rows.add("segments", pid=PID, tid=SECOND, start_ns=waiting, end_ns=loaded, cause="blocked",
             via_tid=MAIN)  # fmt: skip
    rows.add("segments", pid=PID, tid=TOUCHER, start_ns=waiting, end_ns=loaded, cause="blocked")
    for lane in lanes:
        end = _generate(rows, lane, loaded)
    rows.add("phases", name="load", start_ns=START + 320 * MS, end_ns=loaded, pid=PID, tid=MAIN)
    rows.add("phases", name="generate", start_ns=loaded, end_ns=end, pid=PID, tid=MAIN)
    _tasks(rows)
    _stalls(rows)
    _world(rows)
    _samples(rows)
    return rows


def _load(rows: Rows, lane: Lane) -> int:
    """Load the device's layers, each used as soon as it is there; return the time after it."""
    now = START
    for cause, ms in (("cpu", 180), ("driver", 140)):
        tile(rows, lane, now, now + ms * MS, cause)
        now += ms * MS
    rows.add("gpu_calls", gpu_call_id=_next(rows, "gpu_calls"), kind="context", count=1,
             function="cuDevicePrimaryCtxRetain", start_ns=now - 140 * MS, end_ns=now,
             pid=PID, tid=lane.tid, source="cupti")  # fmt: skip
    for layer in lane.layers:
        now = _layer(rows, lane, layer, now)
    return now


def _generate(rows: Rows, lane: Lane, now: int) -> int:
    """Generate from ``now`` on; return the time after it."""
    for step in range(16):
        now = _kernels(rows, lane, now, f"decode_{step % 4}")
        if lane.device == 0 and step % 4 == 3:
            _copy(rows, lane, now - 2 * MS, now - MS, "copy_out")
    return now


def _layer(rows: Rows, lane: Lane, layer: int, now: int) -> int:
    """Copy one layer to the device and run its kernels; return the time after it."""
    begin = now
    now = _chunk(rows, lane, layer, now)
    tile(rows, lane, now, now + 4 * MS, "driver")
    _copy(rows, lane, now, now + 4 * MS, "copy_in")
    now += 4 * MS
    rows.add("gpu_calls", gpu_call_id=_next(rows, "gpu_calls"), kind="copy", count=1,
             function="cuMemcpyHtoD", start_ns=begin, end_ns=now, bytes=LAYER_BYTES,
             correlation=lane.correlation, pid=PID, tid=lane.tid, source="cupti")  # fmt: skip
    return _kernels(rows, lane, now, f"layer_{layer % 3}")


def _kernels(rows: Rows, lane: Lane, now: int, name: str) -> int:
    """Launch six kernels of 5 ms; the first begins 2 ms after the thread called."""
    tile(rows, lane, now, now + 2 * MS, "cpu")
    tile(rows, lane, now + 2 * MS, now + 32 * MS, "device")
    for number in range(6):
        lane.correlation += 1
        begin = now + 2 * MS + number * 5 * MS
        rows.add("gpu_ops", device=UUIDS[lane.device], context=1, stream=7, kind="kernel",
                 name=f"void {name}<float, {number}>(float const*, float*)", start_ns=begin,
                 end_ns=begin + 5 * MS - 20_000, correlation=lane.correlation, pid=PID,
                 tid=lane.tid, source="cupti")  # fmt: skip
    return now + 32 * MS


def _copy(rows: Rows, lane: Lane, start: int, end: int, kind: str) -> None:
    lane.correlation += 1
    rows.add("gpu_ops", device=UUIDS[lane.device], context=1, kind=kind, start_ns=start,
             stream=13 if kind == "copy_in" else 14, end_ns=end, bytes=LAYER_BYTES,
             pageable=kind == "copy_in", correlation=lane.correlation, pid=PID, tid=lane.tid,
             source="cupti")  # fmt: skip


def _chunk(rows: Rows, lane: Lane, layer: int, now: int) -> int:
    """Fault on a layer's second tensor until its chunk is there; return the time after it."""
    fetch, taken, sent = _next(rows, "fetches"), now + 40_000, now + 340_000
    first_byte = sent + LATE.get(layer, 20) * MS
    last_byte = first_byte + 10 * MS
    end, unique = last_byte + 300_000, 2000 + 2 * layer
    offset = layer * LAYER_BYTES
    tid, worker, name = lane.toucher, DAEMON + 1 + lane.device, sha1(f"layer {layer}")
    op = _next(rows, "operations")
    rows.add("operations", op_id=op, kind="fault", start_ns=now, end_ns=end, pid=PID, tid=tid,
             file_id=0, offset_bytes=offset + LAYER_BYTES // 2, size_bytes=4096,
             result=0)  # fmt: skip
    rows.add("fuse_requests", mount_id=0, unique=unique, opcode=15, node_id=17, pid=PID, tid=tid,
             offset_bytes=offset + LAYER_BYTES // 2, size_bytes=131_072, queued_ns=now + 30_000,
             served_ns=taken, end_ns=end, error=0, op_id=op)  # fmt: skip
    rows.add("daemon_calls", call_id=fetch, mount_id=0, function="cvmfs::cvmfs_read", pid=DAEMON,
             tid=worker, start_ns=taken, end_ns=end, unique=unique)  # fmt: skip
    rows.add("fetches", fetch_id=fetch, call_id=fetch, mount_id=0, unique=unique, pid=DAEMON,
             tid=worker, start_ns=taken, end_ns=last_byte, object_hash=name, object_kind="chunk",
             outcome="downloaded", file_id=0, offset_bytes=offset, unpacked_bytes=LAYER_BYTES,
             download_id=fetch)  # fmt: skip
    rows.add("downloads", download_id=fetch, mount_id=0, object_hash=name, host="stratum1:8000",
             url_path=f"/cvmfs/models.example.org/data/{name[:2]}/{name[2:]}P", connection_id=0,
             encrypted=False, reused=layer > 0, attempt=1, status=200, queued_ns=taken,
             sent_ns=sent, first_byte_ns=first_byte, last_byte_ns=last_byte,
             committed_ns=last_byte, wire_bytes=6 * MIB)  # fmt: skip
    request = {"op_id": op, "mount_id": 0, "unique": unique}
    for start, stop, cause, ids in (
        (now, taken, "fuse_queue", request),
        (taken, sent, "fetch_queue", request | {"fetch_id": fetch}),
        (sent, first_byte, "first_byte", request | {"fetch_id": fetch}),
        (first_byte, last_byte, "transfer", request | {"fetch_id": fetch}),
        (last_byte, end, "reply", request),
    ):
        rows.add("segments", pid=PID, tid=tid, start_ns=start, end_ns=stop, cause=cause, **ids)
    if lane.toucher != lane.tid:
        rows.add("segments", pid=PID, tid=lane.tid, start_ns=now, end_ns=end, cause="blocked",
                 via_tid=lane.toucher)  # fmt: skip
    return end


def tile(rows: Rows, lane: Lane, start: int, end: int, cause: str) -> None:
    """Spend time of the lane's thread on a cause; a toucher of its own sleeps meanwhile."""
    rows.add("segments", pid=PID, tid=lane.tid, start_ns=start, end_ns=end, cause=cause)
    if lane.toucher != lane.tid:
        rows.add("segments", pid=PID, tid=lane.toucher, start_ns=start, end_ns=end,
                 cause="blocked")  # fmt: skip


def _next(rows: Rows, table: str) -> int:
    return len(rows.rows.get(table, []))


def _tasks(rows: Rows) -> None:
    last = max(row["end_ns"] for row in rows.rows["segments"])
    for tid, name in ((MAIN, "python3"), (SECOND, "python3"), (TOUCHER, "loader")):
        rows.add("tasks", pid=PID, tid=tid, parent_pid=1, start_ns=START, end_ns=last,
                 name=name, role="target")  # fmt: skip


def _gaps(rows: Rows, device: int) -> Iterator[tuple[int, int, int]]:
    """Gaps of at least 1 ms between the kernels of a device: start, end, thread."""
    busy_until = START
    for row in rows.rows["gpu_ops"]:
        if row["device"] == UUIDS[device] and row["kind"] == "kernel":
            if row["start_ns"] - busy_until >= MS:
                yield busy_until, row["start_ns"], row["tid"]
            busy_until = row["end_ns"]


def _stalls(rows: Rows) -> None:
    gaps = sorted((*gap, device) for device in (0, 1) for gap in _gaps(rows, device))
    for number, (start, end, tid, device) in enumerate(gaps):
        copying = 4 * MS if end - start > 10 * MS else 0
        rows.add("stalls", stall_id=number, device=UUIDS[device], start_ns=start, end_ns=end,
                 waiting_tid=tid, submitted_ns=end - 100_000, copying_in_ns=copying,
                 source="cupti")  # fmt: skip


def _world(rows: Rows) -> None:
    for device, uuid in enumerate(UUIDS):
        rows.add("devices", device=uuid, index=device, name="NVIDIA H100 80GB HBM3",
                 memory_bytes=80 << 30)  # fmt: skip
    rows.add("mounts", mount_id=0, device="0:55", mountpoint="/cvmfs/models.example.org",
             filesystem="fuse", repository="models.example.org", revision=7,
             client_version="2.12.0", daemon_pid=DAEMON)  # fmt: skip
    rows.add("files", file_id=0, mount_id=0, inode=17, generation=0, path=MODEL,
             size_bytes=LAYERS * LAYER_BYTES)  # fmt: skip
    for layer in range(LAYERS):
        rows.add("chunks", file_id=0, index=layer, object_hash=sha1(f"layer {layer}"),
                 offset_bytes=layer * LAYER_BYTES, size_bytes=LAYER_BYTES,
                 cached_at_start=False)  # fmt: skip
        for half, name in enumerate(layer_tensors(layer)):
            rows.add("tensors", file_id=0, name=name, size_bytes=LAYER_BYTES // 2,
                     offset_bytes=layer * LAYER_BYTES + half * LAYER_BYTES // 2,
                     dtype="F16", shape=[2048, 1024])  # fmt: skip
    rows.add("probes", event="GPU", family="cupti", target="libcupti.so.12", hits=3)


def _samples(rows: Rows) -> None:
    """Sample both devices every 50 ms; GPU 1 does not report its power."""
    last = max(row["end_ns"] for row in rows.rows["segments"])
    copied = dict.fromkeys(UUIDS, 0)
    for now in range(START + 50 * MS, last, 50 * MS):
        for uuid in UUIDS:
            recent = [row for row in rows.rows["gpu_ops"] if row["device"] == uuid
                      and now - 50 * MS <= row["start_ns"] < now]  # fmt: skip
            busy = min(sum(row["end_ns"] - row["start_ns"] for row in recent
                           if row["kind"] == "kernel") / (50 * MS), 1)  # fmt: skip
            moved = sum(row["bytes"] for row in recent if row["kind"] == "copy_in")
            copied[uuid] += moved
            rows.add("gpu_samples", time_ns=now, device=uuid, utilisation_percent=100 * busy,
                     memory_bytes=(1 << 30) + 500 * copied[uuid],
                     power_w=90 + 500 * busy if uuid == UUIDS[0] else None, clock_mhz=1755.0,
                     pcie_rx_bytes_s=moved * 20, pcie_tx_bytes_s=MIB)  # fmt: skip


def many_kernels_run(kernels: int = 1_000_000, stalls: int = 20_000) -> SyntheticRun:
    """Return the run with so many kernels of 3 µs on GPU 0 and a stall of 1 ms after each 50."""
    made = gpu_run()
    place = pl.int_range(kernels, dtype=pl.Int64)
    group = kernels // stalls
    begin = START + place * 3000 + (place // group) * MS
    operations = pl.select(
        device=pl.lit(UUIDS[0]),
        stream=7 + (place % 3).cast(pl.Int32),
        kind=pl.lit("kernel"),
        name=pl.format("void kernel_{}(float*)", place % 97),
        start_ns=begin,
        end_ns=begin + 2500,
        pageable=pl.lit(value=False),
        pid=pl.lit(PID),
        tid=pl.lit(MAIN),
        source=pl.lit("cupti"),
    )
    gap = pl.int_range(1, stalls, dtype=pl.Int64)
    end = START + gap * (group * 3000 + MS)
    gaps = pl.select(stall_id=gap - 1, start_ns=end - MS, end_ns=end).with_columns(
        device=pl.lit(UUIDS[0]),
        waiting_tid=pl.lit(MAIN),
        submitted_ns="end_ns",
        copying_in_ns=0,
        copying_out_ns=0,
        source=pl.lit("cupti"),
    )
    life = {"start_ns": START, "end_ns": START + kernels * 3000 + stalls * MS}
    segments = pl.DataFrame([{"pid": PID, "tid": MAIN, "cause": "first_byte", **life}])
    changed = {"gpu_ops": operations, "stalls": gaps, "segments": segments}
    conformed = {name: tables.conform(name, frame) for name, frame in changed.items()}
    return SyntheticRun(made.meta, {**made.tables, **conformed})
