"""What a stall waited for, link by link: its thread, the read or fault, the request, the fetch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ...profiler.attribution.tensors import owned_ranges
from ..material import Frames, file_names

#: waits of a stall that are kept, the longest
LONGEST_LINKS = 8
_OPERATION = ("stall_id", "tid", "op_id", "without")


@dataclass(frozen=True)
class Part:
    """Part of a file; ``tensors`` names the first of those in it, ``more`` counts the others."""

    path: str | None
    offset_bytes: int | None
    tensors: tuple[str, ...]
    more: int


@dataclass(frozen=True)
class Access:
    """A read or page fault and what it asked for."""

    kind: str
    start_ns: int
    end_ns: int | None
    part: Part


@dataclass(frozen=True)
class Request:
    """A FUSE request; ``mount`` is the mount point."""

    mount: str
    unique: int
    start_ns: int | None
    end_ns: int | None


@dataclass(frozen=True)
class Fetch:
    """A fetch of an object; ``part`` is the object's place in its file."""

    fetch_id: int
    object_hash: str | None
    object_kind: str | None
    host: str | None
    start_ns: int
    end_ns: int | None
    part: Part


@dataclass(frozen=True)
class Link:
    """A wait within a stall: ``ns`` of it, of a thread, inside one operation or none.

    ``request`` and ``fetch`` are those that held most of the wait; ``fetches`` counts all.
    """

    ns: int
    start_ns: int
    end_ns: int
    tid: int
    thread: str | None
    access: Access | None
    request: Request | None
    fetch: Fetch | None
    fetches: int


def links(frames: Frames, chains: pl.DataFrame) -> dict[int, tuple[Link, ...]]:
    """Return the longest waits by stall, the longest first, of `Material.stall_chains`."""
    waits = _waits(chains)
    whole = _with_details(frames, waits).sort(
        "stall_id", "ns", "start_ns", descending=[False, True, False]
    )
    names = Tensors(frames["tensors"], whole)
    found: dict[int, list[Link]] = {}
    for row in whole.iter_rows(named=True):
        found.setdefault(row["stall_id"], []).append(_link(row, names))
    return {stall: tuple(made) for stall, made in found.items()}


class Tensors:
    """Names of the tensors in a range of a file."""

    def __init__(self, tensors: pl.DataFrame, rows: pl.DataFrame) -> None:
        """``tensors``: the table; ``rows``: file_id and fetch_file_id of the files asked about."""
        asked = pl.concat([rows["file_id"], rows["fetch_file_id"]]).unique()
        of_files = tensors.filter(pl.col("file_id").is_in(asked.implode()))
        numbered = of_files.with_columns(tensor=pl.int_range(pl.len(), dtype=pl.Int32))
        named = owned_ranges(numbered).join(
            numbered.select("tensor", "name"), on="tensor", maintain_order="left"
        )
        self._of: dict[int, list[tuple[int, int, str]]] = {}
        columns = named.select("file_id", "begin", "end", "name")
        for file_id, begin, end, name in columns.iter_rows():
            self._of.setdefault(file_id, []).append((begin, end, name))

    def within(self, file_id: int | None, offset: int | None, size: int | None) -> list[str]:
        """Return the names of the tensors that overlap a range; where it has no size, a byte."""
        if file_id is None or offset is None:
            return []
        of_file = self._of.get(file_id, [])
        first = bisect_right(of_file, offset, key=lambda each: each[1])
        last = bisect_left(of_file, offset + max(size or 1, 1), key=lambda each: each[0])
        return [name for _, _, name in of_file[first:last]]


def _waits(chains: pl.DataFrame) -> pl.DataFrame:
    """The pieces of stalls summed by thread and operation, with the main request and fetch."""
    without = pl.when(pl.col("op_id").is_null()).then(pl.coalesce("fetch_id", -1))
    pieces = chains.with_columns(ns=pl.col("end_ns") - pl.col("start_ns"), without=without)
    held = pieces.group_by(*_OPERATION, "mount_id", "unique", "fetch_id").agg(
        pl.col("ns").sum(), pl.col("start_ns").min(), pl.col("end_ns").max()
    )
    main_first = held.sort(
        pl.col("fetch_id").is_null(), pl.col("unique").is_null(), -pl.col("ns"), "start_ns"
    )
    waits = main_first.group_by(_OPERATION, maintain_order=True).agg(
        pl.col("mount_id", "unique", "fetch_id").first(),
        pl.col("ns").sum(),
        pl.col("start_ns").min(),
        pl.col("end_ns").max(),
        fetches=pl.col("fetch_id").drop_nulls().n_unique(),
    )
    ranked = waits.sort("ns", "start_ns", descending=[True, False])
    return ranked.group_by("stall_id", maintain_order=True).head(LONGEST_LINKS)


def _with_details(frames: Frames, waits: pl.DataFrame) -> pl.DataFrame:
    names = file_names(frames)
    operations = frames["operations"].select(
        "op_id", "kind", "file_id", "offset_bytes", "size_bytes",
        op_start_ns="start_ns", op_end_ns="end_ns",
    )  # fmt: skip
    requests = frames["fuse_requests"].select(
        "mount_id", "unique", queued_ns=pl.coalesce("queued_ns", "served_ns"), answered_ns="end_ns"
    )
    mounts = frames["mounts"].select("mount_id", "mountpoint").unique("mount_id", keep="last")
    tasks = frames["tasks"].select("tid", thread="name").unique("tid", keep="last")
    files = names.rename({"file_id": "fetch_file_id", "path": "fetch_path"})
    return (
        waits.join(operations, on="op_id", how="left")
        .join(names, on="file_id", how="left")
        .join(requests.unique(("mount_id", "unique")), on=("mount_id", "unique"), how="left")
        .join(mounts, on="mount_id", how="left")
        .join(tasks, on="tid", how="left")
        .join(_fetches(frames), on="fetch_id", how="left")
        .join(files, on="fetch_file_id", how="left")
    )


def _fetches(frames: Frames) -> pl.DataFrame:
    """Fetches with the host that delivered their object, for others that joined them too."""
    hosts = frames["downloads"].select("download_id", "host")
    fetched = frames["fetches"].join(hosts, on="download_id", how="left")
    joined = fetched.select(joined_fetch_id="fetch_id", joined_host="host")
    return fetched.join(joined, on="joined_fetch_id", how="left").select(
        "fetch_id",
        "object_hash",
        "unpacked_bytes",
        host=pl.coalesce("joined_host", "host"),
        object_kind=pl.col("object_kind").cast(pl.String),
        fetch_start_ns="start_ns",
        fetch_end_ns="end_ns",
        fetch_file_id="file_id",
        fetch_offset_bytes="offset_bytes",
    )


def _link(row: Mapping[str, Any], names: Tensors) -> Link:
    return Link(
        ns=row["ns"],
        start_ns=row["start_ns"],
        end_ns=row["end_ns"],
        tid=row["tid"],
        thread=row["thread"],
        access=_access(row, names),
        request=_request(row),
        fetch=_fetch(row, names),
        fetches=row["fetches"],
    )


def _access(row: Mapping[str, Any], names: Tensors) -> Access | None:
    if row["kind"] is None:
        return None
    tensors = names.within(row["file_id"], row["offset_bytes"], row["size_bytes"])
    part = _part(row["path"], row["offset_bytes"], tensors)
    return Access(row["kind"], row["op_start_ns"], row["op_end_ns"], part)


def _request(row: Mapping[str, Any]) -> Request | None:
    if row["unique"] is None:
        return None
    mount = row["mountpoint"] or f"mount {row['mount_id']}"
    return Request(mount, row["unique"], row["queued_ns"], row["answered_ns"])


def _fetch(row: Mapping[str, Any], names: Tensors) -> Fetch | None:
    if row["fetch_start_ns"] is None:
        return None
    offset = row["fetch_offset_bytes"]
    tensors = names.within(row["fetch_file_id"], offset, row["unpacked_bytes"])
    return Fetch(
        fetch_id=row["fetch_id"],
        object_hash=row["object_hash"],
        object_kind=row["object_kind"],
        host=row["host"],
        start_ns=row["fetch_start_ns"],
        end_ns=row["fetch_end_ns"],
        part=_part(row["fetch_path"], offset, tensors),
    )


def _part(path: str | None, offset: int | None, tensors: list[str]) -> Part:
    return Part(path, offset, tuple(tensors[:2]), max(len(tensors) - 2, 0))
