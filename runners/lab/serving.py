"""Start and stop the lab's HTTP server."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ...errors import CvmprofError
from . import server
from .layout import Lab, make_directory, permissions_told
from .processes import Daemon, recall, remember
from .shaping import Shaping, write_orders

EVENT_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Serving:
    """A running server. ``url`` is the repository's, as a client is given it."""

    url: str
    port: int
    daemon: Daemon


@permissions_told()
def start(lab: Lab, port: int, shaping: Shaping) -> Serving:
    """Serve the lab's repositories on 127.0.0.1 in a process of its own; port 0 takes a free one.

    A server that runs already takes the new orders. Raises CvmprofError where it serves on another
    port, or where the port cannot be had.
    """
    write_orders(lab.orders, shaping)
    known = current(lab)
    if known is None:
        return _start_process(lab, port)
    if port not in (0, known.port):
        raise CvmprofError(
            f"this lab is already served on port {known.port}",
            "stop that server first, or use its port",
        )
    return known


@permissions_told()
def run(lab: Lab, port: int, shaping: Shaping) -> int:
    """Serve in this process until SIGTERM or SIGINT, and print the URL; returns the exit status.

    Raises CvmprofError where the lab is served already, or the port cannot be had.
    """
    if current(lab) is not None:
        raise CvmprofError(f"the lab {lab.root} is served already", "stop that server first")
    write_orders(lab.orders, shaping)
    make_directory(lab.srv)
    made = server.LabServer(lab.srv, port, lab.orders, lab.access_log)

    def on_ready(chosen: int) -> None:
        remember(_state_file(lab), Daemon.of(os.getpid()), port=chosen)
        print(_url(lab, chosen), flush=True)

    server.serve_until_signal(made, on_ready)
    _state_file(lab).unlink(missing_ok=True)
    return 0


def current(lab: Lab) -> Serving | None:
    """The lab's server, where it runs."""
    known = recall(_state_file(lab))
    if known is None or not known[0].alive():
        return None
    port = int(known[1]["port"])
    return Serving(_url(lab, port), port, known[0])


def stop(lab: Lab) -> None:
    """End the server; nothing happens where none runs."""
    serving = current(lab)
    if serving is not None:
        serving.daemon.end()
    _state_file(lab).unlink(missing_ok=True)


def settle(lab: Lab) -> None:
    """Wait until every request so far is answered and in the access log.

    Raises CvmprofError where requests stay unanswered: a stall that was ordered, say.
    """
    if not _await_event(lab, server.SETTLE_PATH):
        raise CvmprofError(
            "the lab's server still has unanswered requests", "give it other orders, or stop it"
        )


def await_stalled(lab: Lab) -> None:
    """Wait until the server holds a request back on order.

    Raises CvmprofError where none came.
    """
    if not _await_event(lab, server.STALLED_PATH):
        raise CvmprofError(
            "no request was stalled", "order a stall, and ask for an object that it matches"
        )


def _await_event(lab: Lab, path: str) -> bool:
    serving = current(lab)
    if serving is None:
        return True
    # Not urllib: the user's proxy settings have no business here.
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=EVENT_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _start_process(lab: Lab, port: int) -> Serving:
    make_directory(lab.logs)
    make_directory(lab.srv)
    with open(lab.logs / "server.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", server.__name__, *_arguments(lab, port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )
    assert process.stdout is not None
    with process.stdout:
        told = process.stdout.readline().decode()
    if not told.strip():
        process.wait()
        raise CvmprofError(
            f"the lab's server did not start on port {port}",
            f"see {lab.logs / 'server.log'}; is the port taken?",
        )
    daemon = Daemon.of(process.pid)
    remember(_state_file(lab), daemon, port=int(told))
    # It outlives this process; nobody here waits for it.
    process.returncode = 0
    return Serving(_url(lab, int(told)), int(told), daemon)


def _environment() -> dict[str, str]:
    """Ours, with the places where this process found its modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _arguments(lab: Lab, port: int) -> list[str]:
    return [str(lab.srv), str(port), str(lab.orders), str(lab.access_log)]


def _state_file(lab: Lab) -> Path:
    return lab.root / "server.json"


def _url(lab: Lab, port: int) -> str:
    return f"http://127.0.0.1:{port}/cvmfs/{lab.repository}"
