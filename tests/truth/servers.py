"""Servers between a client and the lab's: a forward proxy, and one that speaks HTTPS."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOCALHOST = "127.0.0.1"


@dataclass(frozen=True)
class Answered:
    """A request that was answered: by whom (the client's port), what, and the bytes sent."""

    client_port: int
    target: str
    status: int
    bytes: int


@dataclass
class Log:
    """What a server has answered; ``refusals`` are so many requests that it yet answers 503."""

    answered: list[Answered] = field(default_factory=list[Answered])
    refusals: int = 0


class _Relay(BaseHTTPRequestHandler):
    """Gets what it is asked for from the lab's server, and passes it on."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    log: Log
    upstream: str  # host:port, for targets that do not name one

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the log is ours."""

    def do_GET(self) -> None:
        wanted = urlsplit(self.path)
        if self.log.refusals:
            self.log.refusals -= 1
            self._answer(503, b"")
            return
        upstream = http.client.HTTPConnection(wanted.netloc or self.upstream, timeout=30)
        upstream.request("GET", wanted.path)
        got = upstream.getresponse()
        self._answer(got.status, got.read())
        upstream.close()

    def _answer(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.wfile.write(head + body)
        sent = Answered(self.client_address[1], self.path, status, len(head) + len(body))
        self.log.answered.append(sent)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type[_Relay]) -> None:
        super().__init__((LOCALHOST, 0), handler)
        self.connections = list[socket.socket]()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def end(self) -> None:
        """Listens no more, and ends the connections that there are."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(upstream: str, context: ssl.SSLContext | None = None) -> Generator[tuple[int, Log]]:
    """A forward proxy, or with a context an HTTPS server, before ``upstream``: its port and log."""
    log = Log()
    handler = type("Relay", (_Relay,), {"log": log, "upstream": upstream})
    server = _Server(handler)
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield server.server_address[1], log
    finally:
        server.end()


def dead_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind((LOCALHOST, 0))
        return int(taken.getsockname()[1])


def certificate(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that signs itself, and the context of a server that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cvmprof lab")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(LOCALHOST))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    file, secret = directory / "server.crt", directory / "server.key"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, secret)
    return file, context
