"""Table `stalls`: gaps between the kernels of a device."""

from __future__ import annotations

import polars as pl

from ...probes.gpu import SUBMITTING_KINDS
from ..device.side import DeviceSide
from ..intervals import next_begun, overlaps, united
from ..tables import COMPUTING_KINDS, GPU_SOURCE, conform

DEFAULT_THRESHOLD_NS = 1_000_000


def stalls(device: DeviceSide, start_ns: int, threshold_ns: int) -> pl.DataFrame:
    """Maximal gaps of at least ``threshold_ns`` without a kernel, of each device.

    From the command's start to the device's last kernel. The waiting thread is the one that
    submitted the kernel after the gap. A process whose driver's calls only were seen has gaps of
    its own: from the end of a synchronisation to the next submit, as far as launches were watched.
    """
    by_calls = _between_synchronisations(device.calls)
    busy = pl.concat([
        _computing(device).with_columns(is_seen=True),
        by_calls.with_columns(is_seen=True),
        _unseen(by_calls, device.unwatched).with_columns(is_seen=False),
    ])  # fmt: skip
    ordered = busy.filter(pl.col("end_ns") > start_ns).sort("device", "start_ns", "end_ns")
    idle_since = pl.col("end_ns").cum_max().shift(1).over("device").fill_null(start_ns)
    gaps = ordered.select(
        "device",
        "is_seen",
        "source",
        waiting_tid="tid",
        start_ns=idle_since,
        end_ns="start_ns",
        submitted_ns=pl.coalesce("submitted_ns", "start_ns").clip(idle_since, pl.col("start_ns")),
    )
    lasted = pl.col("end_ns") - pl.col("start_ns")
    long = gaps.filter("is_seen", lasted >= threshold_ns).drop("is_seen")
    numbered = long.sort("start_ns", "device").with_row_index("stall_id")
    for direction in ("in", "out"):
        copies = device.ops.filter(pl.col("kind") == f"copy_{direction}")
        copied = _time_within(numbered, copies).rename({"ns": f"copying_{direction}_ns"})
        numbered = numbered.join(copied, on="stall_id", maintain_order="left")
    return conform("stalls", numbered)


def _computing(device: DeviceSide) -> pl.DataFrame:
    """When devices computed: device, source, start_ns, end_ns, tid?, submitted_ns?."""
    returned = device.calls.select("gpu_call_id", submitted_ns="end_ns")
    computed = device.ops.filter(pl.col("kind").is_in(COMPUTING_KINDS))
    with_calls = computed.join(returned, on="gpu_call_id", how="left", maintain_order="left")
    return with_calls.select("device", "source", "start_ns", "end_ns", "tid", "submitted_ns")


def _between_synchronisations(calls: pl.DataFrame) -> pl.DataFrame:
    """When a process may have kept its device busy, by its calls alone; columns as `_computing`.

    From the first submit after a synchronisation to the end of the next one, else to the last
    submit.
    """
    seen = calls.filter(pl.col("source") == "cuda_api").sort("pid", "start_ns")
    waits = _waits(seen)
    submits = seen.filter(pl.col("kind").is_in(SUBMITTING_KINDS)).with_columns(
        until_ns=pl.coalesce("end_ns", "start_ns")
    )
    following = next_begun(submits, waits, at="until_ns", begin="waited_ns", by="pid")
    return (
        following.sort("start_ns")
        .group_by("pid", "waited_ns", maintain_order=True)
        .agg(pl.col("start_ns", "tid").first(), last_ns=pl.col("until_ns").max())
        .select(
            pl.format("CUDA of process {}", "pid").alias("device"),
            pl.lit("cuda_api", dtype=GPU_SOURCE).alias("source"),
            "start_ns",
            pl.coalesce("waited_ns", "last_ns").alias("end_ns"),
            "tid",
            pl.lit(None, pl.Int64).alias("submitted_ns"),
        )
    )


def _unseen(by_calls: pl.DataFrame, unwatched: pl.DataFrame) -> pl.DataFrame:
    """Times in which a process may have launched unseen; columns as `_computing`.

    Nothing is known of them: they count as busy, and no gap ends with one.
    """
    processes = by_calls.unique("device").drop("start_ns", "end_ns")
    return (
        processes.join(unwatched, how="cross")
        .select(by_calls.columns)
        .with_columns(tid=pl.lit(None, pl.Int32))
    )


def _waits(calls: pl.DataFrame) -> pl.DataFrame:
    """Ends of calls that wait until the device is done: pid, waited_ns."""
    synchronous_copy = (pl.col("kind") == "copy") & ~pl.col("function").str.ends_with("Async")
    waiting = (pl.col("kind") == "synchronize") | synchronous_copy
    return calls.filter(waiting).select("pid", waited_ns="end_ns").drop_nulls()


def _time_within(gaps: pl.DataFrame, operations: pl.DataFrame) -> pl.DataFrame:
    """How long any of the operations ran in each gap of its device: stall_id, ns."""
    numbers = pl.concat([gaps["device"], operations["device"]]).unique().sort()
    devices = pl.DataFrame({"device": numbers}).with_row_index("tid")
    ran = operations.select("device", "start_ns", "end_ns")
    spans = united(ran.join(devices, on="device"), "tid")
    intervals = gaps.join(devices, on="device").select(
        "tid", "start_ns", "end_ns", interval="stall_id"
    )
    met = (
        overlaps(intervals, spans)
        .group_by("interval")
        .agg(ns=(pl.col("end_ns") - pl.col("start_ns")).sum())
    )
    every = gaps.select(interval="stall_id").join(met, on="interval", how="left")
    return every.select(stall_id="interval", ns=pl.col("ns").fill_null(0))
