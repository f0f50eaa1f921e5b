"""One traced command, from the recorder's start to the spool on disk.

Runs as the invoking user; root stays in the recorder's process. Nothing here reads events.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import platform
import select
import signal
import socket
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CvmprofError, MissingDependency
from ..record import journal, load, protocol
from ..record.recorder import JOURNAL, spool_files
from ..run import directory
from . import child, identity, launch
from .socket_sampler import EVENT as SOCKET_EVENT
from .socket_sampler import SocketSampler

PHASE_VARIABLE = "CVMPROF_PHASE_FD"
#: compiling takes as long as the machine is slow
READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_LOWEST_PHASE_FD = 64  # above what shells and programs use by number
_FORWARDED = {
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
}  # fmt: skip
_WATCHED = _FORWARDED | {signal.SIGCHLD}
_FROM_KERNEL = 0x80  # si_code SI_KERNEL (siginfo.h): the terminal's, which the command got as well


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
    """A finished recording: its directory, the command's wait status, and what the recorder said.

    ``losses`` are rows of that table; ``trouble`` is what cut the recording off or kept events out
    of the spool, None where all is well.
    """

    run: Path
    status: int
    losses: tuple[dict[str, Any], ...] = ()
    trouble: CvmprofError | None = None


def record(command: list[str], options: TraceOptions, version: str) -> Recorded:
    """Trace a command from its exec to its end.

    Raises CvmprofError where the command has not been executed, and leaves no run then; afterwards
    a failing recorder leaves an incomplete run, and the command goes on.
    """
    load.check_permission()
    user = identity.invoking_user()
    recorder, control = launch.start(options.debug)
    try:
        identity.become(user)
        path = child.find_command(command[0], user.environment)
        with _ending_orderly():
            run = directory.create_run(options.run)
            try:
                files = directory.open_spool(run)
                sampler = SocketSampler(*directory.socket_files(run, files))
                held = _prepare(path, command, user, options, version, files, control, sampler)
            except BaseException:
                directory.discard_run(run)
                raise
            return _follow(held, path, options, files[JOURNAL], control, sampler)
    finally:
        control.close()
        recorder.poll()  # it ends by itself: taking uprobes off takes seconds


def _prepare(
    path: str,
    command: list[str],
    user: identity.Identity,
    options: TraceOptions,
    version: str,
    files: dict[str, int],
    control: socket.socket,
    sampler: SocketSampler,
) -> child.Child:
    """Hold the command at its gate, all probes attached. Raises CvmprofError: it never ran then."""
    _begin(options, files[JOURNAL], _start_line(command, user, options, version))
    _configure(options, files, control)
    held = child.fork(path, command, _environment_of(user, files[directory.PHASES]))
    try:
        with _blocked(_WATCHED):
            sampler.start()
        _import_what_follows()
        _expect(control, "ready", READY_TIMEOUT_S)
        _ask_mounts("collect_before", options.run)
        _send(control, "target", pid=held.pid)
        _expect(control, "tracing", READY_TIMEOUT_S)
        _note(files[JOURNAL], "child", pid=held.pid)
    except BaseException:
        held.abandon()
        sampler.stop()
        raise
    return held


def _follow(
    held: child.Child,
    path: str,
    options: TraceOptions,
    log: int,
    control: socket.socket,
    sampler: SocketSampler,
) -> Recorded:
    """Let the command run, and end the recording with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with _blocked(_WATCHED):
        held.go()
        status = _wait(held.pid, control, options.duration_s, sampler)
        sampled = sampler.stop()
        while signal.sigtimedwait(_WATCHED, 0):  # what it died of was sent to this process too
            pass
    refusal = held.refused()
    if refusal is not None:
        directory.discard_run(options.run)
        raise child.not_executable(path, refusal)
    _note(log, "exit", pid=held.pid, status=status)
    _note(log, "sampler", cpu_ns=sampled["cpu_ns"], samples=sampled["samples"])
    _note(log, "probes", rows=[sampled["row"]])
    _note(log, "hits", rows=[{"event": SOCKET_EVENT, "hits": sampled["samples"]}])
    _ask_mounts("collect_after", options.run)
    return _stop(control, options.run, status)


def _ask_mounts(how: str, run: Path) -> None:
    """Let the mounts tell their counters, by a function of `attributes`: the recording can do
    without, and Ctrl-C ends it alone.
    """
    attributes = importlib.import_module(".attributes", __package__)
    with suppress(OSError, KeyboardInterrupt), _blocked(_FORWARDED):
        getattr(attributes, how)(run)


def _start_line(
    command: list[str], user: identity.Identity, options: TraceOptions, version: str
) -> dict[str, Any]:
    return {
        "schema_version": directory.SCHEMA_VERSION,
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


def _begin(options: TraceOptions, log: int, line: dict[str, Any]) -> None:
    try:
        journal.append(log, "start", **line)
    except OSError as error:
        fact = f"cannot write to {options.run}: {error.strerror}"
        raise CvmprofError(fact, "free some space, or name another place with -o") from error


def _note(log: int, kind: str, **values: Any) -> None:
    """A line of the journal that the recording can do without: a disk may have filled up."""
    with suppress(OSError):
        journal.append(log, kind, **values)


def _configure(options: TraceOptions, files: dict[str, int], control: socket.socket) -> None:
    names = [JOURNAL, *spool_files()]
    choices = {
        "every_read": options.every_read, "all_files": options.all_files,
        "backend": options.backend,
    }  # fmt: skip
    descriptors = tuple(files[name] for name in names)
    _send(control, "configure", descriptors, options=choices, files=names)


def _environment_of(user: identity.Identity, phases: int) -> dict[str, str]:
    inherited = fcntl.fcntl(phases, fcntl.F_DUPFD, _LOWEST_PHASE_FD)  # stays open across the exec
    return {**user.environment, PHASE_VARIABLE: str(inherited)}


def _import_what_follows() -> None:
    """Import what reads the run while the recorder compiles; its threads get no signals.

    Raises MissingDependency.
    """
    try:
        with _blocked(_WATCHED):
            for name in ("..finalise", ".attributes"):
                importlib.import_module(name, __package__)
    except ImportError as error:
        fact = f"user {os.geteuid()} cannot import {error.name or error} in {sys.executable}"
        way_out = "install cvmprof where every user may read it, or what it needs: make install"
        raise MissingDependency(fact, way_out) from error


def _send(
    control: socket.socket, kind: str, descriptors: tuple[int, ...] = (), **values: Any
) -> None:
    """Say something to the recorder; where it is gone, its next message tells."""
    with suppress(OSError):
        protocol.send(control, kind, descriptors, **values)


def _expect(control: socket.socket, kind: str, timeout_s: float) -> dict[str, Any]:
    """The recorder's next message, of that kind. Raises CvmprofError: what went wrong."""
    ready, _, _ = select.select([control], [], [], timeout_s)
    message = _received(control) if ready else None
    if message is None:
        fact = "the recorder ended unexpectedly" if ready else "the recorder does not answer"
        raise CvmprofError(fact, "again; if it happens again, report it with cvmprof --debug")
    if message["kind"] != kind:
        fact = message.get("fact", f"the recorder said {message['kind']} where {kind} was due")
        raise CvmprofError(fact, message.get("help_text", "please report this"))
    return message


def _received(control: socket.socket) -> dict[str, Any] | None:
    try:
        message = protocol.receive(control)
    except ConnectionError:  # it died with something unread
        return None
    return message[0] if message else None


def _wait(
    pid: int, control: socket.socket, duration_s: float | None, sampler: SocketSampler
) -> int:
    """Wait for the command and pass on the signals sent to this process alone; its wait status.

    After ``duration_s`` the recording stops while the command goes on.
    """
    stop_at = None if duration_s is None else time.monotonic() + duration_s
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        received = _next_signal(stop_at)
        if received is None:
            stop_at = None
            sampler.stop()
            _send(control, "stop")
        elif received.si_signo in _FORWARDED and received.si_code != _FROM_KERNEL:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, received.si_signo)


def _next_signal(until: float | None) -> signal.struct_siginfo | None:
    if until is None:
        return signal.sigwaitinfo(_WATCHED)
    return signal.sigtimedwait(_WATCHED, max(0.0, until - time.monotonic()))


def _stop(control: socket.socket, run: Path, status: int) -> Recorded:
    _send(control, "stop")
    try:
        result = _expect(control, "stopped", _STOP_TIMEOUT_S)
    except CvmprofError as error:
        fact, way_out = error.fact, error.help_text
    except KeyboardInterrupt:
        fact, way_out = "interrupted before the recorder had ended", "record again"
    else:
        return Recorded(run, status, tuple(result["losses"]), _kept_out(run, result["failures"]))
    return Recorded(run, status, trouble=CvmprofError(f"{fact}: the run is incomplete", way_out))


def _kept_out(run: Path, failures: list[str]) -> CvmprofError | None:
    if not failures:
        return None
    fact = f"events could not be kept: {', '.join(failures)}"
    return CvmprofError(fact, f"free some space, remove {run}, and record again")


@contextmanager
def _ending_orderly() -> Generator[None]:
    """Lets what has been made be unmade before a signal ends this process."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    kept = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    for number, handler in kept.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def _blocked(signals: set[signal.Signals]) -> Generator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
