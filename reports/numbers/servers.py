"""Servers and proxies that were asked, and whether they are on this machine."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

#: where an address ends and its port begins; an address of version 6 is in brackets
_ADDRESS = r"^(\[[^\]]*\]|[^:]*)"
_LOOPBACK = r"^(127\.|\[::1\]|localhost$)"


@dataclass(frozen=True)
class Server:
    """A server, or a proxy through which servers were asked: its name or address.

    ``is_proxy``: None where only connections to it were seen, and no request. ``is_local``: the
    connections to it did not leave this machine; False where that is not known. ``ns`` is how long
    requests to it lasted, summed over them, as far as their ends were seen.
    """

    name: str
    is_proxy: bool | None
    is_local: bool
    requests: int
    ns: int


def servers(downloads: pl.DataFrame) -> tuple[Server, ...]:
    """Return who was asked for ``downloads`` (rows of the table), the slowest in total first."""
    lasted = pl.col("last_byte_ns") - pl.coalesce("sent_ns", "connect_ns")
    named = with_server(downloads).with_columns(ns=lasted.fill_null(0))
    summed = named.group_by("server", maintain_order=True).agg(
        pl.col("is_proxy").max(),
        pl.col("is_local").all(),
        pl.len().alias("requests"),
        pl.col("ns").sum(),
    )
    ordered = summed.sort("ns", "server", descending=[True, False])
    columns = ordered.select("server", "is_proxy", "is_local", "requests", "ns")
    return tuple(Server(*row) for row in columns.iter_rows())


def with_server(downloads: pl.DataFrame) -> pl.DataFrame:
    """Add server, is_proxy?, is_local to rows of `downloads`."""
    other, own = _address("remote"), _address("local")
    is_proxy = pl.col("proxy").is_not_null()
    # without a connection that was seen, the name may be an address
    to = pl.coalesce(other, pl.when(~is_proxy).then(_address("host")))
    is_local = to.str.contains(_LOOPBACK) | (other == own).fill_null(value=False)
    return downloads.with_columns(
        server=pl.coalesce("proxy", "host"),
        is_proxy=pl.when(is_proxy | pl.col("sent_ns").is_not_null()).then(is_proxy),
        is_local=is_local.fill_null(value=False),
    )


def _address(column: str) -> pl.Expr:
    return pl.col(column).str.extract(_ADDRESS, 1)
