"""The server as a process: started, found again, ended."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cvmprof.errors import CvmprofError, NotPermitted
from cvmprof.runners.lab import serving
from cvmprof.runners.lab.lab import Lab, Shaping, accesses, serve, stop
from cvmprof.runners.lab.processes import Daemon, recall, remember
from cvmprof.runners.lab.shaping import read_orders

IN_FOREGROUND = """
import sys
from pathlib import Path
from cvmprof.runners.lab.lab import Lab, serve_here
sys.exit(serve_here(Lab(Path(sys.argv[1])), 0))
"""


def answers(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/absent")
    status = connection.getresponse().status
    connection.close()
    return status


def test_it_outlives_the_call_and_is_found_again(lab: Lab) -> None:
    first = serve(lab)
    assert answers(first.port) == 404
    assert serve(lab, shaping=Shaping(latency_s=0.5)) == first
    assert read_orders(lab.orders) == Shaping(latency_s=0.5)
    assert [entry.path for entry in accesses(lab)] == ["/absent"]


def test_stop_ends_it(lab: Lab) -> None:
    daemon = serve(lab).daemon
    assert daemon.alive()
    stop(lab)
    assert not daemon.alive()
    assert serving.current(lab) is None
    stop(lab)


def test_another_port_is_refused(lab: Lab) -> None:
    taken = serve(lab).port
    with pytest.raises(CvmprofError, match=f"already served on port {taken}"):
        serve(lab, taken + 1)


def test_a_taken_port_is_reported(lab: Lab, tmp_path: Path) -> None:
    port = serve(lab).port
    with pytest.raises(CvmprofError, match=f"did not start on port {port}"):
        serve(Lab(tmp_path / "other"), port)


def test_in_the_foreground_it_is_found_too(lab: Lab) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", IN_FOREGROUND, str(lab.root)],
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    with process.stdout:
        url = process.stdout.readline().decode().strip()
    running = serving.current(lab)
    assert running is not None
    assert (running.url, running.daemon.pid) == (url, process.pid)
    assert answers(running.port) == 404
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert serving.current(lab) is None


def test_a_pid_given_to_another_process_is_not_ours(tmp_path: Path) -> None:
    me = Daemon.of(os.getpid())
    another = Daemon(me.pid, me.start_ticks - 1)
    assert me.alive()
    assert not another.alive()
    # Does not end this process.
    another.end()
    remember(tmp_path / "state", another, port=1)
    assert recall(tmp_path / "state") == (another, {"port": 1})
    (tmp_path / "state").write_text("{")
    assert recall(tmp_path / "state") is None


def test_a_process_that_resists_is_killed() -> None:
    ignoring = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
    daemon = Daemon.of(process.pid)
    daemon.end(timeout_s=0.1)
    assert not daemon.alive()
    process.wait()


def test_a_lab_of_somebody_else_is_reported(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(lab.orders))

    monkeypatch.setattr(serving, "write_orders", refuse)
    with pytest.raises(NotPermitted, match=r"may not write .*orders\.json"):
        serve(lab)
