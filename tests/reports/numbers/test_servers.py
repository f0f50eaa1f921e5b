"""Who was asked, and whether that is on this machine."""

from __future__ import annotations

from typing import Any

import pytest

from cvmprof.reports.findings.servers import the_server
from cvmprof.reports.numbers.servers import Server, servers
from cvmprof.tests.reports.synthetic import Rows


def of(*given: dict[str, Any]) -> tuple[Server, ...]:
    rows = Rows()
    for number, row in enumerate(given):
        rows.add(
            "downloads", **{"download_id": number, "host": "h", "attempt": 1, "sent_ns": 0, **row}
        )
    return servers(rows.frames()["downloads"])


@pytest.mark.parametrize(("row", "is_local"), [
    ({"host": "h", "remote": "127.0.0.1:80"}, True), ({"host": "127.9.9.9:8000"}, True),
    ({"host": "localhost:80"}, True), ({"host": "[::1]:80"}, True),
    ({"host": "h", "remote": "[::1]:80"}, True), ({"host": "1.127.0.1"}, False),
    ({"host": "h", "local": "10.0.0.5:4444", "remote": "10.0.0.5:80"}, True),
    ({"host": "h", "local": "10.0.0.5:4444", "remote": "10.0.0.50:80"}, False),
    ({"host": "127.0.0.1", "proxy": "unknown"}, False),
    ({"host": "127.0.0.1", "proxy": "10.0.0.9:3128", "remote": "10.0.0.9:3128"}, False),
    ({"host": "h", "proxy": "127.0.0.1:3128", "remote": "127.0.0.1:3128"}, True), ({}, False),
])  # fmt: skip
def test_what_is_known_to_be_on_this_machine(row: dict[str, Any], is_local: bool) -> None:
    (server,) = of(row)
    assert server.is_local is is_local
    assert (server.name, server.is_proxy) == (
        row.get("proxy") or row.get("host", "h"),
        "proxy" in row,
    )


def test_servers_in_the_order_of_the_time_that_they_took() -> None:
    found = of(
        {"host": "a", "sent_ns": 0, "last_byte_ns": 10},
        {"host": "b", "sent_ns": 0, "last_byte_ns": 7},
        {"host": "b", "sent_ns": None, "connect_ns": 0, "last_byte_ns": 5},
        {"host": "c", "sent_ns": 0},
    )  # fmt: skip
    assert [(each.name, each.requests, each.ns) for each in found] == [
        ("b", 2, 12), ("a", 1, 10), ("c", 1, 0),
    ]  # fmt: skip


def test_an_address_to_which_only_connections_were_seen_may_be_a_proxy() -> None:
    connection = {"host": "p:1", "sent_ns": None}
    assert [each.is_proxy for each in of(connection)] == [None]
    through = {"host": "h", "proxy": "p:1"}
    assert [(each.name, each.is_proxy) for each in of(connection, through)] == [("p:1", True)]
    assert [each.is_proxy for each in of(connection, {"host": "p:1"})] == [False]


def test_servers_in_words() -> None:
    here, proxy = Server("127.0.0.1:8000", False, True, 1, 1), Server("p:3128", True, False, 1, 1)
    assert the_server(()) == "the server"
    assert the_server((here,)) == "the server on this machine (127.0.0.1:8000)"
    assert the_server((proxy,)) == "the proxy p:3128"
    unknown = Server("a:1", None, False, 1, 1)
    assert the_server((unknown,)) == "the server or proxy a:1"
    assert the_server((proxy, proxy)) == "the proxies p:3128, p:3128"
    four = (here, *[Server(name, False, False, 1, 1) for name in "bcd"])
    assert the_server(four) == "the servers 127.0.0.1:8000, b, c and 1 more"
