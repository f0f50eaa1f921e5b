"""One traced command, from the recorder's start to the spool on disk.

Runs as the invoking user; root stays in the recorder's process. Nothing here reads events.
"""

from __future__ import annotations

import os
import platform
import select
import signal
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from ..errors import CvmprofError
from . import identity
from .record import child, journal, launch, load, protocol
from .record.recorder import JOURNAL, spool_files

SCHEMA_VERSION = 1
PHASES = "phases.jsonl"
PHASE_VARIABLE = "CVMPROF_PHASE_FD"
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_LOWEST_PHASE_FD = 64  # above what shells and programs use by number
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class TraceOptions:
    """What to record of a command, and where to."""

    run: Path
    every_read: bool = False
    all_files: bool = False
    backend: str = "auto"
    strict: bool = False
    stall_threshold_ns: int = 1_000_000
    duration_s: float | None = None
    debug: bool = False


@dataclass(frozen=True)
class Recorded:
    """A finished recording: its directory, the command's wait status, and what the recorder said."""

    run: Path
    status: int
    losses: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    recorder_died: bool


def record(command: list[str], options: TraceOptions, version: str) -> Recorded:
    """Traces a command from its exec to its end.

    Raises CvmprofError before the command has started (it then never ran); afterwards a failing recorder
    leaves an incomplete run, and the command goes on.
    """
    load.check_permission()
    user = identity.invoking_user()
    recorder, control = launch.start(options.debug)
    try:
        identity.become(user)
        path = child.find_command(command[0], user.environment)
        files = _create_run(options.run)
        return _record(command, path, user, options, version, files, control)
    finally:
        control.close()
        os.waitpid(recorder, os.WNOHANG)  # it ends by itself: taking uprobes off takes seconds


def _record(
    command: list[str],
    path: str,
    user: identity.Identity,
    options: TraceOptions,
    version: str,
    files: dict[str, int],
    control: socket.socket,
) -> Recorded:
    log = files[JOURNAL]
    journal.append(log, "start", **_start_line(command, user, options, version))
    names = [JOURNAL, *spool_files()]
    choices = {"every_read": options.every_read, "all_files": options.all_files}
    descriptors = tuple(files[name] for name in names)
    protocol.send(control, "configure", descriptors, options=choices, files=names)
    held = child.fork(path, command, _environment_of(user, files[PHASES]))
    try:
        _expect(control, "ready", _READY_TIMEOUT_S)
        protocol.send(control, "target", pid=held.pid)
        _expect(control, "tracing", _READY_TIMEOUT_S)
        journal.append(log, "child", pid=held.pid)
    except BaseException:
        _abandon(held)
        raise
    with _signals_for(held.pid):
        held.go()
        status = _wait(held.pid, control, options.duration_s)
    journal.append(log, "exit", pid=held.pid, status=status)
    return _stop(control, options.run, status)


def _start_line(
    command: list[str], user: identity.Identity, options: TraceOptions, version: str
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "version": version,
        "command": [os.fsencode(word).decode("utf-8", "backslashreplace") for word in command],
        "utc_offset_ns": time.time_ns() - time.monotonic_ns(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "uid": user.uid,
        "backend": options.backend,
        "options": {
            "every_read": options.every_read,
            "all_files": options.all_files,
            "stall_threshold_ns": options.stall_threshold_ns,
            "strict": options.strict,
        },
    }


def _create_run(run: Path) -> dict[str, int]:
    """Makes the run directory and all that the recorder appends to, as the user, open and empty."""
    try:
        run.mkdir(mode=0o700)
        (run / "spool").mkdir(mode=0o700)
        files = {JOURNAL: _create(run / JOURNAL)}
        for name in (*spool_files(), PHASES):
            files[name] = _create(run / "spool" / name)
        return files
    except FileExistsError:
        fact = f"{run} exists already"
        raise CvmprofError(fact, "name another run with -o, or remove that one") from None
    except OSError as error:
        fact = f"cannot make the run directory {run}: {error.strerror}"
        raise CvmprofError(fact, "name a place that you may write to with -o") from None


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _environment_of(user: identity.Identity, phases: int) -> dict[str, str]:
    import fcntl

    inherited = fcntl.fcntl(phases, fcntl.F_DUPFD, _LOWEST_PHASE_FD)  # stays open across the exec
    return {**user.environment, PHASE_VARIABLE: str(inherited)}


def _expect(control: socket.socket, kind: str, timeout_s: float) -> dict[str, Any]:
    """The recorder's next message, of that kind. Raises CvmprofError with what it says went wrong."""
    ready, _, _ = select.select([control], [], [], timeout_s)
    message = protocol.receive(control) if ready else None
    if message is None:
        fact = "the recorder ended unexpectedly" if ready else "the recorder does not answer"
        raise CvmprofError(fact, "run again with --debug and report what it prints")
    values = message[0]
    if values["kind"] != kind:
        raise CvmprofError(values.get("fact", str(values)), values.get("help_text", "please report this"))
    return values


def _abandon(held: child.Child) -> None:
    """Closes the gate unopened: the command never runs."""
    os.close(held.gate)
    os.waitpid(held.pid, 0)


def _wait(pid: int, control: socket.socket, duration_s: float | None) -> int:
    """Waits for the command; after ``duration_s`` the recording stops while the command goes on."""
    if duration_s is not None:
        ended = _wait_until(pid, duration_s)
        if ended is None:
            protocol.send(control, "stop")
    _, status = os.waitpid(pid, 0)
    return status


def _wait_until(pid: int, duration_s: float) -> bool | None:
    descriptor = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([descriptor], [], [], duration_s)
    finally:
        os.close(descriptor)
    return True if ready else None


def _stop(control: socket.socket, run: Path, status: int) -> Recorded:
    try:
        protocol.send(control, "stop")
    except OSError:  # it has stopped already, or died
        pass
    try:
        result = _expect(control, "stopped", _STOP_TIMEOUT_S)
    except (CvmprofError, OSError):
        return Recorded(run, status, (), (), recorder_died=True)
    return Recorded(run, status, tuple(result["losses"]), tuple(result["failures"]), recorder_died=False)


@contextmanager
def _signals_for(pid: int) -> Iterator[None]:
    """Leaves the terminal's signals to the command, and passes on what is sent to this process alone."""

    def forward(number: int, _frame: object) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGQUIT)}
    kept |= {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
