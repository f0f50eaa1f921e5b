"""One traced command, from the start of the recorder to the spool on disk.

Runs as the invoking user; only the recorder's process is root. Nothing here reads events.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CvmprofError, MissingDependency
from ...phases import VARIABLE as PHASE_VARIABLE
from ...phases import named
from ..record import journal
from ..record.load import check_permission
from ..record.names import JOURNAL, spool_files
from ..run.directory import (
    GPU_SAMPLES,
    PHASES,
    SCHEMA_VERSION,
    SPOOL_DIRECTORY,
    cpu_files,
    create_run,
    discard_run,
    open_spool,
    socket_files,
)
from . import child, launch
from .cpu_sampler import CpuSampler
from .gpu_injection import GpuInjection, prepare_injection
from .gpu_sampler import EVENT as GPU_EVENT
from .gpu_sampler import GpuSampler
from .identity import Identity, become, invoking_user
from .instrument import instrumented
from .recorder_link import RecorderLink
from .signals import (
    FORWARDED,
    WATCHED,
    blocked,
    cleaning_up,
    discard_pending,
    is_for_command,
    wait_for_signal,
)
from .socket_sampler import EVENT as SOCKET_EVENT
from .socket_sampler import SocketSampler

_STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class TraceOptions:
    """What to record of a command, and where to.

    ``instrument``: whether Python processes mark phases of their frameworks by themselves.
    ``mount_counters``: whether the mounts' own counters are read before and after the command.
    """

    run: Path
    every_read: bool = False
    all_files: bool = False
    backend: str = "auto"
    strict: bool = False
    stall_threshold_ns: int = 1_000_000
    duration_s: float | None = None
    debug: bool = False
    instrument: bool = True
    mount_counters: bool = True
    #: how many per cent of the run time may be spent on watching launches by uprobes
    gpu_budget: float = 1.0
    #: one of `probes.gpu.GPU_CHOICES`
    gpu: str = "auto"
    #: compiling takes longer on a slow machine
    ready_timeout_s: float = 60.0


@dataclass(frozen=True)
class Recorded:
    """A finished recording: its directory, the command's wait status, and the recorder's report.

    ``losses`` are rows of that table; ``trouble`` is what cut the recording off or kept events out
    of the spool, None where nothing did.
    """

    run: Path
    status: int
    losses: tuple[dict[str, Any], ...] = ()
    trouble: CvmprofError | None = None


def record(
    command: list[str], options: TraceOptions, version: str, preload: Callable[[], object]
) -> Recorded:
    """Trace a command from its exec to its end.

    ``preload`` imports what reads the run afterwards, `attributes` included; it is called while the
    recorder compiles, after the command was forked, since such imports start threads.

    Raises CvmprofError where the command was not executed, and leaves no run then. After its exec a
    failing recorder leaves an incomplete run, and the command goes on.
    """
    check_permission()
    user = invoking_user()
    process, control = launch.start(options.debug)
    try:
        become(user)
        executable = child.find_command(command[0], user.environment)
        with cleaning_up():
            run = create_run(options.run)
            try:
                files = open_spool(run)
                recording = Recording(
                    command,
                    executable,
                    user,
                    options,
                    files,
                    recorder=RecorderLink(control),
                    sampler=SocketSampler(*socket_files(run, files)),
                    injection=prepare_injection(run, options.gpu, user.environment),
                    gpu_sampler=GpuSampler(files[GPU_SAMPLES], files[JOURNAL]),
                    cpu_sampler=CpuSampler(*cpu_files(run, files)),
                )
                held = recording.prepare(version, preload)
            except BaseException:
                discard_run(run)
                raise
            return recording.follow(held)
    finally:
        control.close()
        process.poll()  # not waited for: detaching uprobes takes seconds


@dataclass(frozen=True)
class Recording:
    """A recording that is under way.

    ``files`` are the descriptors of the run's files by name.
    """

    command: list[str]
    executable: str
    user: Identity
    options: TraceOptions
    files: dict[str, int]
    recorder: RecorderLink
    sampler: SocketSampler
    injection: GpuInjection
    gpu_sampler: GpuSampler
    cpu_sampler: CpuSampler

    def prepare(self, version: str, preload: Callable[[], object]) -> child.Child:
        """Fork the command and hold it at its gate until all probes are attached.

        Raises CvmprofError; the command never runs then.
        """
        self._write_start(version)
        self._configure()
        held = child.fork(self.executable, self.command, self._environment())
        try:
            with blocked(WATCHED):
                self._start_sampling(held.pid)
            _import_with(preload)
            self.recorder.expect("ready", self.options.ready_timeout_s)
            self._read_counters(after=False)
            self.recorder.send("target", pid=held.pid)
            self.recorder.expect("tracing", self.options.ready_timeout_s)
            self._note("child", pid=held.pid)
        except BaseException:
            held.abandon()
            self._stop_sampling()
            raise
        return held

    def follow(self, held: child.Child) -> Recorded:
        """Let the command run, and end the recording when it ends.

        Raises CvmprofError where the kernel refuses to execute it; the run is removed then.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with blocked(WATCHED):
            held.go()
            status = self._wait(held.pid)
            self._stop_sampling()
            discard_pending()  # the signal that ended the command was sent to this process too
        refusal = held.refused()
        if refusal is not None:
            discard_run(self.options.run)
            raise child.not_executable(self.executable, refusal)
        self._note("exit", pid=held.pid, status=status)
        self._note_samples()
        self._note("probes", rows=self.injection.probe_rows())
        self._note("hits", rows=self.injection.hit_rows())
        self._read_counters(after=True)
        return self._stop(status)

    def _start_sampling(self, pid: int) -> None:
        self.sampler.start()
        self.cpu_sampler.watch(pid)
        self.cpu_sampler.start()
        if self.options.gpu != "off":
            self.gpu_sampler.start()

    def _stop_sampling(self) -> None:
        self.sampler.stop()
        self.cpu_sampler.stop()
        self.gpu_sampler.stop()

    def _note_samples(self) -> None:
        sampled, gpus = self.sampler.stop(), self.gpu_sampler.stop()
        self._note("sampler", cpu_ns=sampled.cpu_ns, samples=sampled.samples)
        self._note("gpu_sampler", cpu_ns=gpus.cpu_ns, samples=gpus.samples)
        self._note("cpu_sampler", cpu_ns=self.cpu_sampler.stop())
        self._note("probes", rows=[sampled.row, *gpus.rows])
        taken = {SOCKET_EVENT: sampled.samples, GPU_EVENT: gpus.samples}
        self._note("hits", rows=[{"event": event, "hits": hits} for event, hits in taken.items()])

    def _write_start(self, version: str) -> None:
        try:
            journal.append(self.files[JOURNAL], "start", **self._start_line(version))
        except OSError as error:
            fact = f"cannot write to {self.options.run}: {error.strerror}"
            raise CvmprofError(fact, "free some space, or choose another place with -o") from error

    def _start_line(self, version: str) -> dict[str, Any]:
        words = (os.fsencode(word) for word in self.command)
        return {
            "schema_version": SCHEMA_VERSION,
            "version": version,
            "command": [word.decode("utf-8", "backslashreplace") for word in words],
            "utc_offset_ns": time.time_ns() - time.monotonic_ns(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "uid": self.user.uid,
            "backend": self.options.backend,
            "options": {
                "every_read": self.options.every_read,
                "all_files": self.options.all_files,
                "stall_threshold_ns": self.options.stall_threshold_ns,
                "strict": self.options.strict,
                "gpu": self.options.gpu,
                "gpu_budget": self.options.gpu_budget,
                "instrument": self.options.instrument,
            },
        }

    def _note(self, kind: str, **values: Any) -> None:
        """Add a line that is not essential to the journal: the disk may have filled up."""
        with suppress(OSError):
            journal.append(self.files[JOURNAL], kind, **values)

    def _configure(self) -> None:
        names = [JOURNAL, *spool_files()]
        options = {
            "every_read": self.options.every_read,
            "all_files": self.options.all_files,
            "backend": self.options.backend,
            "gpu": self._gpu(),
            "gpu_budget": self.options.gpu_budget,
            "search_path": self.user.environment.get("LD_LIBRARY_PATH", ""),
        }
        descriptors = tuple(self.files[name] for name in names)
        self.recorder.send("configure", descriptors, options=options, files=names)

    def _gpu(self) -> str:
        """How GPUs are observed: by calls of the driver if it may not load the library."""
        instead = self.options.gpu == "auto" and self.injection.reason is not None
        return "api" if instead else self.options.gpu

    def _environment(self) -> dict[str, str]:
        """The user's, with the file for phases, and what makes the GPU's driver load the library.

        With ``instrument`` it also brings Python processes to mark phases by themselves.
        """
        path = os.path.abspath(self.options.run / SPOOL_DIRECTORY / PHASES)
        phase_file = named(path, os.fstat(self.files[PHASES]))
        variables = {PHASE_VARIABLE: phase_file, **self.injection.variables()}
        environment = {**self.user.environment, **variables}
        return instrumented(environment) if self.options.instrument else environment

    def _read_counters(self, *, after: bool) -> None:
        """Read the mounts' counters. They are not essential: Ctrl-C ends only the reading."""
        if not self.options.mount_counters:
            return
        from .attributes import collect_after, collect_before  # starts threads: not before the fork

        with suppress(OSError, KeyboardInterrupt), blocked(FORWARDED):
            (collect_after if after else collect_before)(self.options.run)

    def _wait(self, pid: int) -> int:
        """Wait for the command, passing signals on to it, and return its wait status.

        After ``duration_s`` the recording stops while the command goes on.
        """
        duration_s = self.options.duration_s
        deadline_s = None if duration_s is None else time.monotonic() + duration_s
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            received = wait_for_signal(deadline_s)
            if received is None:
                deadline_s = None
                self._stop_sampling()
                self._read_counters(after=True)
                self.recorder.send("stop")
            elif is_for_command(received):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, received.si_signo)

    def _stop(self, status: int) -> Recorded:
        run = self.options.run
        self.recorder.send("stop")
        try:
            report = self.recorder.expect("stopped", _STOP_TIMEOUT_S)
        except CvmprofError as error:
            fact, help_text = error.fact, error.help_text
        except KeyboardInterrupt:
            fact, help_text = "interrupted before the recorder had ended", "record again"
        else:
            return Recorded(run, status, tuple(report["losses"]), _kept_out(run, report))
        trouble = CvmprofError(f"{fact}: the run is incomplete", help_text)
        return Recorded(run, status, trouble=trouble)


def _kept_out(run: Path, report: dict[str, Any]) -> CvmprofError | None:
    """What kept events out of the spool."""
    if not report["failures"]:
        return None
    fact = f"events could not be written: {', '.join(report['failures'])}"
    return CvmprofError(fact, f"free some space, remove {run}, and record again")


def _import_with(preload: Callable[[], object]) -> None:
    """Call ``preload``; the threads that its imports start get no signals.

    Raises MissingDependency.
    """
    try:
        with blocked(WATCHED):
            preload()
    except ImportError as error:
        fact = f"user {os.geteuid()} cannot import {error.name or error} in {sys.executable}"
        help_text = "install cvmprof and what it needs where every user can read it: make install"
        raise MissingDependency(fact, help_text) from error
