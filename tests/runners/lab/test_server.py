"""The server does what it is ordered to, and its log says exactly what it did."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvmprof.errors import CvmprofError
from cvmprof.runners.lab.server import Access, LabServer, read_access_log
from cvmprof.runners.lab.shaping import Rule, Shaping, read_orders, write_orders

BODY = bytes(range(256)) * 2048
NAME = "/data/ab/cdef"


class Bench:
    """A server in this process, and a client with one connection."""

    def __init__(self, root: Path) -> None:
        self.orders = root / "orders.json"
        self.log = root / "access.jsonl"
        served = root / "srv"
        (served / "data/ab").mkdir(parents=True)
        (served / "data/ab/cdef").write_bytes(BODY)
        (served / "data/ab/other").write_bytes(b"other")
        (root / "secret").write_bytes(b"secret")
        self.server = LabServer(served, 0, self.orders, self.log)
        self.server.run_in_thread()
        self.connection = self.connect()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)

    def get(self, path: str = NAME) -> tuple[int, bytes]:
        self.connection.request("GET", path)
        response = self.connection.getresponse()
        return response.status, response.read()

    def order(self, *rules: Rule, latency_s: float = 0.0, rate: float | None = None) -> None:
        write_orders(self.orders, Shaping(latency_s, rate, rules))

    def logged(self) -> list[Access]:
        self.server.settle()
        return read_access_log(self.log)

    def close(self) -> None:
        self.connection.close()
        self.server.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def times(access: Access) -> tuple[int, int, int]:
    assert access.first_byte_ns is not None
    assert access.last_byte_ns is not None
    return access.request_ns, access.first_byte_ns, access.last_byte_ns


def test_the_log_has_what_was_sent(bench: Bench) -> None:
    before = time.monotonic_ns()
    assert bench.get() == (200, BODY)
    after = time.monotonic_ns()
    port = bench.connection.sock.getsockname()[1]
    assert bench.get("/data/ab/other") == (200, b"other")
    first, second = bench.logged()
    assert (first.path, first.status, first.bytes, first.fault) == (NAME, 200, len(BODY), None)
    assert before < times(first)[0] <= times(first)[1] <= times(first)[2]
    assert times(first)[1] < after
    # One connection, kept alive, and named by the client's port.
    assert first.connection == second.connection == port
    assert (second.path, second.bytes) == ("/data/ab/other", 5)


def test_latency_comes_before_the_first_byte(bench: Bench) -> None:
    bench.order(latency_s=0.05)
    start = time.monotonic_ns()
    bench.get()
    elapsed_ns = time.monotonic_ns() - start
    request_ns, first_byte_ns, _ = times(bench.logged()[0])
    assert first_byte_ns - request_ns >= 50_000_000
    assert elapsed_ns >= 50_000_000


def test_bandwidth_is_per_connection(bench: Bench) -> None:
    bench.order(rate=4 * len(BODY))
    status, body = bench.get()
    assert (status, body) == (200, BODY)
    _, first_byte_ns, last_byte_ns = times(bench.logged()[0])
    assert last_byte_ns - first_byte_ns >= 250_000_000


def test_two_connections_do_not_wait_for_each_other(bench: Bench) -> None:
    bench.order(latency_s=0.2)
    other = bench.connect()
    other.request("GET", NAME)
    bench.get()
    other.getresponse().read()
    other.close()
    first, second = bench.logged()
    assert first.connection != second.connection
    assert abs(first.request_ns - second.request_ns) < 200_000_000


def test_errors_for_matching_paths(bench: Bench) -> None:
    bench.order(Rule("status", path="cdef$", status=502))
    assert bench.get() == (502, b"")
    assert bench.get("/data/ab/other") == (200, b"other")
    logged = bench.logged()
    assert [entry.status for entry in logged] == [502, 200]
    assert [entry.fault for entry in logged] == ["status", None]


def test_the_nth_object_only(bench: Bench) -> None:
    bench.order(Rule("status", skip=1, times=1))
    assert [bench.get()[0] for _ in range(3)] == [200, 503, 200]


def test_corruption_flips_one_byte(bench: Bench) -> None:
    bench.order(Rule("corrupt"))
    _, body = bench.get()
    assert len(body) == len(BODY)
    assert sum(ours != theirs for ours, theirs in zip(BODY, body, strict=True)) == 1


def test_delay_of_one_object(bench: Bench) -> None:
    bench.order(Rule("delay", path="other", delay_s=0.05))
    bench.get()
    bench.get("/data/ab/other")
    quick, slow = (times(entry)[1] - times(entry)[0] for entry in bench.logged())
    assert slow >= 50_000_000 > quick


def test_truncation_breaks_the_connection(bench: Bench) -> None:
    bench.order(Rule("truncate"))
    bench.connection.request("GET", NAME)
    with pytest.raises(http.client.IncompleteRead):
        bench.connection.getresponse().read()
    assert bench.logged()[0].bytes == len(BODY) // 2


def test_a_body_that_freezes_stays_half_until_the_client_leaves(bench: Bench) -> None:
    bench.order(Rule("freeze"))
    bench.connection.request("GET", NAME)
    half = bench.connection.getresponse().read(len(BODY) // 2)
    assert len(half) == len(BODY) // 2
    bench.server.await_stalled()
    assert read_access_log(bench.log) == []
    bench.connection.close()
    entry = bench.logged()[0]
    assert (entry.fault, entry.status, entry.bytes) == ("freeze", 200, len(BODY) // 2)


def test_drop_answers_nothing(bench: Bench) -> None:
    bench.order(Rule("drop"))
    bench.connection.request("GET", NAME)
    with pytest.raises(http.client.RemoteDisconnected):
        bench.connection.getresponse()
    entry = bench.logged()[0]
    assert (entry.status, entry.first_byte_ns, entry.last_byte_ns) == (0, None, None)


def test_a_stall_lasts_until_the_client_leaves(bench: Bench) -> None:
    bench.order(Rule("stall"))
    bench.connection.request("GET", NAME)
    bench.server.await_stalled()
    assert read_access_log(bench.log) == []
    bench.connection.close()
    entry = bench.logged()[0]
    assert (entry.fault, entry.status, entry.bytes) == ("stall", 0, 0)
    assert entry.first_byte_ns is None


def test_stopping_ends_a_stall(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    made.order(Rule("stall"))
    made.connection.request("GET", NAME)
    made.server.await_stalled()
    made.close()
    assert [entry.fault for entry in read_access_log(made.log)] == ["stall"]


def test_new_orders_count_anew(bench: Bench) -> None:
    bench.order(Rule("status", times=1))
    assert [bench.get()[0] for _ in range(2)] == [503, 200]
    bench.order(Rule("status", times=1))
    assert [bench.get()[0] for _ in range(2)] == [503, 200]


def test_a_body_that_the_client_does_not_take_is_counted(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "srv/large").write_bytes(bytes(64 << 20))
    with socket.create_connection(("127.0.0.1", bench.server.port)) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(16) != b""
    entry = bench.logged()[0]
    assert entry.path == "/large"
    assert entry.bytes < 64 << 20
    assert entry.last_byte_ns is None


@pytest.mark.parametrize("path", ["/absent", "/../secret", "/data/..%2f..%2f../secret", "/data"])
def test_nothing_beside_the_files(bench: Bench, path: str) -> None:
    assert bench.get(path) == (404, b"")
    assert bench.logged()[0].status == 404


def test_head_sends_no_body(bench: Bench) -> None:
    bench.connection.request("HEAD", NAME)
    response = bench.connection.getresponse()
    assert response.getheader("Content-Length") == str(len(BODY))
    assert response.read() == b""
    assert bench.logged()[0].bytes == 0


def test_many_connections_are_all_logged(bench: Bench) -> None:
    def load() -> None:
        own = bench.connect()
        for _ in range(25):
            own.request("GET", "/data/ab/other")
            own.getresponse().read()
        own.close()

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logged = bench.logged()
    assert len(logged) == 200
    assert len({entry.connection for entry in logged}) == 8


def test_a_taken_port_is_reported(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(CvmprofError, match=f"127.0.0.1:{bench.server.port}"):
        LabServer(tmp_path, bench.server.port, bench.orders, bench.log)


def test_orders_survive_their_file(tmp_path: Path) -> None:
    shaping = Shaping(0.02, 1e6, (Rule("stall", path="P$", skip=3, times=1), Rule("corrupt")))
    write_orders(tmp_path / "orders.json", shaping)
    assert read_orders(tmp_path / "orders.json") == shaping


def test_damaged_orders_are_reported(tmp_path: Path) -> None:
    (tmp_path / "orders.json").write_text('{"latency_s": ')
    with pytest.raises(CvmprofError, match="does not hold orders"):
        read_orders(tmp_path / "orders.json")


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(CvmprofError, match="latency below zero"):
        Shaping(latency_s=-1)
    with pytest.raises(CvmprofError, match="regular expression"):
        Rule("stall", path="(")
    with pytest.raises(CvmprofError, match="not a status"):
        Rule("status", status=200)
    with pytest.raises(CvmprofError, match="not a fault"):
        Rule("explode")  # type: ignore[arg-type]
