"""The demonstration under sudo: root traces, the user does everything else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

USER = 65534
#: notes the steps instead of running them, and who reads the runs
NOTING = """
import json, os, subprocess, sys
from pathlib import Path
from cvmprof.commands import demo
from cvmprof.profiler import finalise

steps = []

def call(command, cwd=None, user=None, **_):
    steps.append([" ".join(command), os.geteuid() if user is None else user])
    return 0

def read(run):
    steps.append([f"read {run.name}", os.geteuid()])
    print(json.dumps(steps))
    sys.exit()

demo.subprocess.call = call
finalise.recover_run = read
demo.run_demo(Path(sys.argv[1]), 1000, 0.01)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="sudo starts it as root")
def test_only_the_traces_are_roots(tmp_path: Path) -> None:
    old = tmp_path / "cold.cvmprof" / "meta.json"
    old.parent.mkdir()
    old.touch()
    environment = {**os.environ, "SUDO_UID": str(USER), "SUDO_GID": str(USER),
                   "SUDO_COMMAND": "/usr/bin/cvmprof demo"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", NOTING, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    noted = json.loads(done.stdout.splitlines()[-1])
    steps = [(str(command), int(user)) for command, user in noted]
    as_root = [command for command, user in steps if user == 0]
    assert len(as_root) == 2
    assert all(" -m cvmprof trace " in command for command in as_root)
    assert {user for _, user in steps} == {0, USER}
    assert steps[-1] == ("read cold.cvmprof", USER)
    assert f"rm -rf -- {tmp_path}/cold.cvmprof {tmp_path}/warm.cvmprof" in dict(steps)
    assert old.exists()
