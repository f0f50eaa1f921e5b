"""Who is at a connection's ends, what was asked over it, and its samples."""

from __future__ import annotations

import ssl
from typing import Any

import polars as pl
import pytest

from cvmprof.probes import events
from cvmprof.probes.events import CALL, DAEMON_FUNCTIONS, DOWNLOAD, SOCKET_SAMPLE
from cvmprof.profiler.client.daemon_calls import daemon_calls
from cvmprof.profiler.wire.connections import endpoint, server_name
from cvmprof.profiler.wire.downloads import attempts, downloads, named_by_fetches, wire_requests
from cvmprof.profiler.wire.sockets import sockets

IPV4, IPV6 = 2, 10
A, B = "a1" * 20, "b2" * 20
PATH = f"/cvmfs/r.ch/data/{A[:2]}/{A[2:]}P"
PROXY = bytes([10, 0, 0, 7]).ljust(16, b"\0")
SERVER = bytes([10, 0, 0, 9]).ljust(16, b"\0")
DAEMONS = pl.DataFrame(
    {"pid": [200], "mount_id": [3]}, schema={"pid": pl.Int32, "mount_id": pl.Int32}
)
NOTHING_SAID = pl.DataFrame(schema={"mount_id": pl.Int32, "proxy": pl.String})


@pytest.mark.parametrize(
    ("family", "address", "spelt"),
    [
        (IPV4, SERVER, "10.0.0.9:80"),
        (IPV6, bytes(15) + b"\1", "[::1]:80"),
        (IPV6, bytes(10) + b"\xff\xff" + SERVER[:4], "10.0.0.9:80"),
    ],
)
def test_addresses_are_spelt_as_people_do(family: int, address: bytes, spelt: str) -> None:
    assert endpoint(family, address, 80) == spelt
    assert endpoint(family, address, 0) is None


def client_hello(name: str | None) -> bytes:
    """The first message of a handshake, as OpenSSL sends it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    sent, received = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(received, sent, server_hostname=name).do_handshake()
    return sent.read()


def test_the_name_in_a_handshake() -> None:
    hello = client_hello("cvmfs.example.org")
    assert server_name(hello) == "cvmfs.example.org"
    assert server_name(hello[:320]) == "cvmfs.example.org"
    assert server_name(client_hello(None)) is None
    for cut in range(0, len(hello), 7):
        assert server_name(hello[:cut]) in (
            None,
            "cvmfs.example.org"[: max(0, cut - 9)],
            *("cvmfs.example.org"[:n] for n in range(18)),
        )
    assert server_name(b"CONNECT cvmfs.example.org:443 HTTP/1.1\r\n\r\n" + bytes(60)) is None


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize("session", [b"", b"s" * 32])
def test_a_name_behind_other_extensions_whole_or_cut(session: bytes) -> None:
    """RFC 8446, 4.1.2 and RFC 6066, 3. Where nothing of the name is left there is none."""
    name = b"s1.example"
    server = len(name).to_bytes(2, "big") + name
    listed = (len(server) + 1).to_bytes(2, "big") + b"\0" + server
    extensions = extension(0xFF01, b"\0") + extension(23, b"") + extension(0, listed)
    before = b"\x16\3\1\0\0" + b"\1\0\0\0" + b"\3\3" + bytes(32)
    suites = b"\0\4\x13\1\x13\2" + b"\1\0" + len(extensions).to_bytes(2, "big")
    hello = before + bytes([len(session)]) + session + suites + extensions
    assert server_name(hello) == server_name(hello + extension(0, b"no name")) == "s1.example"
    for left in range(1, len(name)):
        assert server_name(hello[: left - len(name)]) == name[:left].decode()
    assert server_name(hello[: -len(name)]) is None
    assert server_name(hello.replace(extension(0, listed), extension(9, listed))) is None


def request(sent: int, text: bytes, socket: int = 1, **values: Any) -> dict[str, Any]:
    return {
        "sent_ns": sent,
        "request": text,
        "pid": 200,
        "tid": 9,
        "fd": 5,
        "socket": socket,
        "family": IPV4,
        "remote": SERVER,
        "remote_port": 80,
        "local": PROXY,
        "local_port": 4321,
        **values,
    }


def wire_of(make_raw: Any, *rows: dict[str, Any]) -> pl.DataFrame:
    return wire_requests(make_raw(DOWNLOAD, *rows), DAEMONS, NOTHING_SAID)


def test_a_proxy_is_known_by_the_form_of_the_request_or_by_the_address(make_raw: Any) -> None:
    through = {"remote": PROXY, "remote_port": 3128}
    wire = wire_of(
        make_raw,
        request(10, f"GET {PATH} HTTP/1.1\r\nHost: s1\r\n\r\n".encode()),
        request(20, f"GET http://s1{PATH} HTTP/1.1\r\nHost: s1\r\n\r\n".encode(), 2, **through),
        request(30, f"GET {PATH} HTTP/1.1\r\nHost: 10.0.0.9\r\n\r\n".encode(), 3),
        request(40, f"GET {PATH} HTTP/1.1\r\nHost: 10.0.0.9:80\r\n\r\n".encode(), 4, **through),
        request(
            50,
            b"CONNECT s1:443 HTTP/1.1\r\nHost: s1:443\r\n\r\n",
            5,
            **through,
            flags=events.DOWNLOAD_TLS | events.DOWNLOAD_TUNNEL,
        ),
        request(60, client_hello("s2")[:320], 6, flags=events.DOWNLOAD_TLS, remote_port=443),
        request(70, b"", 7, flags=events.DOWNLOAD_TLS, remote_port=443),
    )
    assert wire.select("host", "proxy", "encrypted", "url_path").rows() == [
        ("s1", None, False, PATH),
        ("s1", "10.0.0.7:3128", False, PATH),
        ("10.0.0.9", None, False, PATH),
        ("10.0.0.9:80", "10.0.0.7:3128", False, PATH),
        ("s1:443", "10.0.0.7:3128", True, None),
        ("s2", None, True, None),
        ("10.0.0.9:443", None, True, None),
    ]
    assert set(wire["local"]) == {"10.0.0.7:4321"}


def test_what_becomes_of_a_connection(make_raw: Any) -> None:
    """Announced, then used twice; one that failed; one still connecting; one with its number."""
    get = f"GET {PATH} HTTP/1.1\r\n".encode()
    wire = wire_of(
        make_raw,
        request(0, b"", 1, connect_ns=5, flags=events.DOWNLOAD_ANNOUNCED),
        request(0, b"", 1, connect_ns=5, flags=events.DOWNLOAD_ANNOUNCED | events.DOWNLOAD_KNOWN),
        request(10, get, 1, connect_ns=5, flags=events.DOWNLOAD_KNOWN),
        request(20, get, 1, connect_ns=5, sequence=1, closed_ns=29),
        request(0, b"", 2, connect_ns=30, closed_ns=36, state=events.TCP_STATES.index("close")),
        request(40, get, 3, fd=5),
        request(0, b"", 4, connect_ns=50),
    )
    names = ("began_ns", "connect_ns", "sent_ns", "closed_ns", "reused", "host")
    assert wire.select(names).rows() == [
        (10, 5, 10, None, False, ""),
        (20, 5, 20, 29, True, ""),
        (30, 30, None, 36, False, "10.0.0.9:80"),
        (40, None, 40, None, True, ""),
        (50, 50, None, None, False, "10.0.0.9:80"),
    ]
    ids = wire["connection_id"].to_list()
    assert ids[0] == ids[1] and len(set(ids)) == 4


def fetching(*rows: tuple[int, int | None, str]) -> pl.DataFrame:
    """Fetches: start, end, object."""
    schema = {"start_ns": pl.Int64, "end_ns": pl.Int64, "object_hash": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        fetch_id=pl.int_range(pl.len(), dtype=pl.Int32), pid=pl.lit(200, pl.Int32)
    )


def test_what_is_not_seen_is_named_only_where_one_object_was_being_fetched(make_raw: Any) -> None:
    encrypted = {"flags": events.DOWNLOAD_TLS, "connect_ns": 5}
    wire = wire_of(
        make_raw,
        request(0, b"", 9, connect_ns=12, closed_ns=14),
        request(15, b"", 1, **encrypted),
        request(25, b"", 1, **encrypted, sequence=1),
        request(45, b"", 1, **encrypted, sequence=2),
        request(55, b"", 1, **encrypted, sequence=3),
        request(75, b"", 1, **encrypted, sequence=4),
    )
    manifest = {"pid": 200, "tid": 2, "start_ns": 50, "end_ns": 60,
                "function": DAEMON_FUNCTIONS.index("DownloadManager::Fetch")}  # fmt: skip
    calls = daemon_calls(make_raw(CALL, manifest), DAEMONS)
    busy = fetching((10, 30, A), (20, 58, B), (70, None, B))
    named = named_by_fetches(wire, busy, calls)
    assert named["object_hash"].to_list() == [A, A, None, B, None, B]
    tried = attempts(named, busy)
    pairs = tried.sort("download_id").select("fetch_id", "download_id", "attempt").rows()
    assert pairs == [(0, 0, 1), (0, 1, 2), (1, 3, 1), (2, 5, 1)]
    queued = busy.select("fetch_id", queued_ns=pl.lit(None, pl.Int64))
    none = pl.DataFrame(schema={"pid": pl.Int32, "object_hash": pl.String, "end_ns": pl.Int64})
    table = downloads(named, tried, queued, none)
    assert table["sent_ns"].to_list() == [None, 15, 25, 45, 55, 75]
    assert table["attempt"].to_list() == [1, 2, 1, 1, 1, 1]


def test_samples_find_their_connection_by_the_socket(make_raw: Any) -> None:
    get = f"GET {PATH} HTTP/1.1\r\n".encode()
    wire = wire_of(
        make_raw,
        request(10, get, 7),
        request(20, get, 7, sequence=1),
        request(30, get, 8),
        request(40, get, 0, fd=6),
    )
    sampled = sockets(
        make_raw(
            SOCKET_SAMPLE,
            {"time_ns": 31, "socket": 8, "state": 1, "bytes_received": 5, "rtt_us": 20_000},
            {"time_ns": 12, "socket": 7, "state": 2, "retransmits": 3},
            {"time_ns": 13, "socket": 99, "state": 1},
            {"time_ns": 14, "socket": 0, "state": 1},
        ),
        wire,
    )
    ids = dict(wire.select("socket", "connection_id").rows())
    names = ("time_ns", "connection_id", "state", "remote", "bytes_received", "retransmits")
    assert sampled.select(names).rows() == [
        (12, ids[7], "syn_sent", "10.0.0.9:80", 0, 3),
        (31, ids[8], "established", "10.0.0.9:80", 5, 0),
    ]
    assert sampled["rtt_us"].to_list() == [0, 20_000]
