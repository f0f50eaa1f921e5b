"""A mount that vanishes or hangs while it is traced: cvmprof does not, nor hides how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvmprof.profiler.session.helper import TIMEOUT_S
from cvmprof.runners.lab.lab import Lab, MountOptions, mount, publish, serve, stop

FILE_BYTES = 3_000_017
SELF = [sys.executable, "-m", "cvmprof"]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A repository with one file, mounted with the lab's client."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "model.bin").write_bytes(os.urandom(FILE_BYTES))
    lab = Lab(tmp_path / "lab")
    publish(lab, tmp_path / "source")
    serve(lab)
    try:
        yield mount(lab, options=MountOptions(client="lab"))
    finally:
        stop(lab, force=True)


def daemon_of(mountpoint: Path) -> int:
    """The client's process, as it says itself."""
    return int(os.getxattr(mountpoint, "user.pid"))


def traced(
    place: Path, script: str, *arguments: object
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Trace a shell script; how it ended, and when it had ended."""
    ended = place / "ended"
    os.mkfifo(ended)
    command = ["sh", "-c", script + '; code=$?; echo > "$0/ended"; exit $code', str(place)]
    with subprocess.Popen(
        [*SELF, "trace", "-o", "a.cvmprof", "--", *command, *map(str, arguments)],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        ended.read_text()
        ended_at = time.monotonic()
        out, errors = running.communicate(timeout=120)
    took = time.monotonic() - ended_at
    return subprocess.CompletedProcess(command, running.returncode, out, errors), took


def attribute_lines(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "journal.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "attributes"]


def test_a_mount_that_hangs_is_asked_once_and_given_up(mounted: Path, tmp_path: Path) -> None:
    script = 'wc -c < "$1"; kill -STOP $2; (exit 4)'
    daemon = daemon_of(mounted)
    try:
        done, took_s = traced(tmp_path, script, mounted / "model.bin", daemon)
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert (done.returncode, done.stdout) == (4, f"{FILE_BYTES}\n")
    assert done.stderr.splitlines() == ["cvmprof: run a.cvmprof", "cvmprof: page a.html"]
    reasons = [line["reason"] for line in attribute_lines(tmp_path / "a.cvmprof")]
    assert reasons == ["no answer within 2 s"]
    assert took_s < TIMEOUT_S + 10  # for the page, on a busy machine


def test_a_mount_that_vanished_leaves_a_whole_run(mounted: Path, tmp_path: Path) -> None:
    script = 'wc -c < "$1"; umount --lazy "$2"; kill -KILL $3; cat "$1"'
    done, _ = traced(tmp_path, script, mounted / "model.bin", mounted, daemon_of(mounted))
    assert (done.returncode, done.stdout) == (1, f"{FILE_BYTES}\n")
    assert done.stderr.splitlines()[1:] == ["cvmprof: run a.cvmprof", "cvmprof: page a.html"]
    summary = subprocess.run(
        [*SELF, "summary", "a.cvmprof"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "exit code 1" in summary.stdout
