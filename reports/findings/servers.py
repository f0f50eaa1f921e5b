"""Words for servers."""

from __future__ import annotations

from collections.abc import Sequence

from ..numbers.servers import Server
from ..numbers.statistics import Statistics

_KINDS = {True: "proxy", False: "server", None: "server or proxy"}
#: servers that a sentence names
_NAMED = 3


def the_server(servers: Sequence[Server]) -> str:
    """Return who was asked, and where it is if that is known: the server on this machine (…)."""
    if len(servers) == 1:
        return _one(servers[0])
    names = ", ".join(server.name for server in servers[:_NAMED])
    more = f" and {len(servers) - _NAMED:,} more" if len(servers) > _NAMED else ""
    kind = "proxies" if all(server.is_proxy for server in servers) else "servers"
    return f"the {kind} {names}{more}" if servers else "the server"


def _one(server: Server) -> str:
    kind = _KINDS[server.is_proxy]
    return (
        f"the {kind} on this machine ({server.name})"
        if server.is_local
        else (f"the {kind} {server.name}")
    )


def is_here(s: Statistics) -> bool:
    """Return whether all servers are on this machine: nothing is nearer, and there is no line."""
    return _all_local(s) and not any(server.is_proxy for server in s.servers)


def proxy_is_here(s: Statistics) -> bool:
    """Return whether all were asked on this machine, and a proxy, which may get them from afar."""
    return _all_local(s) and any(server.is_proxy for server in s.servers)


def _all_local(s: Statistics) -> bool:
    return bool(s.servers) and all(server.is_local for server in s.servers)
