"""Recorders under test, and programs of known behaviour to record."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cvmprof.probes.events import Field, Layout
from cvmprof.profiler.record import load, protocol
from cvmprof.profiler.record.names import JOURNAL, spool_files
from cvmprof.tests.gpu.stand_ins import StandIns, compile_stand_ins

HERE = Path(__file__).resolve().parent
_FORMATS = {"u64": "Q", "i64": "q", "u32": "I", "i32": "i", "u16": "H", "i16": "h", "u8": "B"}

#: no process has such a number
NOBODY = (1 << 32) - 1

Record = dict[str, Any]


@pytest.fixture(scope="session")
def bcc(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The distribution's bcc, also where another Python runs the tests."""
    if importlib.util.find_spec("bcc") is None:
        place = subprocess.run(
            ["/usr/bin/python3", "-c", "import bcc; print(bcc.__path__[0])"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.strip()
        link = tmp_path_factory.mktemp("bcc") / "bcc"
        link.symlink_to(place)
        sys.path.append(str(link.parent))
    with warnings.catch_warnings():  # an old bcc under a new Python
        warnings.simplefilter("ignore")
        return load.import_bcc()


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds a C or C++ file of this directory: its name, the result's, the compiler's flags."""
    directory = tmp_path_factory.mktemp("built")

    def compile_file(source: str, name: str, *flags: str) -> Path:
        made = directory / name
        if not made.exists():
            made.parent.mkdir(exist_ok=True)
            compiler = "g++" if source.endswith(".cc") else "cc"
            command = [compiler, "-O1", "-g0", "-o", str(made), str(HERE / source), *flags]
            subprocess.run(command, check=True)
        return made

    return compile_file


@pytest.fixture(scope="session")
def library(build: Callable[..., Path]) -> Path:
    """A library with the client's functions."""
    soname = "-Wl,-soname,libcvmfs_fuse3.so"
    return build("client.cc", "libcvmfs_fuse3.so", "-shared", "-fPIC", soname)


@pytest.fixture(scope="session")
def daemon(build: Callable[..., Path], library: Path) -> Path:
    """A program called cvmfs2 that calls them."""
    return build("daemon.cc", "cvmfs2", str(library), "-pthread", "-Wl,-rpath,$ORIGIN")


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> StandIns:
    """The stand-ins of CUDA's libraries, and a program that uses them."""
    return compile_stand_ins(tmp_path_factory.mktemp("stand-ins"))


class Stopping:
    """A process that stops itself; each step is awaited, and its stop or end."""

    def __init__(self, *command: object) -> None:
        self.process = subprocess.Popen([str(word) for word in command])
        self.pid = self.process.pid
        self.is_stopped = self._wait()

    def go_on(self) -> bool:
        """Runs it to its next stop; False when it ended instead."""
        os.kill(self.pid, signal.SIGCONT)
        self.is_stopped = self._wait()
        return self.is_stopped

    def start(self) -> None:
        """Runs it without waiting."""
        os.kill(self.pid, signal.SIGCONT)
        self.is_stopped = False

    def has_stopped(self) -> bool:
        """Whether it has come to its next stop since `start`."""
        found, status = os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG)
        return found == self.pid and os.WIFSTOPPED(status)

    def end(self) -> None:
        """Kills it."""
        self.process.kill()
        self.process.wait()

    def _wait(self) -> bool:
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        return os.WIFSTOPPED(status)


@pytest.fixture
def stopping() -> Iterator[Callable[..., Stopping]]:
    """Starts processes that stop themselves."""
    started = list[Stopping]()

    def start(*command: object) -> Stopping:
        started.append(Stopping(*command))
        assert started[-1].is_stopped, command
        return started[-1]

    yield start
    for each in started:
        each.end()


class Recording:
    """A recorder in a process of its own, driven as the session does."""

    def __init__(self, directory: Path, options: dict[str, Any], changes: dict[str, Any]) -> None:
        self._directory = directory
        names = (JOURNAL, *spool_files())
        files = [os.open(directory / name, os.O_CREAT | os.O_RDWR | os.O_APPEND) for name in names]
        self._here, there = protocol.socket_pair()
        self._process = subprocess.Popen(
            [
                sys.executable,
                HERE / "recorder_process.py",
                str(there.fileno()),
                json.dumps(changes),
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            pass_fds=(there.fileno(),),
        )
        there.close()
        protocol.send(self._here, "configure", tuple(files), options=options, files=names)
        for file in files:
            os.close(file)
        self._expect("ready")

    def trace(self, pid: int) -> None:
        """Makes a process a target."""
        protocol.send(self._here, "target", pid=pid)
        self._expect("tracing")

    def step_until(self, condition: Callable[[], bool]) -> None:
        """Lets the recorder step until something has come of it."""
        for _ in range(1000):
            if condition():
                return
            self.trace(NOBODY)
        raise AssertionError("the recorder did not come to it")

    def probed(self) -> list[str]:
        """What its rows of `probes` name as yet."""
        return [row["target"] for line in self.journal("probes") for row in line["rows"]]

    def stop(self) -> dict[str, Any]:
        """Ends the recording; what the recorder says last."""
        protocol.send(self._here, "stop")
        return self._expect("stopped")

    def close(self) -> None:
        """Ends the process, whatever state it is in."""
        self._here.close()
        self._process.wait(timeout=60)

    def records(self, layout: Layout) -> list[Record]:
        """The records of a ring's spool file."""
        blob = (self._directory / f"{layout.name}.ring").read_bytes()
        assert len(blob) % layout.stride == 0
        return [decode(layout, blob, at + 8) for at in range(0, len(blob), layout.stride)]

    def in_flight(self, layout: Layout) -> list[Record]:
        """The records that were flushed at the stop."""
        blob = (self._directory / f"open.{layout.name}.bin").read_bytes()
        return [decode(layout, blob, at) for at in range(0, len(blob), layout.size)]

    def journal(self, kind: str) -> list[dict[str, Any]]:
        """The journal's lines of a kind."""
        lines = (self._directory / JOURNAL).read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["kind"] == kind]

    def _expect(self, kind: str) -> dict[str, Any]:
        answer = protocol.receive(self._here)
        assert answer is not None, "the recorder is gone"
        assert answer[0]["kind"] == kind, answer[0]
        return answer[0]


@pytest.fixture
def recording(bcc: Any, tmp_path: Path) -> Iterator[Callable[..., Recording]]:
    """Starts a recorder: options as the session gives them, and what a test changes."""
    started = list[Recording]()

    def start(changes: dict[str, Any] | None = None, **options: object) -> Recording:
        directory = tmp_path / "spool"
        directory.mkdir()
        started.append(Recording(directory, options, changes or {}))
        return started[-1]

    yield start
    for each in started:
        each.close()


def decode(layout: Layout, blob: bytes, position: int) -> Record:
    """One record as a dictionary, bytes as they are."""
    found: Record = {}
    for field in layout.fields:
        found[field.name] = _value(field, blob, position)
        position += field.size
    return found


def _value(field: Field, blob: bytes, position: int) -> Any:
    if isinstance(field.type, Layout):
        return decode(field.type, blob, position)
    if field.type in _FORMATS:
        return struct.unpack_from("<" + _FORMATS[field.type], blob, position)[0]
    return blob[position : position + field.size]
