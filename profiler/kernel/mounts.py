"""Table `mounts`, and whose events belong to which mount.

A device number is given again after an unmount: a mount is a device and the time since its FUSE
INIT.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import polars as pl

from ...probes import fuse
from ...probes.fuse import device_number, device_text
from ..intervals import latest_begun
from ..run.journal import Journal
from ..run.journal_shapes import MAX_PID
from ..run.mountinfo import MountLine, parse_mountinfo
from ..run.text import whole_number
from ..tables import conform, table


def mounts(
    journal: Journal, places: pl.DataFrame, requests: pl.DataFrame, devices: Iterable[int]
) -> pl.DataFrame:
    """Find the mounts. Returns the table's columns and ``dev`` (UInt32), by device and time.

    ``places``: dev, time_ns, mountpoint?, filesystem?, from the first file seen of a superblock.
    ``requests``: REQUEST records, for INIT and DESTROY. ``devices``: device numbers in other
    events.
    """
    lines = _lines_by_device(journal)
    seen = _places_by_device(places)
    of_cvmfs = {
        device_number(device)
        for device, timed in lines.items()
        if any(line.is_cvmfs for _, line in timed)
    }
    with_requests = set(requests["dev"].unique())
    at_start = _devices_at_start(journal)
    rows: list[dict[str, Any]] = []
    for dev in sorted(of_cvmfs | set(devices) | with_requests | set(seen)):
        births = _births(dev, requests, at_start, seen)
        for birth, next_birth in pairwise([*births, None]):
            life = (birth, next_birth)
            place = _place(lines.get(device_text(dev), []), seen.get(dev, []), life)
            rows.append({"device": device_text(dev), **place, "start_ns": birth, "dev": dev})
        if dev in with_requests and not rows[-1]["filesystem"]:
            rows[-1]["filesystem"] = "fuse"
    frame = pl.DataFrame(rows, schema={**_NAMED, "dev": pl.UInt32}, orient="row")
    numbered = frame.with_columns(mount_id=pl.int_range(pl.len(), dtype=pl.Int32))
    return _with_ends(numbered, requests)


_NAMED: dict[str, Any] = {
    "device": pl.String, "mountpoint": pl.String, "filesystem": pl.String, "start_ns": pl.Int64,
}  # fmt: skip


def _lines_by_device(journal: Journal) -> dict[str, list[tuple[int, MountLine]]]:
    """The mountinfo lines of each device with the time they were read at, in order."""
    by_device: dict[str, list[tuple[int, MountLine]]] = {}
    for text in journal.of("mountinfo"):
        for line in parse_mountinfo(text.get("text") or ""):
            by_device.setdefault(line.device, []).append((text.get("time_ns", 0), line))
    return by_device


def _place(
    lines: list[tuple[int, MountLine]],
    seen: list[dict[str, Any]],
    life: tuple[int | None, int | None],
) -> dict[str, Any]:
    """The mountpoint? and filesystem? of a mount.

    What was read while the mount lived comes before what was read at other times, and mountinfo
    before the places of files.
    """
    own_lines = [(time_ns, line) for time_ns, line in lines if _within(time_ns, life)]
    own_seen = [row for row in seen if _within(row["time_ns"], life)]
    sources = (_of_line(own_lines), _of_files(own_seen), _of_line(lines), _of_files(seen))
    return {
        name: next((source[name] for source in sources if source[name] is not None), None)
        for name in ("mountpoint", "filesystem")
    }


def _within(time_ns: int, life: tuple[int | None, int | None]) -> bool:
    birth, next_birth = life
    return (birth is None or time_ns >= birth) and (next_birth is None or time_ns < next_birth)


def _of_line(lines: list[tuple[int, MountLine]]) -> dict[str, Any]:
    """From the first line of the whole file system, else from the first of a bind mount."""
    line = min((line for _, line in lines), key=lambda line: not line.is_whole, default=None)
    return {
        "mountpoint": line.mountpoint if line else None,
        "filesystem": line.filesystem if line else None,
    }


def _of_files(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: next((row[name] for row in rows if row[name] is not None), None)
        for name in ("mountpoint", "filesystem")
    }


def _devices_at_start(journal: Journal) -> set[int]:
    texts = journal.of("mountinfo")[:1]
    return {
        device_number(line.device)
        for text in texts
        for line in parse_mountinfo(text.get("text") or "")
    }


def _places_by_device(places: pl.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """Where files of each device were seen: the first sight of each place, in order."""
    rows = places.sort("time_ns").unique(
        ["dev", "mountpoint", "filesystem"], keep="first", maintain_order=True
    )
    by_device: dict[int, list[dict[str, Any]]] = {}
    for row in rows.select("dev", "time_ns", "mountpoint", "filesystem").iter_rows(named=True):
        by_device.setdefault(row["dev"], []).append(row)
    return by_device


def _births(
    dev: int, requests: pl.DataFrame, at_start: set[int], seen: dict[int, list[dict[str, Any]]]
) -> Sequence[int | None]:
    inits = requests.filter((pl.col("dev") == dev) & (pl.col("opcode") == fuse.INIT))
    times: list[int | None] = sorted(
        queued or ended for queued, ended in inits.select("queued_ns", "end_ns").iter_rows()
    )
    if dev in at_start:
        return [None, *times]
    if not times and not at_start:
        return [None]
    return times or [seen[dev][0]["time_ns"] if dev in seen else None]


def _with_ends(mounts: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """A mount ends with its DESTROY, else when its device is mounted again."""
    destroyed = requests.filter(pl.col("opcode") == fuse.DESTROY).select(
        "dev", time_ns=pl.max_horizontal("end_ns", "queued_ns")
    )
    ends = (
        with_mount(destroyed, mounts, "time_ns")
        .group_by("mount_id")
        .agg(end_ns=pl.col("time_ns").max())
    )
    next_start = pl.col("start_ns").shift(-1).over("dev")
    return mounts.join(ends, on="mount_id", how="left", maintain_order="left").with_columns(
        pl.coalesce("end_ns", next_start).alias("end_ns")
    )


def with_mount(frame: pl.DataFrame, mounts: pl.DataFrame, time: str) -> pl.DataFrame:
    """Add ``mount_id`` (null: no such mount) by ``dev`` and the time column, keeping the order."""
    starts = mounts.select("dev", "mount_id", birth=pl.col("start_ns").fill_null(0))
    if not starts["dev"].is_duplicated().any():
        return frame.join(starts.drop("birth"), on="dev", how="left", maintain_order="left")
    rows = frame.with_row_index("row")
    with_ids = latest_begun(rows, starts, at=time, begin="birth", by="dev")
    return with_ids.sort("row").drop("row", "birth")


def daemon_mounts(
    requests: pl.DataFrame, served: pl.DataFrame, attributes: pl.DataFrame
) -> pl.DataFrame:
    """Which process serves which mount: pid, mount_id, one row per pid.

    First by where requests ended, counting only processes that took requests; then, for daemons
    that answered none, by the requests they took; last by the mounts' own attributes (mount_id,
    pid). ``requests``: mount_id, unique, opcode, end_pid; ``served``: pid, unique, opcode.
    """
    takers = served.select(pid="pid").unique()
    answered = requests.filter(pl.col("end_pid") != 0).select("mount_id", pid="end_pid")
    if takers.height:
        answered = answered.join(takers, on="pid", how="semi")
    by_answer = _most_frequent(answered)
    took_only = served.join(by_answer, on="pid", how="anti").join(
        requests.select("mount_id", "unique", "opcode"), on=["unique", "opcode"]
    )
    by_request = pl.concat([by_answer, _most_frequent(took_only.select("mount_id", "pid"))])
    by_attribute = attributes.drop_nulls().select("pid", "mount_id").unique("pid")
    return pl.concat([by_request, by_attribute.join(by_request, on="pid", how="anti")])


def _most_frequent(pairs: pl.DataFrame) -> pl.DataFrame:
    counted = pairs.group_by("pid", "mount_id").len()
    ordered = counted.sort("len", "mount_id", descending=[True, False])
    return ordered.unique("pid", keep="first", maintain_order=True).select("pid", "mount_id")


def mount_attributes(journal: Journal, mounts: pl.DataFrame) -> pl.DataFrame:
    """The attributes of mounts: mount_id, repository, revision, client_version, pid, proxy.

    From the journal's ``attributes`` lines that have a mountpoint, which comes along as
    ``said_mountpoint``. They were read after the command ended, so they are those of the last mount
    of a device.
    """
    latest = {row["device"]: row["mount_id"] for row in mounts.iter_rows(named=True)}
    rows = [
        {
            "mount_id": latest.get(line.get("device")),
            "said_mountpoint": line.get("mountpoint"),
            "repository": line["attributes"].get("user.fqrn"),
            "revision": whole_number(line["attributes"].get("user.revision")),
            "client_version": line["attributes"].get("user.version"),
            "pid": whole_number(line["attributes"].get("user.pid"), MAX_PID),
            "proxy": line["attributes"].get("user.proxy"),
        }
        for line in journal.of("attributes")
        if line.get("mountpoint") and isinstance(line.get("attributes"), dict)
    ]
    schema: dict[str, Any] = {
        "mount_id": pl.Int32, "said_mountpoint": pl.String, "repository": pl.String,
        "revision": pl.Int64, "client_version": pl.String, "pid": pl.Int32, "proxy": pl.String,
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema, orient="row").drop_nulls("mount_id")
    return frame.unique("mount_id", keep="last", maintain_order=True)


@dataclass(frozen=True)
class MountEvidence:
    """What describes mounts besides how they were found.

    ``attributes``: see `mount_attributes`. ``serving``: pid, mount_id of daemons. ``downloads``:
    mount_id, url_path. ``cache_paths``: mount_id, cache_path from file names that the daemon used.
    ``managers``: see `cache_managers.cache_managers`. ``at_start``: device, revision_at_start.
    """

    attributes: pl.DataFrame
    serving: pl.DataFrame
    downloads: pl.DataFrame
    cache_paths: pl.DataFrame
    managers: pl.DataFrame
    at_start: pl.DataFrame


def described(mounts: pl.DataFrame, evidence: MountEvidence) -> pl.DataFrame:
    """The table `mounts`, in the order of ``mounts``."""
    daemons = evidence.serving.unique("mount_id", keep="first", maintain_order=True)
    rows = mounts
    for more in (
        evidence.attributes.drop("pid", "proxy"),
        _requested_repositories(evidence.downloads),
        daemons.rename({"pid": "daemon_pid"}),
        evidence.cache_paths,
    ):
        rows = rows.join(more, on="mount_id", how="left", maintain_order="left")
    rows = _with_caches(rows, evidence.managers).join(
        evidence.at_start, on="device", how="left", maintain_order="left"
    )
    rows = rows.with_columns(
        pl.coalesce("repository", "requested").alias("repository"),
        pl.coalesce("mountpoint", "said_mountpoint").alias("mountpoint"),
        revision_at_start=pl.when(pl.col("start_ns").is_null()).then("revision_at_start"),
    )
    return conform("mounts", rows.select(*(set(table("mounts").names) & set(rows.columns))))


def _requested_repositories(downloads: pl.DataFrame) -> pl.DataFrame:
    """The repository in the first URL that a mount's client requested: mount_id, requested."""
    name = pl.col("url_path").str.extract(r"/cvmfs/([A-Za-z0-9._-]+)/")
    named = downloads.select("mount_id", requested=name).drop_nulls()
    return named.unique("mount_id", keep="first", maintain_order=True)


def _with_caches(rows: pl.DataFrame, managers: pl.DataFrame) -> pl.DataFrame:
    """The cache by open files and lookups, else by the file names that were used."""
    by_name = pl.when(pl.col("cache_path").is_not_null()).then(pl.lit("posix"))
    opened = managers.rename({"cache_path": "opened_path"})
    return rows.join(opened, on="mount_id", how="left", maintain_order="left").with_columns(
        pl.coalesce("cache_manager", by_name).alias("cache_manager"),
        pl.coalesce("opened_path", "cache_path").alias("cache_path"),
    )
