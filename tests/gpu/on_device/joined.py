"""What a device brought, joined here: pages of its runs, and the checks that need their tables."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeAlias

import polars as pl

from cvmprof.errors import CvmprofError
from cvmprof.profiler.finalise import finish
from cvmprof.profiler.run.directory import JOURNAL, page_of
from cvmprof.profiler.tables import FETCH_CAUSES
from cvmprof.reports.page.page import write_page
from cvmprof.runners.lab.server import Access, read_access_log

from .late import ACCESS_LOG, DELAYED_TENSORS
from .recorded import read_api, read_cupti
from .rows import Report, Row, read_rows, table

Tables: TypeAlias = Mapping[str, pl.DataFrame]

_ROWS = "joined.jsonl"
_KERNELS = ("kernel", "graph")
#: of the worst stalls
_MOST_UNKNOWN = 0.02


def join(out: Path) -> int:
    """Join each run that lies packed in a directory; print a table of checks.

    Returns how many were not as expected. A run that cannot be joined is one of them.
    """
    rows = out / _ROWS
    rows.unlink(missing_ok=True)
    brought = read_rows(out / "rows.jsonl")
    for packed in sorted(out.glob("*.tar.xz")):
        report = Report(packed.name.removesuffix(".tar.xz"), rows)
        try:
            _join_one(packed, report, brought)
        except (CvmprofError, OSError, tarfile.TarError) as error:
            report.check("joined", "yes", f"no: {error}", good=False)
    print(f"\n{table(read_rows(rows))}")
    return sum(row.good is False for row in read_rows(rows))


def _join_one(packed: Path, report: Report, brought: list[Row]) -> None:
    place = packed.with_name(f"{report.step}.cvmprof")
    shutil.rmtree(place, ignore_errors=True)
    with tarfile.open(packed) as tar:
        tar.extractall(packed.parent)
    if not (place / JOURNAL).exists():
        count = read_cupti(place).activity.count("kernel")
        report.fact("recorded by the library alone", f"{count:,} kernels, no tables")
        return
    kernels, launches = read_cupti(place).activity.count("kernel"), read_api(place).calls["launch"]
    run = finish(place)
    report.fact("page", write_page(run, page_of(place)))
    operations = run.tables["gpu_ops"].filter(pl.col("kind").is_in(_KERNELS))
    report.equal("kernels, in the spool and in tables", kernels, operations.height)
    calls = run.tables["gpu_calls"].filter(kind="launch", source="cuda_api")
    report.equal("launches, in the spool and in tables", launches, int(calls["count"].sum()))
    report.fact("devices", ", ".join(run.tables["devices"]["name"].drop_nulls()) or "none")
    report.fact("samples of devices", f"{run.tables['gpu_samples'].height:,}")
    _compare_twin(report, operations.height, brought)
    if (place / ACCESS_LOG).exists():
        served = read_access_log(place / ACCESS_LOG)
        named = [row.found for row in brought if row.check == DELAYED_TENSORS]
        check_stalls(run.tables, served, "".join(named), report)


def _compare_twin(report: Report, kernels: int, brought: list[Row]) -> None:
    """A load that was recorded, against what torch's own profiler counted there."""
    twins = [row for row in brought if row.step == "twin" and row.check.startswith("kernels")]
    if report.step in ("cold", "warm") and twins:
        report.equal("kernels, torch's and in tables", twins[0].expected, str(kernels))


def check_stalls(tables: Tables, served: list[Access], tensors: str, report: Report) -> None:
    """The worst stalls, in the order of time, are blamed on the chunks that were delayed.

    ``tensors``: the names of those that lie in them.
    """
    delayed = sorted(
        (each for each in served if each.fault == "delay"), key=lambda each: each.request_ns
    )
    expected = [each.path.split("/data/")[1].replace("/", "")[:40] for each in delayed]
    stalls = _worst(tables, len(expected))
    _check_unknown(tables, stalls, report)
    found = [_blamed_chunk(tables, stall) for stall in stalls]
    for number, (chunk, blamed) in enumerate(zip_longest(expected, found), start=1):
        report.equal(f"chunk of stall {number}", chunk, blamed)
    names = [name for blamed in found for name in _tensors_in(tables, blamed)]
    report.equal("tensors of these chunks", tensors, ", ".join(names))


@dataclass(frozen=True)
class _Stall:
    """A stall, and the thread that it waited for."""

    tid: int
    start_ns: int
    end_ns: int


def _worst(tables: Tables, count: int) -> list[_Stall]:
    """The longest stalls after the first kernel, in the order of time."""
    operations = tables["gpu_ops"].filter(pl.col("kind").is_in(_KERNELS))
    first = operations.select(first_ns=pl.col("end_ns").min())
    stalls = (
        tables["stalls"].join(first, how="cross").filter(pl.col("start_ns") >= pl.col("first_ns"))
    )
    longest = stalls.with_columns(ns=pl.col("end_ns") - pl.col("start_ns")).top_k(count, by="ns")
    rows = longest.sort("start_ns").select("waiting_tid", "start_ns", "end_ns")
    return [_Stall(*row) for row in rows.iter_rows()]


def _check_unknown(tables: Tables, stalls: list[_Stall], report: Report) -> None:
    """Little of what the threads did in these stalls is unknown."""
    unknown_ns = sum(sum(_spent(tables, stall, {"unknown"})["ns"].to_list()) for stall in stalls)
    share = unknown_ns / max(1, sum(stall.end_ns - stall.start_ns for stall in stalls))
    found = f"{100 * share:.2f} %"
    report.check("unknown in these stalls", "≤ 2 %", found, good=share <= _MOST_UNKNOWN)


def _blamed_chunk(tables: Tables, stall: _Stall) -> str | None:
    """The object for whose fetch the thread waited longest in a stall."""
    waits = _spent(tables, stall, FETCH_CAUSES).group_by("fetch_id").agg(pl.col("ns").sum())
    fetches = tables["fetches"].select("fetch_id", "object_hash")
    named = waits.join(fetches, on="fetch_id").sort("ns", descending=True)
    return named["object_hash"][0] if named.height else None


def _spent(tables: Tables, stall: _Stall, causes: Collection[str]) -> pl.DataFrame:
    """What the thread of a stall spent in it on some causes: fetch_id, ns."""
    begins = pl.max_horizontal("start_ns", pl.lit(stall.start_ns))
    ends = pl.min_horizontal("end_ns", pl.lit(stall.end_ns))
    own = tables["segments"].filter(
        pl.col("tid") == stall.tid, pl.col("cause").cast(pl.String).is_in(list(causes))
    )
    return own.select("fetch_id", ns=ends - begins).filter(pl.col("ns") > 0)


def _tensors_in(tables: Tables, object_hash: str | None) -> list[str]:
    """Names of the tensors that lie in a chunk, or partly."""
    chunk = tables["fetches"].filter(pl.col("object_hash") == (object_hash or "")).head(1)
    ends = pl.col("offset_bytes") + pl.col("unpacked_bytes")
    place = chunk.select("file_id", first="offset_bytes", behind=ends)
    inside = (
        tables["tensors"]
        .join(place, on="file_id")
        .filter(
            pl.col("offset_bytes") < pl.col("behind"),
            pl.col("offset_bytes") + pl.col("size_bytes") > pl.col("first"),
        )
    )
    return inside["name"].to_list()
