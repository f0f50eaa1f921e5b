"""The daemons' connections: who is at their ends, and what their first bytes tell."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from socket import AF_INET6

import polars as pl

_TLS_CLIENT_HELLO, _EXTENSION_SERVER_NAME = 1, 0


def endpoints(records: pl.DataFrame) -> pl.DataFrame:
    """Give DOWNLOAD records ``local`` and ``remote`` as text; null where they are not known."""
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
    joined = records.join(spelt, on=key, how="left", maintain_order="left")
    return joined.drop(ends).rename({f"{end}_text": end for end in ends})


def endpoint(family: int, address: bytes, port: int) -> str | None:
    """``address:port``; an IPv4 address within IPv6 is spelt as such. None where the port is 0."""
    if not port:
        return None
    found = ip_address(address if family == AF_INET6 else address[:4])
    if isinstance(found, IPv6Address):
        return f"{found.ipv4_mapped}:{port}" if found.ipv4_mapped else f"[{found}]:{port}"
    return f"{found}:{port}"


def server_name(hello: bytes) -> str | None:
    """The host that a TLS handshake's first message asks for (RFC 6066, 3), where it names one.

    A message that was cut off tells what came before the cut.
    """
    if len(hello) < 44 or hello[5] != _TLS_CLIENT_HELLO:
        return None
    at = 43 + 1 + hello[43]  # behind the session's id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # ciphers
    at += 1 + int.from_bytes(hello[at : at + 1], "big")  # compressions
    at += 2
    while at + 9 <= len(hello):
        kind, size = (int.from_bytes(hello[at + n : at + n + 2], "big") for n in (0, 2))
        if kind == _EXTENSION_SERVER_NAME:
            length = int.from_bytes(hello[at + 7 : at + 9], "big")
            return hello[at + 9 : at + 9 + length].decode("ascii", "replace")
        at += 4 + size
    return None
