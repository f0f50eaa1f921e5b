"""Tables `daemon_calls` and `cache_lookups`: what the daemons did with each request."""

from __future__ import annotations

import os

import polars as pl

from ...probes.events import CACHE_SYSCALLS, DAEMON_FUNCTIONS
from ..run.hashes import hash_of_path, with_object_hash
from ..run.text import c_strings
from ..run.times import happened
from ..tables import conform

FETCH, DOWNLOAD, LOOKUP = "Fetcher::Fetch", "DownloadManager::Fetch", "CacheManager::Open"
#: lookups by each kind of cache manager; the tables call the outermost of nested ones LOOKUP
LOOKUPS = tuple(name for name in DAEMON_FUNCTIONS if name.endswith(LOOKUP))
_NUMBERS = {name: number for number, name in enumerate(DAEMON_FUNCTIONS)}
_OF_NESTED = {LOOKUP: "PosixCacheManager::Open"}
_OPENAT, _RENAME = CACHE_SYSCALLS.index("openat"), CACHE_SYSCALLS.index("rename")


def daemon_calls(records: pl.DataFrame, daemons: pl.DataFrame) -> pl.DataFrame:
    """Number the calls and find their parents. The table, plus ``object_suffix``.

    ``daemons``: pid, mount_id. A lookup is named `LOOKUP` whichever cache manager does it, except
    one that a manager makes inside another one's lookup: that keeps its own name. A result is the
    low half of the register, an ``int`` of the ABI; the ``cvmfs_*`` callbacks return nothing, so
    their result is null.
    """
    ordered = records.sort("start_ns", "function").with_columns(
        call_id=pl.int_range(pl.len(), dtype=pl.Int32)
    )
    parents = ordered.select(
        "tid", parent_id="call_id", parent_start_ns="start_ns", parent_function="function"
    ).unique(["tid", "parent_start_ns", "parent_function"])
    key = ["tid", "parent_start_ns", "parent_function"]
    joined = ordered.join(parents, on=key, how="left", maintain_order="left").join(
        daemons, on="pid", how="left", maintain_order="left"
    )
    names = {number: _OF_NESTED.get(name, name) for name, number in _NUMBERS.items()}
    lookups = [_NUMBERS[name] for name in LOOKUPS]
    returns = pl.col("function").is_in([_NUMBERS[FETCH], _NUMBERS[DOWNLOAD], *lookups])
    nested = pl.col("parent_function").is_in(lookups)
    low_half = pl.col("result").cast(pl.Int32, wrap_numerical=True).cast(pl.Int64)
    rows = with_object_hash(joined).with_columns(
        happened("end_ns"),
        unique=pl.when(pl.col("unique") != 0).then("unique"),
        result=pl.when(returns & (pl.col("end_ns") != 0)).then(low_half),
        function=pl.when(pl.col("function").is_in(lookups) & ~nested)
        .then(pl.lit(LOOKUP))
        .otherwise(pl.col("function").replace_strict(names, default="?", return_dtype=pl.String)),
    )
    return conform("daemon_calls", rows, "object_suffix")


def cache_lookups(calls: pl.DataFrame, cache_files: pl.DataFrame) -> pl.DataFrame:
    """Lookups by daemon calls; for daemons without calls, by their system calls.

    ``cache_files``: see `with_hashes`.
    """
    by_call = calls.filter(
        (pl.col("function") == LOOKUP) & pl.col("end_ns").is_not_null()
    ).with_columns(hit=pl.col("result") >= 0)
    opened = _without_calls(cache_files, calls).filter(
        (pl.col("syscall") == _OPENAT) & (pl.col("open_flags") & os.O_CREAT == 0)
    )
    by_name = opened.with_columns(hit=pl.col("result") >= 0, object_hash=pl.col("path_hash"))
    both = [conform("cache_lookups", f.drop_nulls("object_hash")) for f in (by_call, by_name)]
    return pl.concat(both).sort("start_ns")


def with_hashes(records: pl.DataFrame, daemons: pl.DataFrame) -> pl.DataFrame:
    """CACHE_FILE records with text paths, mount_id, ``path_hash``? and ``new_hash``?."""
    named = records.with_columns(c_strings(records["path"]), c_strings(records["new_path"]))
    return named.with_columns(
        happened("end_ns"),
        path_hash=hash_of_path(pl.col("path")),
        new_hash=hash_of_path(pl.col("new_path")),
    ).join(daemons, on="pid", how="left", maintain_order="left")


def commits(cache_files: pl.DataFrame) -> pl.DataFrame:
    """Renames into the cache: pid, tid, object_hash, start_ns, end_ns, path (the transaction)."""
    renamed = (pl.col("syscall") == _RENAME) & (pl.col("result") == 0)
    return cache_files.filter(renamed & pl.col("new_hash").is_not_null()).select(
        "pid", "tid", "start_ns", "end_ns", "path", object_hash="new_hash"
    )


def transactions(cache_files: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Transactions that daemons without calls began: pid, tid, mount_id, start_ns, end_ns, path."""
    begun = (pl.col("syscall") == _OPENAT) & (pl.col("open_flags") & os.O_CREAT != 0)
    return (
        _without_calls(cache_files, calls)
        .filter(
            begun & (pl.col("result") >= 0) & pl.col("path").str.contains("txn/fetch", literal=True)
        )
        .select("pid", "tid", "mount_id", "start_ns", "end_ns", "path")
    )


def cache_directories(cache_files: pl.DataFrame) -> pl.DataFrame:
    """Where daemons cache: mount_id, cache_path; only from complete, absolute file names."""
    path = pl.when(pl.col("new_hash").is_not_null()).then("new_path").otherwise("path")
    named = cache_files.filter(pl.any_horizontal(pl.col("path_hash", "new_hash").is_not_null()))
    places = named.select("mount_id", path=path).filter(
        pl.col("path").str.starts_with("/") & (pl.col("path").str.len_bytes() < 127)
    )
    return (
        places.select("mount_id", cache_path=pl.col("path").str.replace(r"/[0-9a-f]{2}/[^/]*$", ""))
        .drop_nulls()
        .unique("mount_id", keep="first", maintain_order=True)
    )


def _without_calls(cache_files: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Rows of daemons without any seen call."""
    return cache_files.join(calls.select("pid"), on="pid", how="anti")
