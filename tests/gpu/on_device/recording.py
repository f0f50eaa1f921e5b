"""Run a workload: untraced, recorded, or where BPF does not work by the injection library alone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from cvmprof import __version__
from cvmprof.errors import CvmprofError
from cvmprof.probes.gpu_library import LIBRARY
from cvmprof.profiler.run.directory import SPOOL_DIRECTORY
from cvmprof.profiler.session import launch, session

from .attributes import collect
from .site import Site, python

_WORKLOAD = Path(__file__).with_name("workload.py")


@dataclass(frozen=True)
class Done:
    """``measured`` by the workload itself; ``kept``: with which recorder, or "library alone"."""

    measured: dict[str, float]
    kept: str


@dataclass(frozen=True)
class Workload:
    """``words`` of workload.py behind the framework, and variables of its environment."""

    words: tuple[object, ...]
    framework: str
    variables: dict[str, str] = field(default_factory=dict[str, str])

    def command(self, to: Path) -> list[str]:
        """It writes what it measured to a file."""
        variables = (f"{name}={value}" for name, value in self.variables.items())
        words = map(str, (to, self.framework, *self.words))
        return ["/usr/bin/env", *variables, python(), str(_WORKLOAD), *words]


def untraced(site: Site, workload: Workload) -> dict[str, float]:
    """Run it as it is. Raises CvmprofError if it fails."""
    to = _measured_file(site)
    return _measured(to, subprocess.run(workload.command(to), check=False).returncode)


def recorded(site: Site, run: Path, gpu: str, workload: Workload) -> Done:
    """Record it, from source ``gpu``. Without BPF: cupti only, by the library alone.

    Raises CvmprofError if it fails, or cannot be recorded at all.
    """
    to = _measured_file(site)
    command = workload.command(to)
    options = session.TraceOptions(run, gpu=gpu, mount_counters=False)
    try:
        with _carried_bcc(site):
            result = session.record(command, options, __version__, preload=lambda: None)
    except CvmprofError:
        if gpu != "cupti":
            raise
        return Done(_measured(to, _by_library_alone(run, command)), "library alone")
    measured = _measured(to, os.waitstatus_to_exitcode(result.status))
    collect(site, run)
    lost = sum(row["count"] for row in result.losses)
    return Done(measured, result.trouble.fact if result.trouble else f"{lost} events lost")


def try_recorder(site: Site) -> None:
    """Record a command that does nothing. Raises CvmprofError with why it cannot be recorded."""
    with _carried_bcc(site):
        options = session.TraceOptions(site.run("nothing"), gpu="off", mount_counters=False)
        result = session.record(["/bin/true"], options, __version__, preload=lambda: None)
    if result.trouble:
        raise result.trouble


@contextmanager
def _carried_bcc(site: Site) -> Generator[None]:
    """Recorders are started with the bcc that was carried, if one was; or cannot be started."""
    pythons = launch.INTERPRETERS
    if not site.has_recorder:
        pythons = ("/nonexistent", "/nonexistent")
    elif site.carried is not None:
        pythons = (str(site.carried.recorder_python), pythons[0])
    with mock.patch.object(launch, "INTERPRETERS", pythons):
        yield


def _measured_file(site: Site) -> Path:
    to = site.work / "measured.json"
    to.unlink(missing_ok=True)
    return to


def _measured(to: Path, status: int) -> dict[str, float]:
    if status or not to.exists():
        raise CvmprofError(f"the workload ended with {status}", "its messages are above")
    measured: dict[str, float] = json.loads(to.read_text())
    return measured


def _by_library_alone(run: Path, command: list[str]) -> int:
    """The files of the injection library are kept, and nothing else is known."""
    directory = run / SPOOL_DIRECTORY / "gpu"
    directory.mkdir(parents=True)
    variables = {"CVMPROF_GPU_DIR": str(directory), "CUDA_INJECTION64_PATH": str(LIBRARY)}
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode
