"""The device's side of a run: what devices did, and the calls of the driver that asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import polars as pl

from ...probes.gpu import SUBMITTING_KINDS
from ..kernel.host_ids import HostIds
from ..kernel.side import KernelSide
from ..run.journal import Journal
from ..run.spool import Spool
from ..tables import conform, empty
from .cuda_api import driver_calls
from .cupti import CuptiRecords, cupti_records
from .runner import runner_operations
from .samples import gpu_samples, sampled_devices

SPAN = pl.Schema({"start_ns": pl.Int64(), "end_ns": pl.Int64()})


@dataclass(frozen=True)
class DeviceSide:
    """What devices did and were asked to do: the tables of these names.

    ``unwatched``: times in which uprobes saw no launches: start_ns, end_ns. ``dropped``: records
    that CUPTI or the injected library lost.
    """

    ops: pl.DataFrame = field(default_factory=partial(empty, "gpu_ops"))
    calls: pl.DataFrame = field(default_factory=partial(empty, "gpu_calls"))
    devices: pl.DataFrame = field(default_factory=partial(empty, "devices"))
    samples: pl.DataFrame = field(default_factory=partial(empty, "gpu_samples"))
    unwatched: pl.DataFrame = field(default_factory=partial(pl.DataFrame, schema=SPAN))
    dropped: int = 0


def device_side(
    spool: Spool, journal: Journal, kernel: KernelSide, phases: pl.DataFrame
) -> DeviceSide:
    """Join the operations of devices with the calls that submitted them, by correlation.

    Of a process that CUPTI reported on, calls seen by uprobes are left out. Where nothing was
    submitted to a GPU in the run, the runner's inferences stand for the device.
    """
    span = (kernel.start_ns, kernel.stop_ns)
    reported = cupti_records(spool.gpu_processes(), HostIds(kernel.events), span)
    calls = _numbered(reported, driver_calls(spool.gpu_calls(), spool.gpu_launches()))
    submitted = reported.ops.join(_submitting(calls), on=["process", "correlation"], how="left")
    is_used = submitted.height or calls.filter(pl.col("kind").is_in(SUBMITTING_KINDS)).height
    inferences = runner_operations(phases.clear() if is_used else phases)
    ops = [inferences, conform("gpu_ops", submitted)]
    return DeviceSide(
        ops=pl.concat(ops).sort("start_ns", "device", maintain_order=True),
        calls=conform("gpu_calls", calls),
        devices=_described(reported.devices, sampled_devices(journal)),
        samples=gpu_samples(spool, journal),
        unwatched=_unwatched(journal, kernel.stop_ns),
        dropped=reported.dropped,
    )


def _numbered(reported: CuptiRecords, seen: pl.DataFrame) -> pl.DataFrame:
    """The calls of both sources, numbered in the order of their starts."""
    unreported = seen.join(reported.calls, on="pid", how="anti")
    both = pl.concat(
        conform("gpu_calls", calls.with_columns(gpu_call_id=0), "process")
        for calls in (reported.calls, unreported)
    )
    numbers = pl.int_range(pl.len(), dtype=pl.Int32)
    return both.sort("start_ns", "tid", maintain_order=True).with_columns(gpu_call_id=numbers)


def _described(used: pl.DataFrame, on_machine: pl.DataFrame) -> pl.DataFrame:
    """Table `devices`: those of the machine as NVML knows them, and others that were used."""
    others = used.join(on_machine, on="device", how="anti", maintain_order="left")
    return pl.concat([on_machine, conform("devices", others)])


def _unwatched(journal: Journal, stop_ns: int) -> pl.DataFrame:
    """When launches were not watched, to keep within their budget: start_ns, end_ns."""
    changes = [(int(line["time_ns"]), bool(line["watched"])) for line in journal.of("launches")]
    spans = [
        (time_ns, until_ns)
        for (time_ns, watched), (until_ns, _) in pairwise([*changes, (stop_ns, True)])
        if not watched
    ]
    return pl.DataFrame(spans, schema=SPAN, orient="row")


def _submitting(calls: pl.DataFrame) -> pl.DataFrame:
    """The call of each correlation: process, correlation, tid, gpu_call_id.

    A call within another one has the same: the outer one began first.
    """
    key = ["process", "correlation"]
    first = calls.drop_nulls("correlation").unique(key, keep="first", maintain_order=True)
    return first.select(*key, "tid", "gpu_call_id")
