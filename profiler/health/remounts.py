"""Incidents of a mount that continues with other code (reload) or other content (remount)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from ..run.journal import Journal, Line
from ..run.text import whole_number
from ..tables import conform

#: a library that is tried at several places is opened more than once
_ONCE_NS = 1_000_000_000
_SCHEMA: dict[str, Any] = {
    "time_ns": pl.Int64, "kind": pl.String, "pid": pl.Int32, "mount_id": pl.Int32,
    "detail": pl.String,
}  # fmt: skip


def reloads(journal: Journal, mounted: pl.DataFrame) -> pl.DataFrame:
    """Daemons that loaded the client's code again while they served a mount."""
    rows: list[dict[str, Any]] = []
    last: dict[int, int] = {}
    for line in journal.of("library"):
        pid, time_ns = int(line["pid"]), int(line["opened_ns"])
        mount = _served(mounted, pid, time_ns)
        if mount is None or time_ns - last.get(pid, -_ONCE_NS) < _ONCE_NS:
            continue
        last[pid] = time_ns
        detail = f"daemon {pid} loaded its code again from {line['path']}"
        changes = _changes(journal, str(mount["device"]))
        rows.append(
            {
                "time_ns": time_ns,
                "kind": "reload",
                "pid": pid,
                "mount_id": mount["mount_id"],
                "detail": detail + (f": {changes}" if changes else ""),
            }
        )
    return conform("incidents", pl.DataFrame(rows, schema=_SCHEMA, orient="row"))


def remounts(
    journal: Journal, mounted: pl.DataFrame, lookups: pl.DataFrame, manifests: pl.DataFrame
) -> pl.DataFrame:
    """Every change of a mount to another revision of its repository.

    Found in the manifests that the client downloaded; where those were not seen, by the mount's
    attributes before and after the command. The time is that of the first lookup of the new root
    catalog. ``lookups``: mount_id, object_hash, start_ns of lookups and fetches; ``manifests``: see
    `downloads.manifests`.
    """
    last = mounted.unique("device", keep="last", maintain_order=True)["mount_id"]
    rows: list[dict[str, Any]] = []
    for mount in mounted.iter_rows(named=True):
        attributes: tuple[Line | None, Line | None] = (None, None)
        if mount["mount_id"] in last:
            attributes = _attributes(journal, str(mount["device"]))
        looked = lookups.filter(mount_id=mount["mount_id"])
        seen = manifests.filter(mount_id=mount["mount_id"]).sort("time_ns")
        rows += [
            {
                "time_ns": time_ns,
                "kind": "remount",
                "pid": mount["daemon_pid"],
                "mount_id": mount["mount_id"],
                "detail": f"{mount['mountpoint']}: {detail}",
            }
            for time_ns, detail in _revisions(*attributes, looked, seen)
        ]
    return conform("incidents", pl.DataFrame(rows, schema=_SCHEMA, orient="row"))


def _revisions(
    before: Line | None, after: Line | None, looked: pl.DataFrame, manifests: pl.DataFrame
) -> Iterator[tuple[int, str]]:
    """When a mount changed to another revision, and in words to which."""
    current = _revision(before)
    for time_ns, root, revision in manifests.select("time_ns", "root_hash", "revision").rows():
        taken = _first_look(looked, root, time_ns)
        if current is not None and revision != current and taken is not None:
            yield taken, _change("revision", current, revision)
        current = revision if taken is not None or current is None else current
    final = _revision(after)
    if after is None or final is None or current is None or final == current:
        return
    root = str(after["attributes"].get("user.root_hash", ""))
    taken = _first_look(looked, root)
    detail = _change("revision", current, final)
    yield (
        taken or int(after["time_ns"]),
        detail if taken else f"{detail}; the time of the change was not seen",
    )


def _first_look(looked: pl.DataFrame, root: str, after_ns: int = 0) -> int | None:
    times = looked.filter(pl.col("start_ns") >= after_ns, object_hash=root)["start_ns"]
    return int(times.sort()[0]) if times.len() else None


def _revision(line: Line | None) -> int | None:
    return whole_number(line["attributes"].get("user.revision")) if line else None


def revisions_at_start(journal: Journal) -> pl.DataFrame:
    """The revisions of mounts before the command: device, revision_at_start."""
    rows = [
        {"device": line.get("device"), "revision_at_start": revision}
        for line in journal.of("attributes_before")
        if (revision := _revision(line)) is not None
    ]
    schema = {"device": pl.String(), "revision_at_start": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row").unique("device", keep="last")


def _served(mounted: pl.DataFrame, pid: int, time_ns: int) -> dict[str, Any] | None:
    born = pl.col("start_ns").fill_null(0)
    earlier = mounted.filter((pl.col("daemon_pid") == pid) & (born < time_ns))
    return earlier.row(-1, named=True) if earlier.height else None


def _attributes(journal: Journal, device: str) -> tuple[Line | None, Line | None]:
    """The attributes of a device's mount before and after the command."""
    after = [line for line in journal.of("attributes") if line.get("mountpoint")]
    lines = (journal.of("attributes_before"), after)
    before, last = (
        next((line for line in reversed(each) if line.get("device") == device), None)
        for each in lines
    )
    return before, last


def _changes(journal: Journal, device: str) -> str:
    before, after = _attributes(journal, device)
    if before is None or after is None:
        return ""
    names = ("user.version", "user.revision")
    texts = [_difference(before, after, name) or _same(after, name) for name in names]
    return ", ".join(filter(None, texts))


def _difference(before: Line, after: Line, name: str) -> str:
    """A change of an attribute in words; empty if it did not change or a value is unknown."""
    old, new = (str(line["attributes"].get(name, "")).strip() for line in (before, after))
    if not old or not new or old == new:
        return ""
    return _change(_WORDS[name], old, new)


def _change(what: str, old: object, new: object) -> str:
    return f"{what} {old} before, {new} after"


def _same(after: Line, name: str) -> str:
    value = str(after["attributes"].get(name, "")).strip()
    return f"{_WORDS[name]} {value} before and after" if value else ""


_WORDS = {"user.version": "client", "user.revision": "revision"}
