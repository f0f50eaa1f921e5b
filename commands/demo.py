"""``cvmprof demo``: a model in a lab, traced cold and warm, compared side by side.

Each step is a command in a process of its own: root traces, the invoking user does everything else,
so nothing has more rights than it needs. After the traces this process gives root up too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import CvmprofError
from .units import size_bytes, time_s

if TYPE_CHECKING:
    from ..profiler.session.identity import Identity

_CVMPROF = [sys.executable, "-m", "cvmprof"]
_NAMES = ("cold", "warm")


@click.command()
@click.option(
    "--size",
    type=size_bytes,
    metavar="SIZE",
    default="256MB",
    show_default=True,
    help="The size of the model.",
)
@click.option(
    "--latency",
    type=time_s,
    metavar="TIME",
    default="20ms",
    show_default=True,
    help="The server's wait before each object's first byte.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("cvmprof-demo"),
    show_default=True,
    help="Where the lab and the runs go.",
)
def demo(size: int, latency: float, directory: Path) -> None:
    """Trace a cold and a warm load of a model in a lab. Writes two pages."""
    run_demo(directory, size, latency)


def run_demo(directory: Path, model_bytes: int, latency_s: float) -> None:
    """Build, publish, serve, mount, trace a cold and a warm load, print both, clean up.

    Leaves ``cold.html``, ``warm.html`` and the two runs in ``directory``. Raises CvmprofError.
    """
    from ..profiler.session.identity import become, invoking_user

    user = invoking_user()
    steps = _Steps(directory.absolute(), user)
    steps.prepare(model_bytes)
    try:
        latency = f"{latency_s * 1e3:.3f}ms"
        steps.cvmprof("lab", "serve", "--background", "--port", "0", "--latency", latency)
        steps.cvmprof("lab", "mount")
        steps.cvmprof("cold", str(steps.mountpoint))
        for name in _NAMES:
            steps.trace(name)
    finally:
        steps.cvmprof("lab", "unmount", "--stop", "--force")
    become(user)
    _print_results([steps.run(name) for name in _NAMES])


def _print_results(runs: list[Path]) -> None:
    from ..profiler.finalise import recover_run
    from ..reports.material import gather
    from ..reports.numbers.statistics import compute
    from ..reports.terminal.summary import render_side_by_side

    statistics = [(run.stem, compute(gather(recover_run(run)))) for run in runs]
    width = shutil.get_terminal_size((110, 40)).columns
    click.echo(f"\n{render_side_by_side(statistics, width=width)}\nOpen in a browser:")
    for run in runs:
        click.echo(f"  {run.with_suffix('.html')}")


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

    def prepare(self, model_bytes: int) -> None:
        """Make the directory, remove the runs of the last time, publish the model."""
        model = self._directory / "model"
        self._as_user(["mkdir", "-p", str(model)], cwd=Path("/"))
        old = [str(self.run(name)) for name in _NAMES]
        self._as_user(["rm", "-rf", "--", *old], cwd=Path("/"))
        self.cvmprof("lab", "unmount", "--stop", "--force")
        self.cvmprof("lab", "model", str(model), "--size", str(model_bytes))
        self.cvmprof("lab", "publish", str(model))

    def trace(self, name: str) -> None:
        """Trace one load of the model."""
        click.echo(f"tracing a {name} load")
        load = [*_CVMPROF, "run", str(self.mountpoint / "model.onnx"), "--runs", "3"]
        command = [*_CVMPROF, "trace", "-o", str(self.run(name)), "--", *load]
        _require(subprocess.call(command, cwd=self._directory), command)

    def cvmprof(self, *arguments: str) -> None:
        """Run one command of cvmprof as the user."""
        self._as_user([*_CVMPROF, *arguments])

    def _as_user(self, command: list[str], cwd: Path | None = None) -> None:
        user = self._user
        drops_root = os.geteuid() == 0 and user.uid != 0
        code = subprocess.call(
            command,
            cwd=cwd or self._directory,
            user=user.uid if drops_root else None,
            group=user.gid if drops_root else None,
            extra_groups=user.groups if drops_root else None,
            env=user.environment if drops_root else None,
            umask=user.umask if drops_root else -1,
        )
        _require(code, command)


def _require(code: int, command: list[str]) -> None:
    if code != 0:
        fact = f"a step of the demonstration failed: {' '.join(command[2:])}"
        raise CvmprofError(fact, "see what it printed above; fix that and run: make demo")
