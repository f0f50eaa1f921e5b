"""The recorder's watchdog: a recorder that something hangs is ended by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from cvmprof.profiler.record import protocol

RECORDER = Path(__file__).with_name("recorder_process.py")
#: starts a program with the signal ignored and blocked
DEAF = """
import os, signal, sys
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def ignored(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("SigIgn:")[1].split()[0], 16)


def test_the_watchdog_works_whatever_was_inherited() -> None:
    here, there = protocol.socket_pair()
    recorder = subprocess.Popen(
        [sys.executable, "-c", DEAF, RECORDER, str(there.fileno()), "{}"],
        pass_fds=(there.fileno(),),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    there.close()
    try:
        while not ignored(recorder.pid) >> signal.SIGHUP - 1 & 1:  # it has set its signals
            assert recorder.poll() is None
        recorder.send_signal(signal.SIGALRM)
        assert recorder.wait(timeout=30) == -signal.SIGALRM
    finally:
        recorder.kill()
        recorder.wait()
        here.close()
