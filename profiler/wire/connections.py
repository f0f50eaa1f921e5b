"""The daemons' connections: the addresses of their ends and the server named in TLS."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from socket import AF_INET6

import polars as pl

_TLS_CLIENT_HELLO, _EXTENSION_SERVER_NAME = 1, 0


def endpoints(records: pl.DataFrame) -> pl.DataFrame:
    """Replace the addresses of DOWNLOAD records by text: ``local``?, ``remote``?."""
    ends = ("local", "remote")
    key = ["family", *(name for end in ends for name in (end, f"{end}_port"))]
    distinct = records.select(key).unique()
    spelt = distinct.with_columns(
        pl.Series(
            f"{end}_text",
            [
                endpoint(row["family"], row[end], row[f"{end}_port"])
                for row in distinct.iter_rows(named=True)
            ],
            dtype=pl.String,
        )
        for end in ends
    )
    joined = records.join(spelt, on=key, maintain_order="left")
    return joined.drop(ends).rename({f"{end}_text": end for end in ends})


def endpoint(family: int, address: bytes, port: int) -> str | None:
    """``address:port``, an IPv4 address mapped into IPv6 as IPv4. None where the port is 0."""
    if not port:
        return None
    host = ip_address(address if family == AF_INET6 else address[:4])
    if isinstance(host, IPv6Address):
        return f"{host.ipv4_mapped}:{port}" if host.ipv4_mapped else f"[{host}]:{port}"
    return f"{host}:{port}"


def server_name(hello: bytes) -> str | None:
    """The server name in a TLS ClientHello (RFC 6066, 3), None where there is none.

    A message that was cut off is read up to the cut: the name may be cut too.
    """
    if len(hello) < 44 or hello[5] != _TLS_CLIENT_HELLO:
        return None
    at = 43 + 1 + hello[43]  # after the session id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # ciphers
    at += 1 + int.from_bytes(hello[at : at + 1], "big")  # compressions
    at += 2
    while at + 9 < len(hello):
        kind, size = (int.from_bytes(hello[at + n : at + n + 2], "big") for n in (0, 2))
        if kind == _EXTENSION_SERVER_NAME:
            length = int.from_bytes(hello[at + 7 : at + 9], "big")
            return hello[at + 9 : at + 9 + length].decode("ascii", "replace")
        at += 4 + size
    return None
