"""The demonstration: a model in a lab, traced cold and warm, told side by side.

Each step is a command in a process of its own: traces as root, everything else as the user who
called, so that nothing has more rights than it needs. After the traces root is given up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import CvmprofError
from ..profiler.finalise import recover_run
from ..profiler.session.identity import Identity, become, invoking_user
from ..reports.material import gather
from ..reports.numbers.statistics import compute
from ..reports.terminal.summary import render_side_by_side

_SELF = [sys.executable, "-m", "cvmprof"]


def run_demo(directory: Path, size_bytes: int, latency_s: float) -> None:
    """Builds, publishes, serves, mounts, traces a cold and a warm load, prints both, cleans up.

    Leaves ``cold.html``, ``warm.html`` and the two runs in ``directory``. Raises CvmprofError.
    """
    user = invoking_user()
    steps = _Steps(directory.absolute(), user)
    steps.prepare(size_bytes)
    try:
        latency = f"{latency_s * 1e3:.3f}ms"
        steps.cvmprof("lab", "serve", "--background", "--port", "0", "--latency", latency)
        steps.cvmprof("lab", "mount")
        steps.cvmprof("cold", str(steps.mountpoint))
        for name in ("cold", "warm"):
            steps.trace(name)
    finally:
        steps.cvmprof("lab", "unmount", "--stop", "--force")
    become(user)
    runs = [(name, compute(gather(recover_run(steps.run(name))))) for name in ("cold", "warm")]
    click.echo()
    width = shutil.get_terminal_size((110, 40)).columns
    click.echo(render_side_by_side(runs, width=width), nl=False)
    click.echo()
    click.echo("Open in a browser:")
    for name in ("cold", "warm"):
        click.echo(f"  {steps.run(name).with_suffix('.html')}")


class _Steps:
    """The commands of the demonstration, run in its directory."""

    def __init__(self, directory: Path, user: Identity) -> None:
        self._directory = directory
        self._user = user

    @property
    def mountpoint(self) -> Path:
        return self._directory / ".lab" / "mnt"

    def run(self, name: str) -> Path:
        """The run directory of one trace."""
        return self._directory / f"{name}.cvmprof"

    def prepare(self, size_bytes: int) -> None:
        """An own directory, without the runs of the last time, and the model published."""
        model = self._directory / "model"
        self._as_user(["mkdir", "-p", str(model)], cwd=Path("/"))
        old = [str(self.run(name)) for name in ("cold", "warm")]
        self._as_user(["rm", "-rf", "--", *old], cwd=Path("/"))
        self.cvmprof("lab", "unmount", "--stop", "--force")
        self.cvmprof("lab", "model", str(model), "--size", str(size_bytes))
        self.cvmprof("lab", "publish", str(model))

    def trace(self, name: str) -> None:
        """Traces one load of the model."""
        click.echo(f"tracing a {name} load")
        command = [*_SELF, "run", str(self.mountpoint / "model.onnx"), "--runs", "3"]
        self._check([*_SELF, "trace", "-o", str(self.run(name)), "--", *command])

    def cvmprof(self, *arguments: str) -> None:
        """One command of cvmprof, as the user."""
        self._as_user([*_SELF, *arguments])

    def _as_user(self, command: list[str], cwd: Path | None = None) -> None:
        if os.geteuid() != 0 or self._user.uid == 0:
            self._check(command, cwd)
            return
        self._check(
            command,
            cwd,
            user=self._user.uid,
            group=self._user.gid,
            extra_groups=self._user.groups,
            env=self._user.environment,
            umask=self._user.umask,
        )

    def _check(self, command: list[str], cwd: Path | None = None, **identity: Any) -> None:
        code = subprocess.call(command, cwd=cwd or self._directory, **identity)
        if code != 0:
            fact = f"a step of the demonstration failed: {' '.join(command[2:])}"
            raise CvmprofError(fact, "see what it printed above; mend that and run: make demo")
