"""One traced command, from the start of the recorder to the spool on disk.

Runs as the invoking user; only the recorder's process is root. Nothing here reads events.
"""

from __future__ import annotations

import math
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
    create_numbered_run,
    create_run,
    discard_run,
    open_spool,
    socket_files,
)
from . import child, launch
from .cpu_sampler import CpuSampler
from .following import Deadline, Follower, Others, wait_for_others
from .gpu_injection import GpuInjection, prepare_injection
from .gpu_sampler import EVENT as GPU_EVENT
from .gpu_sampler import GpuSampler
from .identity import Identity, become, invoking_user
from .instrument import instrumented
from .recorder_link import RecorderLink
from .signals import WATCHED, blocked, cleaning_up, discard_pending, interruptible
from .socket_sampler import EVENT as SOCKET_EVENT
from .socket_sampler import SocketSampler

_STOP_TIMEOUT_S = 60.0
_LIVING_TIMEOUT_S = 5.0
#: how long what outlives the command has to end with it
_LINGER_S = 0.1
#: processes that a line names
_MOST_NAMED = 4


@dataclass(frozen=True)
class TraceOptions:
    """What to record of a command, and where to.

    ``instrument``: whether Python processes mark phases of their frameworks by themselves.
    ``mount_counters``: whether the mounts' own counters are read before and after the command.
    ``tell`` gets what the user should know at once, a line.
    """

    run: Path
    #: whether another name is taken where ``run`` exists
    numbered: bool = False
    every_read: bool = False
    all_files: bool = False
    backend: str = "auto"
    strict: bool = False
    stall_threshold_ns: int = 1_000_000
    duration_s: float | None = None
    #: whether to record until the ``command`` has ended, or ``all`` that it started
    until: str = "command"
    tell: Callable[[str], None] = field(default=lambda _: None, repr=False)
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
            run = (create_numbered_run if options.numbered else create_run)(options.run)
            try:
                files = open_spool(run)
                recording = Recording(
                    command, executable, user, replace(options, run=run), files,
                    recorder=RecorderLink(control),
                    sampler=SocketSampler(*socket_files(run, files)),
                    injection=prepare_injection(run, options.gpu, user.environment),
                    gpu_sampler=GpuSampler(files[GPU_SAMPLES], files[JOURNAL]),
                    cpu_sampler=CpuSampler(*cpu_files(run, files)),
                )  # fmt: skip
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
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
        with blocked(WATCHED):
            deadline = self._deadline()
            held.go()
            status = Follower(held.pid, held.witness).wait(deadline)
            refusal = held.refused()
            if refusal is not None:
                discard_run(self.options.run)
                raise child.not_executable(self.executable, refusal)
            try:
                return self._end(held.pid, status, deadline)
            except Exception as error:  # noqa: BLE001  the exit code is the command's
                return Recorded(self.options.run, status, trouble=_cut_short(error))
            finally:
                held.witness.end()
                discard_pending()  # the signal that ended the command was sent to this process too

    def _deadline(self) -> Deadline:
        """The end of the recording, which the command may outlive."""
        duration_s = self.options.duration_s
        at_s = math.inf if duration_s is None else time.monotonic() + duration_s
        return Deadline(self._stop_recording, at_s)

    def _stop_recording(self) -> None:
        self._stop_sampling()
        self._read_counters(after=True)
        self._name_neighbours()
        self.recorder.send("stop")

    def _end(self, pid: int, status: int, deadline: Deadline) -> Recorded:
        self._note("exit", pid=pid, status=status)
        if not deadline.has_passed:
            self._wait_for_others(deadline)
        self._stop_sampling()
        self._note_samples()
        self._note("probes", rows=self.injection.probe_rows())
        self._note("hits", rows=self.injection.hit_rows())
        if not deadline.has_passed:
            self._read_counters(after=True)
        return self._stop(status)

    def _start_sampling(self, pid: int) -> None:
        self.sampler.start()
        self.cpu_sampler.watch_command(pid)
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
        used_ns, allowed = self.cpu_sampler.stop(), self.cpu_sampler.allowed_cpus
        self._note("cpu_sampler", cpu_ns=used_ns, allowed_cpus=allowed)
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
            "boot_id": journal.boot_id(),
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
                "until": self.options.until,
                "duration_s": self.options.duration_s,
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
        """Read the mounts' counters. They are not essential."""
        if not self.options.mount_counters:
            return
        from .attributes import collect_after, collect_before  # starts threads: not before the fork

        try:
            with blocked(WATCHED):
                (collect_after if after else collect_before)(self.options.run)
        except Exception as error:  # noqa: BLE001  the command matters, they do not
            self._note("trouble", text=f"the mounts' counters were not read: {error!r}")

    def _name_neighbours(self) -> None:
        """Name who else uses the mounts while they live: the command goes on. Not essential."""
        if not self.options.mount_counters:
            return
        from .attributes import collect_neighbours

        try:
            collect_neighbours(self.options.run)
        except Exception as error:  # noqa: BLE001  the command matters, they do not
            self._note("trouble", text=f"who else used the mounts was not named: {error!r}")

    def _wait_for_others(self, deadline: Deadline) -> None:
        """Wait for what outlives the command: all of it if asked to, else what ends with it."""
        if self.options.until == "all":
            wait_for_others(Others(self._living, self._tell_of), deadline)
            return
        soon = Deadline(lambda: None, min(deadline.at_s, time.monotonic() + _LINGER_S))
        wait_for_others(Others(self._living, lambda _: None), soon)

    def _living(self) -> list[dict[str, Any]]:
        self.recorder.send("living")
        try:
            return list(self.recorder.expect("living", _LIVING_TIMEOUT_S)["processes"])
        except CvmprofError:  # as `_stop` will say
            return []

    def _tell_of(self, processes: list[dict[str, Any]]) -> None:
        named = [f"{each['name']} (pid {each['pid']})" for each in processes[:_MOST_NAMED]]
        if len(processes) > _MOST_NAMED:
            named.append(f"{len(processes) - _MOST_NAMED:,} more")
        noun = "a process" if len(processes) == 1 else "processes"
        told = f"waiting for {noun} that the command left: {', '.join(named)}"
        self.options.tell(f"{told}; Ctrl-C ends the recording")

    def _stop(self, status: int) -> Recorded:
        run = self.options.run
        self.recorder.send("stop")
        try:
            with interruptible():
                report = self.recorder.expect("stopped", _STOP_TIMEOUT_S)
        except CvmprofError as error:
            trouble = _incomplete(error.fact, error.help_text)
        except KeyboardInterrupt:
            trouble = _incomplete("interrupted before the recorder had ended", "record again")
        else:
            return Recorded(run, status, tuple(report["losses"]), _kept_out(run, report))
        return Recorded(run, status, trouble=trouble)


def _incomplete(fact: str, help_text: str) -> CvmprofError:
    return CvmprofError(f"{fact}: the run is incomplete", help_text)


def _cut_short(error: BaseException) -> CvmprofError:
    """What ended cvmprof's own work after the command."""
    if isinstance(error, CvmprofError):
        return _incomplete(error.fact, error.help_text)
    fact = f"recording could not be ended properly: {error!r}"
    return _incomplete(fact, "report it with what cvmprof --debug prints")


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
