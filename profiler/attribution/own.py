"""The command's own: which of what its mounts did was done for the command.

A request is the command's own if one of its processes queued it, or one of its operations waited
for it. A fetch is if it was made for such a request, or a thread of the command waited for it, or
for one that joined it. A download is if it belongs to such a fetch. Everything else on the mount
was done for others, or by the client for itself. A mount is one of the command's if it asked that
mount for anything, or used a file there.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

Tables = Mapping[str, pl.DataFrame]

_REQUEST = ["mount_id", "unique"]


def own_tables(tables: Tables) -> dict[str, pl.DataFrame]:
    """Return the tables with only the command's own `fuse_requests`, `lock_waits`,
    `cache_lookups`, `fetches`, `downloads`, `mounts`. A lookup known by system calls only counts as
    others'.

    A run without the command's processes, which a client's log is, stays as it is: it does not say
    for whom the client worked.
    """
    if tables["tasks"].filter(pl.col("role") == "target").is_empty():
        return dict(tables)
    requests, fetches = own_requests(tables), own_fetches(tables)
    return {
        **tables,
        "fuse_requests": tables["fuse_requests"].join(requests, on=_REQUEST, how="semi"),
        "lock_waits": tables["lock_waits"].join(requests, on=_REQUEST, how="semi"),
        "cache_lookups": _own_lookups(tables, requests),
        "fetches": tables["fetches"].join(fetches, on="fetch_id", how="semi"),
        "downloads": own_downloads(tables, fetches),
        "mounts": tables["mounts"].join(own_mounts(tables), on="mount_id", how="semi"),
    }


def _own_lookups(tables: Tables, requests: pl.DataFrame) -> pl.DataFrame:
    calls = tables["daemon_calls"].join(requests, on=_REQUEST, how="semi")
    return tables["cache_lookups"].join(calls, on="call_id", how="semi")


def own_requests(tables: Tables) -> pl.DataFrame:
    """Return the command's own requests: mount_id, unique."""
    pids = tables["tasks"].filter(pl.col("role") == "target")["pid"].unique()
    queued = tables["fuse_requests"].filter(
        pl.col("pid").is_in(pids.implode()) | pl.col("op_id").is_not_null()
    )
    return pl.concat([queued.select(_REQUEST), tables["waits"].select(_REQUEST)]).unique()


def own_mounts(tables: Tables) -> pl.DataFrame:
    """Return the mounts that the command used: mount_id."""
    used = [tables[name].select("file_id").drop_nulls() for name in ("operations", "hits")]
    files = tables["files"].join(pl.concat(used), on="file_id", how="semi")
    failed = tables["failed_operations"].select("mount_id").drop_nulls()
    asked = own_requests(tables).select("mount_id")
    return pl.concat([files.select("mount_id"), failed, asked]).unique()


def own_fetches(tables: Tables) -> pl.DataFrame:
    """Return the command's own fetches: fetch_id."""
    fetches = tables["fetches"]
    made = fetches.join(own_requests(tables), on=_REQUEST, how="semi").select("fetch_id")
    waited = tables["segments"].select("fetch_id").drop_nulls()
    directly = pl.concat([made, waited]).unique()
    joined = fetches.join(directly, on="fetch_id", how="semi").select(fetch_id="joined_fetch_id")
    return pl.concat([directly, joined.drop_nulls()]).unique()


def own_downloads(tables: Tables, fetches: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `downloads` that belong to ``fetches`` (fetch_id)."""
    downloads = tables["downloads"]
    last = tables["fetches"].join(fetches, on="fetch_id", how="semi")["download_id"]
    return downloads.filter(
        pl.col("fetch_id").is_in(fetches["fetch_id"].implode())
        | pl.col("download_id").is_in(last.drop_nulls().implode())
    )
