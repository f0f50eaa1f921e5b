"""Starts and stops the lab's HTTP server."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ...errors import CvmprofError
from . import server
from .layout import Lab, make_directory, permissions_explained
from .processes import Daemon, recall, remember
from .shaping import Shaping, write_orders

EVENT_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Serving:
    """A running server. ``url`` is the repository's, as a client is given it."""

    url: str
    port: int
    daemon: Daemon


@permissions_explained()
def start(lab: Lab, port: int, shaping: Shaping) -> Serving:
    """Serve the lab's repositories on 127.0.0.1 in a process of its own; port 0 takes a free one.

    A server that runs already takes the new orders. Raises CvmprofError if it serves on another
    port, or if the port is not free.
    """
    write_orders(lab.orders, shaping)
    running = current(lab)
    if running is None:
        return _start_process(lab, port)
    if port not in (0, running.port):
        raise CvmprofError(
            f"this lab is already served on port {running.port}",
            "stop that server first, or use its port",
        )
    return running


@permissions_explained()
def run(lab: Lab, port: int, shaping: Shaping) -> int:
    """Serve in this process until SIGTERM or SIGINT, and print the URL; returns the exit status.

    Raises CvmprofError if the lab is served already, or the port is not free.
    """
    if current(lab) is not None:
        raise CvmprofError(f"the lab {lab.root} is served already", "stop that server first")
    write_orders(lab.orders, shaping)
    make_directory(lab.srv)
    lab_server = server.LabServer(lab.srv, port, lab.orders, lab.access_log)

    def on_ready(chosen: int) -> None:
        remember(_state_file(lab), Daemon.of(os.getpid()), port=chosen)
        print(_url(lab, chosen), flush=True)

    server.serve_until_signal(lab_server, on_ready)
    _state_file(lab).unlink(missing_ok=True)
    return 0


def current(lab: Lab) -> Serving | None:
    """The lab's server; None if it does not run."""
    state = recall(_state_file(lab))
    if state is None or not state[0].alive():
        return None
    port = int(state[1]["port"])
    return Serving(_url(lab, port), port, state[0])


def stop(lab: Lab) -> None:
    """End the server, if one runs."""
    serving = current(lab)
    if serving is not None:
        serving.daemon.end()
    _state_file(lab).unlink(missing_ok=True)


def settle(lab: Lab) -> None:
    """Wait until every request so far is answered and in the access log.

    Raises CvmprofError if requests stay unanswered, as with a stall that was ordered.
    """
    if not _await_event(lab, server.SETTLE_PATH):
        raise CvmprofError(
            "the lab's server still has unanswered requests", "give it other orders, or stop it"
        )


def await_stalled(lab: Lab) -> None:
    """Wait until the server stalls a request on order.

    Raises CvmprofError if no such request came.
    """
    if not _await_event(lab, server.STALLED_PATH):
        raise CvmprofError(
            "no request was stalled", "order a stall, then ask for an object that it matches"
        )


def _await_event(lab: Lab, path: str) -> bool:
    serving = current(lab)
    if serving is None:
        return True
    # Not urllib: it would follow the user's proxy settings.
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
        port_line = process.stdout.readline().decode()
    if not port_line.strip():
        process.wait()
        raise CvmprofError(
            f"the lab's server did not start on port {port}",
            f"see {lab.logs / 'server.log'}; is the port taken?",
        )
    daemon = Daemon.of(process.pid)
    remember(_state_file(lab), daemon, port=int(port_line))
    # It outlives this process: keep Popen from warning that nobody waited for it.
    process.returncode = 0
    return Serving(_url(lab, int(port_line)), int(port_line), daemon)


def _environment() -> dict[str, str]:
    """The environment of this process, with its module search path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _arguments(lab: Lab, port: int) -> list[str]:
    return [str(lab.srv), str(port), str(lab.orders), str(lab.access_log)]


def _state_file(lab: Lab) -> Path:
    return lab.root / "server.json"


def _url(lab: Lab, port: int) -> str:
    return f"http://127.0.0.1:{port}/cvmfs/{lab.repository}"
