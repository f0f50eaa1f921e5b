"""What CUPTI reported, by the library that CUDA's driver loads into each process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ...probes.events import GPU_PAGEABLE, GPU_RECORD
from ...probes.gpu import DEVICE_KINDS, GPU_RECORD_KINDS, base_name, call_kind
from ..kernel.host_ids import HostIds
from ..run.decode import plain_frame
from ..run.gpu_files import GpuProcess
from ..tables import GPU_OP_KIND

_MOST = (1 << 63) - 1
_CALL = GPU_RECORD_KINDS.index("call")
#: columns that name a device within its process
_ORDINAL = ["process", "device_number"]


@dataclass(frozen=True)
class CuptiRecords:
    """What was reported; ``process`` numbers the processes that wrote it.

    ``ops``: the table's columns without tid and gpu_call_id, and process. ``calls``: the table's
    without gpu_call_id, and process. ``devices``: the table. ``dropped``: records that were lost.
    """

    ops: pl.DataFrame
    calls: pl.DataFrame
    devices: pl.DataFrame
    dropped: int


def cupti_records(
    processes: Sequence[GpuProcess], host_ids: HostIds, span: tuple[int, int]
) -> CuptiRecords:
    """Read the records of all processes. ``span``: the recorded time, from the command's start.

    Those without times, outside this time or of unknown kinds are left out; what lasts longer is
    cut off.
    """
    records = _dated(processes, *span)
    named = records.join(_names(processes), on=["process", "name"], how="left").drop("name")
    devices = _devices(processes, records)
    return CuptiRecords(
        ops=_operations(named, devices, host_ids),
        calls=_calls(named, host_ids),
        devices=_table_of_devices(devices),
        dropped=min(sum(map(_lost, processes)), _MOST),
    )


def _dated(processes: Sequence[GpuProcess], begin_ns: int, until_ns: int) -> pl.DataFrame:
    """All records with their process, as far as they make sense."""
    nothing = plain_frame(b"", GPU_RECORD).with_columns(process=pl.lit(0, pl.Int32))
    frames = [
        each.records.with_columns(process=pl.lit(number, pl.Int32))
        for number, each in enumerate(processes)
    ]
    ended = pl.col("end_ns") >= pl.col("start_ns")
    known = pl.col("kind").is_between(1, _CALL)
    return (
        pl.concat([nothing, *frames])
        .filter(pl.col("start_ns").is_between(max(begin_ns, 1), until_ns) & ended & known)
        .with_columns(pl.col("end_ns").clip(upper_bound=until_ns))
        .rename({"device": "device_number"})
    )


def _names(processes: Sequence[GpuProcess]) -> pl.DataFrame:
    """What numbers of names stand for: process, name, text."""
    rows = [
        (number, line["number"], line["text"])
        for number, each in enumerate(processes)
        for line in each.of("name")
        if _is_number(line.get("number")) and isinstance(line.get("text"), str)
    ]
    schema = {"process": pl.Int32, "name": pl.Int32, "text": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").unique(["process", "name"], keep="last")


def _devices(processes: Sequence[GpuProcess], records: pl.DataFrame) -> pl.DataFrame:
    """The devices that processes used: process, device_number, device, name?, memory_bytes?.

    A device that its process did not describe is named by its number there.
    """
    rows = [
        (
            number,
            line["device"],
            _text(line.get("uuid")),
            _text(line.get("name")),
            _number(line, "memory_bytes"),
        )
        for number, each in enumerate(processes)
        for line in each.of("device")
        if _is_number(line.get("device"))
    ]
    schema = {
        "process": pl.Int32,
        "device_number": pl.Int32,
        "uuid": pl.String,
        "name": pl.String,
        "memory_bytes": pl.Int64,
    }
    described = pl.DataFrame(rows, schema=schema, orient="row").unique(_ORDINAL, keep="last")
    used = records.filter(pl.col("kind") != _CALL).select(*_ORDINAL, "pid").unique(_ORDINAL)
    every = used.join(described, on=_ORDINAL, how="full", coalesce=True).sort(_ORDINAL)
    unnamed = pl.format("device {} of process {}", "device_number", pl.col("pid").fill_null(0))
    return every.with_columns(device=pl.coalesce("uuid", unnamed)).drop("uuid", "pid")


def _table_of_devices(devices: pl.DataFrame) -> pl.DataFrame:
    known = devices.unique("device", keep="first", maintain_order=True)
    memory = pl.when(pl.col("memory_bytes") > 0).then("memory_bytes")
    return known.select("device", "name", index=pl.lit(None, pl.Int32), memory_bytes=memory)


def _operations(named: pl.DataFrame, devices: pl.DataFrame, host_ids: HostIds) -> pl.DataFrame:
    """What devices did."""
    kinds = pl.col("kind").replace_strict(
        dict(enumerate(GPU_RECORD_KINDS[1:-1], 1)), return_dtype=GPU_OP_KIND
    )
    ran = named.filter(pl.col("kind") <= len(DEVICE_KINDS))
    at_host = _with_host_ids(ran.with_columns(tid="pid"), host_ids)
    return at_host.join(devices.select(*_ORDINAL, "device"), on=_ORDINAL).select(
        "process",
        "device",
        "start_ns",
        "end_ns",
        "pid",
        context=pl.col("context").cast(pl.Int32),
        stream=pl.col("stream").cast(pl.Int32),
        kind=kinds,
        name="text",
        bytes=pl.when(pl.col("bytes") > 0).then("bytes"),
        pageable=(pl.col("flags") & GPU_PAGEABLE) != 0,
        correlation=_correlation(),
        source=pl.lit("cupti"),
    )


def _calls(named: pl.DataFrame, host_ids: HostIds) -> pl.DataFrame:
    """Calls of functions that are known."""
    called = named.filter(pl.col("kind") == _CALL).drop_nulls("text").drop("kind")
    functions = pl.DataFrame(
        [(text, base_name(text), call_kind(text)) for text in called["text"].unique()],
        schema={"text": pl.String, "function": pl.String, "kind": pl.String},
        orient="row",
    )
    return _with_host_ids(called.join(functions.drop_nulls(), on="text"), host_ids).select(
        "process",
        "kind",
        "function",
        "start_ns",
        "end_ns",
        "pid",
        "tid",
        count=pl.lit(1, pl.Int64),
        bytes=pl.lit(None, pl.Int64),
        result="result",
        correlation=_correlation(),
        source=pl.lit("cupti"),
    )


def _correlation() -> pl.Expr:
    """The number, which counts without sign; null for 0."""
    counted = pl.col("correlation").cast(pl.UInt32, wrap_numerical=True).cast(pl.Int64)
    return pl.when(pl.col("correlation") != 0).then(counted)


def _with_host_ids(records: pl.DataFrame, host_ids: HostIds) -> pl.DataFrame:
    """Replace pid and tid, as their process sees them, by those of the host."""
    own = ["process", "pid", "tid"]
    tasks = records.group_by(own).agg(pl.col("start_ns").min())
    rows = [
        (process, pid, tid, *host_ids.of(pid, tid, time_ns))
        for process, pid, tid, time_ns in tasks.select(*own, "start_ns").iter_rows()
    ]
    schema = {name: records.schema[name] for name in own}
    at_host = {"host_pid": pl.Int32, "host_tid": pl.Int32}
    ids = pl.DataFrame(rows, schema={**schema, **at_host}, orient="row")
    return (
        records.join(ids, on=own, maintain_order="left")
        .drop("pid", "tid")
        .rename({"host_pid": "pid", "host_tid": "tid"})
    )


def _lost(process: GpuProcess) -> int:
    """Records that could not be kept, by CUPTI or by the library, or are too many to be read."""
    return process.unread + sum(_number(line, "count") for line in process.of("dropped"))


def _number(line: dict[str, object], key: str) -> int:
    value = line.get(key)
    return value if isinstance(value, int) and 0 <= value < 1 << 62 else 0


def _is_number(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 31


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
