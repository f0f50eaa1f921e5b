"""The cache manager of a mount's client and its directory, from lookups and open files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from ...probes.events import DAEMON_FUNCTIONS
from ..run.journal import Journal
from .daemon_calls import LOOKUP, LOOKUPS

_NAMES = {name: name.removesuffix(LOOKUP).lower() or "posix" for name in LOOKUPS}
_NUMBERS = {number: _NAMES[name] for number, name in enumerate(DAEMON_FUNCTIONS) if name in LOOKUPS}
#: managers that store their objects in another manager
_SHELLS = ("streaming", "tiered")
_DATABASE, _PIPE = "cachedb", "cachemgr"


def cache_managers(
    calls: pl.DataFrame, daemons: pl.DataFrame, attributes: pl.DataFrame, journal: Journal
) -> pl.DataFrame:
    """The caches of mounts: mount_id, cache_manager?, cache_path?.

    ``calls``: CALL records; ``daemons``: pid, mount_id; ``attributes``: mount_id, repository?.
    """
    lookups = calls.filter(pl.col("function").is_in(list(_NUMBERS)))
    used: dict[int, set[str]] = {}
    for pid, number in lookups.select("pid", "function").unique().iter_rows():
        used.setdefault(pid, set()).add(_NUMBERS[number])
    opened = _opened(journal)
    named = daemons.join(attributes.select("mount_id", "repository"), on="mount_id", how="left")
    rows = [
        {"mount_id": mount, **_described(used.get(pid, set()), opened.get(pid, ()), repository)}
        for pid, mount, repository in named.select("pid", "mount_id", "repository").iter_rows()
    ]
    schema = {"mount_id": pl.Int32(), "cache_manager": pl.String(), "cache_path": pl.String()}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.unique("mount_id", keep="first", maintain_order=True)


def working_directories(journal: Journal) -> dict[int, str]:
    """The working directory of daemons, by pid: where their relative file names begin."""
    return {int(line["pid"]): str(line["directory"]) for line in journal.of("cache")}


def _opened(journal: Journal) -> dict[int, tuple[str, ...]]:
    """The names of cache files that daemons had open, by pid."""
    by_pid: dict[int, dict[str, None]] = {}
    for line in journal.of("cache"):
        names: Iterable[Any] = line.get("names") or ()
        by_pid.setdefault(int(line["pid"]), {}).update(dict.fromkeys(map(str, names)))
    return {pid: tuple(names) for pid, names in by_pid.items()}


def _described(
    used: set[str], opened: tuple[str, ...], repository: str | None
) -> dict[str, str | None]:
    objects = (str(PurePosixPath(name).parent.parent) for name in opened if _is_object(name))
    database = next((name for name in opened if os.path.basename(name) == _DATABASE), None)
    path = os.path.dirname(database) if database else next(objects, None)
    bases = {os.path.basename(name) for name in opened}
    posix = _posix_manager(bases, path, repository)
    kinds = used | {"posix"} if path else used
    leaves = [posix if kind == "posix" else kind for kind in sorted(kinds - set(_SHELLS))]
    shell = " ".join(name for name in _SHELLS if name in kinds)
    inner = ", ".join(leaves)
    manager = f"{shell} ({inner})" if shell and inner else shell or inner
    return {"cache_manager": manager or None, "cache_path": path}


def _posix_manager(bases: set[str], path: str | None, repository: str | None) -> str:
    """How a cache of files is managed.

    A private one is in a directory named after its repository. Any other unmanaged one is an alien
    cache, which others may use too.
    """
    if _PIPE in bases:
        return "posix shared"
    if _DATABASE in bases or path is None:
        return "posix"
    return "posix unmanaged" if os.path.basename(path) == repository else "posix alien"


def _is_object(name: str) -> bool:
    return os.path.basename(name) not in (_DATABASE, _PIPE)
