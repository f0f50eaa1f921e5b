"""The lab's HTTP server: HTTP/1.1, keep-alive, a thread per connection, slow and faulty to order.

Its access log is ground truth. One JSON line per request, written when the request is over:

``connection``      the client's port: one connection has one
``path``            the URL's path
``status``          HTTP status; 0 if no answer was begun
``bytes``           bytes of the body that were sent
``request_ns``      after the request's last header line was read
``first_byte_ns``   just before the status line was sent; null if it never was
``last_byte_ns``    just before the body's last piece was given to the kernel; null if it never was
``fault``           the fault that was ordered for it (an action of ``shaping.Rule``); else null

Times are nanoseconds of CLOCK_MONOTONIC. ``GET /.lab/settle`` answers once every earlier request is
over and logged, ``GET /.lab/stalled`` once a request is stalled on order; neither is logged.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import BinaryIO

from ...errors import CvmprofError
from .layout import make_directory
from .shaping import Rule, Shaping, read_orders

PACED_BLOCK_BYTES = 64 << 10
LAST_PIECE_BYTES = 4 << 10
SETTLE_PATH = "/.lab/settle"
STALLED_PATH = "/.lab/stalled"


@dataclass(frozen=True)
class Access:
    """One line of the access log; the module's docstring has the columns."""

    connection: int
    path: str
    status: int
    bytes: int
    request_ns: int
    first_byte_ns: int | None
    last_byte_ns: int | None
    fault: str | None


def read_access_log(file: Path) -> list[Access]:
    """Every request so far, in the order in which they ended."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Access(**json.loads(line)) for line in lines]


class Orders:
    """The current orders, read again when their file changes, with a count of matches per rule."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._matches: list[int] = []
        self.shaping = Shaping()

    def decide(self, path: str) -> tuple[Shaping, tuple[Rule, ...]]:
        """The current shaping, and the rules that apply to this request."""
        with self._lock:
            self._refresh()
            return self.shaping, tuple(
                rule
                for index, rule in enumerate(self.shaping.rules)
                if self._hits(index, rule, path)
            )

    def _refresh(self) -> None:
        try:
            status = self._file.stat()
            identity = (status.st_ino, status.st_mtime_ns)
        except FileNotFoundError:
            identity = (0, 0)
        if identity != self._identity:
            self._identity = identity
            self.shaping = read_orders(self._file)
            self._matches = [0] * len(self.shaping.rules)

    def _hits(self, index: int, rule: Rule, path: str) -> bool:
        if not re.search(rule.path, path):
            return False
        count = self._matches[index]
        self._matches[index] += 1
        return count >= rule.skip and (rule.times is None or count < rule.skip + rule.times)


class LabServer(ThreadingMixIn, TCPServer):
    """Serves ``document_root`` on 127.0.0.1. ``port`` 0 takes a free one; ``self.port`` says which.

    Raises CvmprofError if the port is taken.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, document_root: Path, port: int, orders: Path, access_log: Path) -> None:
        self.document_root = document_root
        self.orders = Orders(orders)
        self.stopping = threading.Event()
        make_directory(access_log.parent)
        self._log = os.open(access_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._in_flight = 0
        self._stalled = 0
        self._idle = threading.Condition()
        self._wake_read, self._wake_write = os.pipe()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            os.close(self._log)
            raise CvmprofError(
                f"cannot serve on 127.0.0.1:{port}: {error.strerror}",
                "choose another port, or 0 for any that is free",
            ) from error
        self.port: int = self.server_address[1]

    @property
    def wake_fd(self) -> int:
        """Becomes readable when the server stops, which ends every ordered wait."""
        return self._wake_read

    @contextmanager
    def request_in_flight(self) -> Generator[None]:
        with self._idle:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._idle:
                self._in_flight -= 1
                self._idle.notify_all()

    @contextmanager
    def request_stalled(self) -> Generator[None]:
        with self._idle:
            self._stalled += 1
            self._idle.notify_all()
        try:
            yield
        finally:
            with self._idle:
                self._stalled -= 1

    def await_stalled(self) -> None:
        """Wait until a request is stalled; returns early when the server stops."""
        with self._idle:
            self._idle.wait_for(lambda: self._stalled > 0 or self.stopping.is_set())

    def settle(self) -> None:
        """Wait until no request is in flight; returns early when the server stops."""
        with self._idle:
            self._idle.wait_for(lambda: self._in_flight == 0 or self.stopping.is_set())

    def log_access(self, access: Access) -> None:
        os.write(self._log, json.dumps(asdict(access)).encode() + b"\n")

    def run_in_thread(self) -> threading.Thread:
        """Serve from a thread of this process; ``stop`` ends it."""
        thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        thread.start()
        return thread

    def stop(self) -> None:
        """Stop serving, end the stalled requests, close the log after the last of them."""
        self.stopping.set()
        os.write(self._wake_write, b"x")
        with self._idle:
            self._idle.notify_all()
        self.shutdown()
        self.server_close()
        with self._idle:
            self._idle.wait_for(lambda: self._in_flight == 0, timeout=5)
        os.close(self._log)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that went away; print anything else to stderr."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "cvmprof-lab"
    sys_version = ""
    wbufsize = 0
    access: Access
    last_piece_ns = 0
    disable_nagle_algorithm = True

    @property
    def lab(self) -> LabServer:
        """The server that accepted the connection."""
        assert isinstance(self.server, LabServer)
        return self.server

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing here: the access log is our own."""

    def do_GET(self) -> None:
        if self.path in (SETTLE_PATH, STALLED_PATH):
            await_event = self.lab.settle if self.path == SETTLE_PATH else self.lab.await_stalled
            await_event()
            self._send_head(200, 0)
            return
        with self.lab.request_in_flight():
            self._answer()

    do_HEAD = do_GET

    def _answer(self) -> None:
        self.access = Access(self.client_address[1], self.path, 0, 0, _now(), None, None, None)
        self.last_piece_ns = 0
        try:
            shaping, rules = self.lab.orders.decide(self.path)
            self._answer_shaped(shaping, {rule.action: rule for rule in rules})
        except ConnectionError:
            self.close_connection = True
        finally:
            self.lab.log_access(self.access)

    def _answer_shaped(self, shaping: Shaping, rules: dict[str, Rule]) -> None:
        self.access = replace(self.access, fault=next(iter(rules), None))
        if "stall" in rules or "drop" in rules:
            self.close_connection = True
            if "stall" in rules:
                with self.lab.request_stalled():
                    self._wait(None)
            return
        delay_s = shaping.latency_s + (rules["delay"].delay_s if "delay" in rules else 0.0)
        if delay_s and not self._wait(delay_s):
            self.close_connection = True
            return
        if "status" in rules:
            self._begin(rules["status"].status, 0)
            self._end(0)
            return
        self._answer_file(shaping, rules)

    def _wait(self, seconds: float | None) -> bool:
        """Wait; False if the client leaves or the server stops. None: wait for one of these."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([self.connection, self.lab.wake_fd], [], [], left)
            if not readable:
                return True
            if self.lab.wake_fd in readable or not self.connection.recv(1, socket.MSG_PEEK):
                return False
            # A pipelined request waits its turn, so stop watching the connection.
            if seconds is not None and deadline is not None:
                self.lab.stopping.wait(max(0.0, deadline - time.monotonic()))
                return True
            self.lab.stopping.wait()

    def _answer_file(self, shaping: Shaping, rules: dict[str, Rule]) -> None:
        file = self._open_file()
        if file is None:
            self._begin(404, 0)
            self._end(0)
            return
        with file:
            size_bytes = os.fstat(file.fileno()).st_size
            self._begin(200, size_bytes)
            if self.command == "HEAD":
                self._end(0)
                return
            breaks_off = not {"truncate", "freeze"}.isdisjoint(rules)
            limit = size_bytes // 2 if breaks_off else size_bytes
            self._send_body(file, limit, shaping.bandwidth_bytes_s, "corrupt" in rules)
            self.close_connection = self.close_connection or breaks_off
        if "freeze" in rules:
            with self.lab.request_stalled():
                self._wait(None)

    def _open_file(self) -> BinaryIO | None:
        """The file that the path names below the document root, or None."""
        root = self.lab.document_root.resolve()
        path = (root / self.path.split("?", 1)[0].lstrip("/")).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            return None
        try:
            return open(path, "rb")
        except OSError:
            return None

    def _begin(self, status: int, length: int) -> None:
        self.access = replace(self.access, status=status, first_byte_ns=_now())
        self._send_head(status, length)

    def _send_head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()

    def _end(self, sent: int) -> None:
        last_ns = self.last_piece_ns or _now()
        self.access = replace(self.access, bytes=sent, last_byte_ns=last_ns)

    def _send_body(
        self, file: BinaryIO, limit: int, bandwidth_bytes_s: float | None, corrupt: bool
    ) -> None:
        if bandwidth_bytes_s is None and not corrupt:
            sent = self._send_whole(file, limit)
        else:
            sent = self._send_blocks(file, limit, bandwidth_bytes_s, corrupt)
        self._end(sent)

    def _send_whole(self, file: BinaryIO, limit: int) -> int:
        before = max(0, limit - LAST_PIECE_BYTES)
        try:
            sent = self.connection.sendfile(file, 0, before) if before else 0
            self.last_piece_ns = _now()
            return sent + (self.connection.sendfile(file, before, limit - before) if limit else 0)
        except ConnectionError:
            # sendfile leaves the file's position at what the kernel took.
            self.access = replace(self.access, bytes=file.tell())
            raise

    def _send_blocks(
        self, file: BinaryIO, limit: int, bandwidth_bytes_s: float | None, corrupt: bool
    ) -> int:
        start, sent = time.monotonic(), 0
        while sent < limit:
            block = bytearray(file.read(min(PACED_BLOCK_BYTES, limit - sent)))
            if corrupt and sent + len(block) == limit:
                block[-1] ^= 0x01
            if bandwidth_bytes_s is not None:
                due = start + (sent + len(block)) / bandwidth_bytes_s
                self.lab.stopping.wait(max(0.0, due - time.monotonic()))
            self.last_piece_ns = _now()
            self.connection.sendall(block)
            sent += len(block)
            self.access = replace(self.access, bytes=sent)
        return sent


def _now() -> int:
    return time.monotonic_ns()


def serve_until_signal(server: LabServer, on_ready: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT; call ``on_ready`` with the port once it listens."""
    endings = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    try:
        server.run_in_thread()
        on_ready(server.port)
        signal.sigwait(endings)
        server.stop()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(arguments: list[str]) -> int:
    """``server ROOT PORT ORDERS LOG``: serve until a signal; print the port once it listens."""
    root, port, orders, log = arguments
    try:
        server = LabServer(Path(root), int(port), Path(orders), Path(log))
    except CvmprofError as error:
        print(f"{error.fact}\n{error.help_text}", file=sys.stderr)
        return error.exit_code
    serve_until_signal(server, lambda chosen: print(chosen, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
