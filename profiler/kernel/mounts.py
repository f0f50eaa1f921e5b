"""Table `mounts`, and whose events belong to which mount.

A device number is given again after an unmount: a mount is a device and the time since its FUSE
INIT.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from ..run.journal import Journal
from ..run.mountinfo import MountLine, parse_mountinfo
from ..tables import conform, table

OPCODE_INIT, OPCODE_DESTROY = 26, 38


def device_text(dev: int) -> str:
    """``major:minor`` of a device number as the kernel encodes it."""
    return f"{dev >> 20}:{dev & 0xFFFFF}"


def device_number(text: str) -> int:
    """The kernel's encoding of ``major:minor``."""
    major, _, minor = text.partition(":")
    return int(major) << 20 | int(minor)


def mounts(
    journal: Journal, places: pl.DataFrame, requests: pl.DataFrame, devices: Iterable[int]
) -> pl.DataFrame:
    """Find the mounts. Returns the table's columns and ``dev`` (UInt32), in the order of device and
    time.

    ``places``: dev, time_ns, mountpoint?, filesystem? as the first file of a superblock shows them.
    ``requests``: REQUEST records, for INIT and DESTROY. ``devices``: numbers that other events
    name.
    """
    lines = _lines_by_device(journal)
    seen = _seen(places)
    wanted = {
        device_number(device)
        for device, told in lines.items()
        if any(line.is_cvmfs for _, line in told)
    }
    asked = set(requests["dev"].unique())
    wanted |= set(devices) | asked | set(seen)
    at_start = _devices_at_start(journal)
    rows: list[dict[str, Any]] = []
    for dev in sorted(wanted):
        births = _births(dev, requests, at_start, seen)
        for birth, next_birth in pairwise([*births, None]):
            life = (birth, next_birth)
            told = _told(lines.get(device_text(dev), []), seen.get(dev, []), life)
            rows.append({"device": device_text(dev), **told, "start_ns": birth, "dev": dev})
        if dev in asked and not rows[-1]["filesystem"]:
            rows[-1]["filesystem"] = "fuse"
    frame = pl.DataFrame(rows, schema={**_NAMED, "dev": pl.UInt32}, orient="row")
    numbered = frame.with_columns(mount_id=pl.int_range(pl.len(), dtype=pl.Int32))
    return _with_ends(numbered, requests)


_NAMED: dict[str, Any] = {
    "device": pl.String, "mountpoint": pl.String, "filesystem": pl.String, "start_ns": pl.Int64,
}  # fmt: skip


def _lines_by_device(journal: Journal) -> dict[str, list[tuple[int, MountLine]]]:
    """The lines about each device with the time at which they were read, early before late."""
    found: dict[str, list[tuple[int, MountLine]]] = {}
    for text in journal.of("mountinfo"):
        for line in parse_mountinfo(str(text.get("text", ""))):
            found.setdefault(line.device, []).append((int(text.get("time_ns", 0)), line))
    return found


def _told(
    lines: list[tuple[int, MountLine]],
    seen: list[dict[str, Any]],
    life: tuple[int | None, int | None],
) -> dict[str, Any]:
    """Mountpoint? and filesystem? by what was learnt while the mount lived, else at any time: by
    mountinfo, else by where files were seen to lie.
    """
    own_lines = [(time_ns, line) for time_ns, line in lines if _within(time_ns, life)]
    own_seen = [row for row in seen if _within(row["time_ns"], life)]
    found = (_by_line(own_lines), _by_place(own_seen), _by_line(lines), _by_place(seen))
    return {
        name: next((one[name] for one in found if one[name] is not None), None)
        for name in ("mountpoint", "filesystem")
    }


def _within(time_ns: int, life: tuple[int | None, int | None]) -> bool:
    birth, next_birth = life
    return (birth is None or time_ns >= birth) and (next_birth is None or time_ns < next_birth)


def _by_line(lines: list[tuple[int, MountLine]]) -> dict[str, Any]:
    """The line of the whole file system before that of a bind mount, early before late."""
    line = min((line for _, line in lines), key=lambda line: not line.is_whole, default=None)
    return {
        "mountpoint": line.mountpoint if line else None,
        "filesystem": line.filesystem if line else None,
    }


def _by_place(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: next((row[name] for row in rows if row[name] is not None), None)
        for name in ("mountpoint", "filesystem")
    }


def _devices_at_start(journal: Journal) -> set[int]:
    texts = journal.of("mountinfo")[:1]
    return {
        device_number(line.device)
        for text in texts
        for line in parse_mountinfo(str(text.get("text", "")))
    }


def _seen(places: pl.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """Where files of each device were seen to lie: every first sight of a place, in order."""
    rows = places.sort("time_ns").unique(
        ["dev", "mountpoint", "filesystem"], keep="first", maintain_order=True
    )
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows.select("dev", "time_ns", "mountpoint", "filesystem").iter_rows(named=True):
        found.setdefault(row["dev"], []).append(row)
    return found


def _births(
    dev: int, requests: pl.DataFrame, at_start: set[int], seen: dict[int, list[dict[str, Any]]]
) -> Sequence[int | None]:
    inits = requests.filter((pl.col("dev") == dev) & (pl.col("opcode") == OPCODE_INIT))
    times: list[int | None] = sorted(
        queued or ended for queued, ended in inits.select("queued_ns", "end_ns").iter_rows()
    )
    if dev in at_start:
        return [None, *times]
    if not times and not at_start:
        return [None]
    return times or [seen[dev][0]["time_ns"] if dev in seen else None]


def _with_ends(mounted: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """A mount ends with its DESTROY, else when its device is mounted anew."""
    gone = with_mount(
        requests.filter(pl.col("opcode") == OPCODE_DESTROY).select(
            "dev", time_ns=pl.max_horizontal("end_ns", "queued_ns")
        ),
        mounted,
        "time_ns",
    )
    ends = gone.group_by("mount_id").agg(end_ns=pl.col("time_ns").max())
    again = pl.col("start_ns").shift(-1).over("dev")
    return mounted.join(ends, on="mount_id", how="left", maintain_order="left").with_columns(
        pl.coalesce("end_ns", again).alias("end_ns")
    )


def with_mount(frame: pl.DataFrame, mounted: pl.DataFrame, time: str) -> pl.DataFrame:
    """Add ``mount_id`` (null: no such mount) by ``dev`` and the time column, keeping the order."""
    keys = mounted.select("dev", "mount_id", "start_ns")
    if not keys["dev"].is_duplicated().any():
        return frame.join(keys.drop("start_ns"), on="dev", how="left", maintain_order="left")
    births = keys.select("dev", "mount_id", birth=pl.col("start_ns").fill_null(0)).sort("birth")
    numbered = frame.with_row_index("row").sort(time)
    found = numbered.join_asof(
        births, left_on=time, right_on="birth", by="dev", check_sortedness=False
    )
    return found.sort("row").drop("row", "birth", strict=False)


def daemon_mounts(
    requests: pl.DataFrame, served: pl.DataFrame, attributes: pl.DataFrame
) -> pl.DataFrame:
    """Which process serves which mount: pid, mount_id, one row per pid.

    Learnt from where requests ended, counting only processes that took requests; then, for daemons
    that answered none, from the requests they took; last from the mounts' own word (``attributes``:
    mount_id, pid). ``requests``: mount_id, unique, opcode, end_pid; ``served``: pid, unique,
    opcode.
    """
    takers = served.select(pid="pid").unique()
    answered = requests.filter(pl.col("end_pid") != 0).select("mount_id", pid="end_pid")
    if takers.height:
        answered = answered.join(takers, on="pid", how="semi")
    known = _most_frequent(answered)
    silent = served.join(known, on="pid", how="anti").join(
        requests.select("mount_id", "unique", "opcode"), on=["unique", "opcode"]
    )
    known = pl.concat([known, _most_frequent(silent.select("mount_id", "pid"))])
    said = attributes.drop_nulls().select("mount_id", "pid").unique("pid")
    return pl.concat([known, said.join(known, on="pid", how="anti").select(known.columns)])


def _most_frequent(pairs: pl.DataFrame) -> pl.DataFrame:
    return (
        pairs.group_by("pid", "mount_id")
        .len()
        .sort("len", "mount_id", descending=[True, False])
        .unique("pid", keep="first", maintain_order=True)
        .select("pid", "mount_id")
    )


def mount_attributes(journal: Journal, mounted: pl.DataFrame) -> pl.DataFrame:
    """What mounts say of themselves: mount_id, repository, revision, client_version, pid, proxy.

    Read from the journal's ``attributes`` lines that bear a mountpoint; the last mount of a device
    is meant, since they are read after the command ended.
    """
    last = {row["device"]: row["mount_id"] for row in mounted.iter_rows(named=True)}
    rows = [
        {
            "mount_id": last.get(line.get("device")),
            "said_mountpoint": line.get("mountpoint"),
            "repository": line["attributes"].get("user.fqrn"),
            "revision": _number(line["attributes"].get("user.revision")),
            "client_version": line["attributes"].get("user.version"),
            "pid": _number(line["attributes"].get("user.pid")),
            "proxy": line["attributes"].get("user.proxy"),
        }
        for line in journal.of("attributes")
        if line.get("mountpoint") and isinstance(line.get("attributes"), dict)
    ]
    schema: dict[str, Any] = {
        "mount_id": pl.Int32, "said_mountpoint": pl.String, "repository": pl.String,
        "revision": pl.Int64, "client_version": pl.String, "pid": pl.Int32, "proxy": pl.String,
    }  # fmt: skip
    found = pl.DataFrame(rows, schema=schema, orient="row").drop_nulls("mount_id")
    return found.unique("mount_id", keep="last", maintain_order=True)


def _number(text: object) -> int | None:
    found = re.match(r"\s*(\d+)", str(text)) if text is not None else None
    return int(found[1]) if found else None


def described(
    mounted: pl.DataFrame,
    attributes: pl.DataFrame,
    daemons: pl.DataFrame,
    downloads: pl.DataFrame,
    cache_paths: pl.DataFrame,
    managers: pl.DataFrame | None = None,
    at_start: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The table, with what the mount says, what its daemon was seen to ask for and where it caches.

    ``downloads``: mount_id, url_path; ``cache_paths``: mount_id, cache_path as names that the
    daemon used tell; ``managers``: see `caches.cache_managers`; ``at_start``: device,
    revision_at_start.
    """
    asked = (
        downloads.select(
            "mount_id", asked=pl.col("url_path").str.extract(r"/cvmfs/([A-Za-z0-9._-]+)/")
        )
        .drop_nulls()
        .unique("mount_id", keep="first", maintain_order=True)
    )
    serving = daemons.unique("mount_id", keep="first", maintain_order=True).rename(
        {"pid": "daemon_pid"}
    )
    known = mounted
    for more in (attributes.drop("pid", "proxy"), asked, serving, cache_paths):
        known = known.join(more, on="mount_id", how="left", maintain_order="left")
    known = _with_caches(known, managers)
    if at_start is not None:
        known = known.join(at_start, on="device", how="left", maintain_order="left").with_columns(
            revision_at_start=pl.when(pl.col("start_ns").is_null()).then("revision_at_start")
        )
    known = known.with_columns(
        pl.coalesce("repository", "asked").alias("repository"),
        pl.coalesce("mountpoint", "said_mountpoint").alias("mountpoint"),
    )
    return conform("mounts", known.select(*(set(table("mounts").names) & set(known.columns))))


def _with_caches(known: pl.DataFrame, managers: pl.DataFrame | None) -> pl.DataFrame:
    """What open files and lookups tell of the cache, else what the names that were used tell."""
    by_name = pl.when(pl.col("cache_path").is_not_null()).then(pl.lit("posix"))
    if managers is None:
        return known.with_columns(cache_manager=by_name)
    told = managers.rename({"cache_path": "opened_path", "cache_manager": "told_manager"})
    return known.join(told, on="mount_id", how="left", maintain_order="left").with_columns(
        cache_manager=pl.coalesce("told_manager", by_name),
        cache_path=pl.coalesce("opened_path", "cache_path"),
    )
