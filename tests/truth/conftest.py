"""Real probes on real workloads over a lab whose server logs what it served.

Where the real cvmfs2 is in PATH the lab mounts with it, and the same tests hold for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import random
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import cvmprof
from cvmprof.profiler.attribution.command_causes import command_causes
from cvmprof.profiler.attribution.unwaited import in_flight
from cvmprof.profiler.run.opened import Run
from cvmprof.runners.lab.cold import cold
from cvmprof.runners.lab.lab import (
    Access,
    Cutting,
    Lab,
    Shaping,
    accesses,
    mount,
    publish,
    serve,
    stop,
)
from cvmprof.runners.model import build_model

CHUNK_BYTES = 1 << 20
MODEL_BYTES = 16 * CHUNK_BYTES + 1009  # 17 chunks
TWIN_BYTES = 3 * CHUNK_BYTES
LATENCY_S = 0.01
MODEL_NAME = "onnx"

READ_ALL = """
import os, sys
for path in sys.argv[2:]:
    descriptor = os.open(path, os.O_RDONLY)
    while os.read(descriptor, int(sys.argv[1])):
        pass
    os.close(descriptor)
"""

#: children that begin together, at the closing of a pipe
READ_AT_ONCE = """
import os, sys
hold, gate = os.pipe()
for path in sys.argv[1:]:
    if not os.fork():
        os.close(gate)
        os.read(hold, 1)
        descriptor = os.open(path, os.O_RDONLY)
        while os.read(descriptor, 65536):
            pass
        os._exit(0)
os.close(gate)
for path in sys.argv[1:]:
    assert os.wait()[1] == 0
"""


@dataclass(frozen=True)
class Truth:
    """A mounted lab: where, and what its server has served since the cache was emptied."""

    lab: Lab
    mountpoint: Path
    directory: Path

    def cool(self) -> int:
        """Empties all caches; the number of accesses so far, to be given to `served`."""
        cold([self.mountpoint])
        return len(accesses(self.lab))

    def served(self, since: int) -> list[Access]:
        """The data objects served since then, in order."""
        return [access for access in accesses(self.lab)[since:] if "/data/" in access.path]

    def served_hashes(self, since: int) -> list[str]:
        """Their hashes, without suffix."""
        names = (access.path.split("/data/")[1] for access in self.served(since))
        return [name.replace("/", "")[:40] for name in names]

    def path(self, name: str) -> Path:
        """A published file, as the mount shows it."""
        return self.mountpoint / name


@contextlib.contextmanager
def served_lab(
    root: Path,
    source: Path | dict[str, bytes],
    latency_s: float = 0.0,
    *,
    name: str = "",
    chunk_bytes: int = CHUNK_BYTES,
) -> Generator[Lab]:
    """A lab below ``root`` that serves a directory, or files by name, in chunks.

    Its server and its mounts are stopped at the end. ``name``: of the repository.
    """
    if isinstance(source, dict):
        files, source = source, root / "source"
        source.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (source / file).write_bytes(data)
    lab = Lab(root / "lab", name) if name else Lab(root / "lab")
    publish(lab, source, Cutting(chunk_bytes, 2 * chunk_bytes))
    serve(lab, shaping=Shaping(latency_s=latency_s))
    try:
        yield lab
    finally:
        stop(lab, force=True)


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    """One lab for all: publishing and mounting once."""
    root = tmp_path_factory.mktemp("truth")
    seeded = random.Random(20261122)
    (root / "source").mkdir()
    twin = seeded.randbytes(TWIN_BYTES)
    model = seeded.randbytes(MODEL_BYTES)
    build_model(root / "source" / MODEL_NAME, 48_000_000)
    files = {"model.bin": model, "twin-a.bin": twin, "twin-b.bin": twin}
    with served_lab(root, files, LATENCY_S) as lab:
        yield Truth(lab, mount(lab), root)


def open_run(path: Path) -> Run:
    """Opens a run, of which the command's wall time and each process's are tiled."""
    run = cvmprof.open_run(path)
    segments = run.tables["segments"]
    tiles = command_causes(segments, in_flight(run.tables))
    assert tiles["start_ns"][1:].to_list() == tiles["end_ns"][:-1].to_list()
    assert (tiles["end_ns"] > tiles["start_ns"]).all()
    lasted = segments.select(pl.col("end_ns").max() - pl.col("start_ns").min()).item() or 0
    assert tiles.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item() == lasted
    return run


Trace = Callable[..., Run]


def traced(where: Path, program: str, *arguments: object, options: tuple[str, ...] = ()) -> Run:
    """Traces a Python program (its text, then its arguments) and opens the run."""
    command = [sys.executable, "-I", "-c", program, *map(str, arguments)]
    return traced_command(where, command, options=options)


def traced_command(where: Path, command: list[str], options: tuple[str, ...] = ()) -> Run:
    """Traces a command and opens the run."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "cvmprof",
            "trace",
            "--no-report",
            *options,
            "-o",
            str(where),
            "--",
            *command,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return open_run(where)


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """Traces a Python program (its text, then its arguments) and opens the run."""

    def run(program: str, *arguments: object, options: tuple[str, ...] = ()) -> Run:
        return traced(tmp_path / "run.cvmprof", program, *arguments, options=options)

    return run


@contextlib.contextmanager
def pinned(path: Path) -> Generator[None]:
    """Holds all pages of a file in the page cache, whatever the machine wants to reclaim."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with path.open("rb") as file:
        held = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        address = np.frombuffer(held, np.uint8).ctypes.data
        assert libc.mlock(address, len(held)) == 0, ctypes.get_errno()
        yield


def operations_on(run: Run, path: Path) -> pl.DataFrame:
    """The operations on one file."""
    return run.tables["operations"].join(_file(run, path), on="file_id", how="semi")


def hits_on(run: Run, path: Path) -> pl.DataFrame:
    """The page-cache hits on one file."""
    return run.tables["hits"].join(_file(run, path), on="file_id", how="semi")


def reads_of(run: Run) -> pl.DataFrame:
    """The FUSE READs."""
    return run.tables["fuse_requests"].filter(opcode=READ)


def _file(run: Run, path: Path) -> pl.DataFrame:
    return run.tables["files"].filter(path=str(path)).select("file_id")


READ = 15
