"""The recording itself: attach the programs, drain the rings to the spool, flush at the end.

Runs as root in a process of its own, under the distribution's Python. The files that it writes were
opened by the session.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import Any, Callable

from ...probes import events, syscalls
from ...probes.catalog import UPROBE, uprobe_family
from ...probes.kernel import running_kernel
from ...probes.machines import MACHINES
from ...probes.programs import RING_EVENTS, Options, rings, tail_called
from . import attach, daemons, journal, load, protocol, targets, uprobe_cost
from .driver import Driver, DriverOptions
from .hidden import names_are_hidden
from .maps import map_fd
from .misses import missed, seen_by_none
from .names import JOURNAL, ring_file
from .ring import Ring
from .state import State
from .uprobes import Uprobes

_DRAIN_INTERVAL_S = 0.025
#: if the recorder hangs for so long, SIGALRM ends it, and the kernel detaches all probes
_WATCHDOG_S, _START_WATCHDOG_S = 60, 300
_TOUCH_INTERVAL_NS = 5_000_000_000
_LIBRARY_PATIENCE_NS = 10_000_000_000
_SPOOL_FULL = "spool full"
#: living processes in an answer: a message is limited in size
_MAX_NAMED = 1000
_BEGINNINGS = (events.TASK_KINDS.index("seen"), events.TASK_KINDS.index("exec"))


class Recorder:
    """One recording. Creating it attaches everything; `stop` ends it."""

    def __init__(self, options: dict[str, Any], files: dict[str, int]) -> None:
        self._files = files
        self._failure: OSError | None = None
        self._journal = files[JOURNAL]
        facts, of_driver = running_kernel(), DriverOptions.of(options)
        wanted = _wanted(options, of_driver is not None, names_are_hidden(self._journal))
        attach.check_backend(facts, str(wanted.backend))
        bcc = load.import_bcc()
        self._bpf = load.compile_programs(bcc, facts, wanted)
        self._state = State(bcc, self._bpf, wanted.gpu_calls)
        self._state.set_syscall_classes(syscalls.class_table(facts.machine))
        if uprobe_family(facts) == UPROBE:
            self._state.set_programs("call_programs", tail_called(wanted))
        self._rings = {
            layout.name: Ring(
                map_fd(bcc, self._bpf, f"{layout.name}_ring"), layout, files[ring_file(layout)]
            )
            for layout in rings(wanted)
        }
        self._attacher = attach.Attacher(bcc, self._bpf, facts, str(wanted.backend))
        self._driver: Driver | None = None
        if of_driver is not None:
            uprobes = Uprobes(bcc, self._bpf, facts)
            cost = uprobe_cost.measured(uprobes, MACHINES[facts.machine], self._state)
            self._rings[events.GPU_LAUNCHES.name].skip()
            self._driver = Driver(uprobes, cost, of_driver, self._note)
        self._waiting_for_library: dict[int, int] = {}  # daemon -> give up at
        self._known_devices = set[int]()
        self._touches_flushed_ns = time.monotonic_ns()
        self._begin()
        self._cpu_before_ns = time.process_time_ns()

    @property
    def waking_rings(self) -> tuple[int, ...]:
        """Descriptors of rings whose records are not to wait for the next step."""
        return tuple(ring.map_fd for name, ring in self._rings.items() if name == "gpu_library")

    def trace(self, pid: int) -> None:
        """Trace a process and everything that it will start."""
        self._state.set_role(pid, events.ROLE_TARGET)

    def living(self) -> list[dict[str, Any]]:
        """The traced processes that have not ended: pid and name of each.

        Asked twice before the answer is none: a process may be created while the map is read.
        """
        return targets.living(self._state.targets()) or targets.living(self._state.targets())

    def step(self) -> None:
        """Drain every ring once, and handle new tasks, files and libraries."""
        for name, ring in self._rings.items():
            span = ring.drain()
            if span is not None and name == "task":
                self._handle_tasks(span)
            elif span is not None and name == "file":
                self._handle_files(span)
            elif span is not None and name == "cache_file" and daemons.loads_library(span):
                self._handle_opened_libraries(span)
            elif span is not None and self._driver is not None:
                self._driver.handle(name, span)
        self._look_for_libraries()
        if self._driver is not None:
            self._driver.step()
        now = time.monotonic_ns()
        if now - self._touches_flushed_ns > _TOUCH_INTERVAL_NS:
            self._touches_flushed_ns = now
            self._keep(self._state.flush_touches, self._files, now - 1_000_000_000)

    def stop(self, was_asked: bool) -> dict[str, Any]:
        """Drain to the end, flush what is in progress, and return losses and failures.

        ``was_asked`` is False if the session vanished: the run is incomplete then.
        """
        for daemon in daemons.running_daemons():
            self._note_cache(daemon.pid)
        # before the rings: what ends meanwhile is then recorded twice instead of not at all
        self._keep(self._state.flush_open, self._files)
        for ring in self._rings.values():
            ring.drain_all()
        self._keep(self._state.flush_touches, self._files)
        if self._driver is not None:
            self._driver.stop()
        losses = self._state.losses() + self._spool_losses() + self._missed()
        self._note("hits", rows=self._state.hits())
        self._note("losses", rows=losses)
        self._note(
            "stop",
            complete=was_asked and not self._failures(),
            cpu_ns=time.process_time_ns() - self._cpu_before_ns,
            records=sum(ring.spooled for ring in self._rings.values()),
        )
        return {"losses": losses, "failures": self._failures()}

    def _keep(self, write: Callable[..., None], *arguments: Any, **values: Any) -> None:
        """Write beside the rings. A full disk is remembered, and recording goes on."""
        try:
            write(*arguments, **values)
        except OSError as error:
            self._failure = error

    def _note(self, kind: str, **values: Any) -> None:
        self._keep(journal.append, self._journal, kind, **values)

    def _note_cache(self, pid: int) -> None:
        names, directory = daemons.cache_names(pid), daemons.working_directory(pid)
        if directory is not None:
            self._note("cache", pid=pid, directory=directory, names=names)

    def _begin(self) -> None:
        self._attacher.attach_kernel_events()
        if self._driver is not None:
            self._driver.attach_installed()
        self._skipped_before = self._skipped()  # a backup may be attached before its primary
        running = daemons.running_daemons()
        for daemon in running:
            self._state.set_daemon(daemon.pid, daemon.threads)
            journal.append(
                self._journal, "daemon", pid=daemon.pid, name=daemon.name, threads=daemon.threads
            )
            self._note_cache(daemon.pid)
        mapped = (path for daemon in running for path in daemons.libraries_of(daemon.pid))
        for path in (*dict.fromkeys(mapped), *daemons.installed_libraries()):
            self._attacher.attach_library(path)
        journal.append(self._journal, "probes", rows=attach.rows(tuple(self._attacher.probes)))
        journal.append(self._journal, "mountinfo", pid=os.getpid(), text=journal.mountinfo())

    def _handle_tasks(self, span: memoryview) -> None:
        """Attach to the libraries of daemons that begin."""
        for record in events.TASK.records(span):
            pid, kind, role = events.TASK.read(record, "pid", "kind", "role")
            if role == events.ROLE_DAEMON and kind in _BEGINNINGS:
                self._waiting_for_library[pid] = time.monotonic_ns() + _LIBRARY_PATIENCE_NS
                self._attach_libraries(daemons.libraries_near(pid))

    def _handle_opened_libraries(self, span: memoryview) -> None:
        """A daemon opened a library of the client: it begins, or it reloads its code."""
        for record in events.CACHE_FILE.records(span):
            name, result = events.CACHE_FILE.read(record, "path", "result")
            path = name.decode("utf-8", "backslashreplace")
            if result < 0 or not daemons.is_library(path):
                continue
            pid, start_ns = events.CACHE_FILE.read(record, "pid", "start_ns")
            self._note("library", pid=pid, path=path, opened_ns=start_ns)
            self._waiting_for_library[pid] = time.monotonic_ns() + _LIBRARY_PATIENCE_NS
            self._attach_libraries((daemons.path_of(pid, path),))

    def _handle_files(self, span: memoryview) -> None:
        """When a superblock appears, record the mounts that its user sees before the user ends."""
        for record in events.FILE.records(span):
            device, pid = events.FILE.read(record, "dev", "pid")
            if device not in self._known_devices:
                text = journal.mountinfo(pid)
                if text:  # else the process has ended: wait for the next file of this superblock
                    self._known_devices.add(device)
                    self._note("mountinfo", pid=pid, text=text)

    def _look_for_libraries(self) -> None:
        for pid, deadline_ns in list(self._waiting_for_library.items()):
            paths = daemons.libraries_of(pid)
            self._attach_libraries(paths)
            if paths or time.monotonic_ns() > deadline_ns:
                del self._waiting_for_library[pid]

    def _attach_libraries(self, paths: tuple[str, ...]) -> None:
        for path in paths:
            new = self._attacher.attach_library(path)
            if new:
                self._note("probes", rows=attach.rows(new))

    def _spool_losses(self) -> list[dict[str, Any]]:
        return [
            {"probe": RING_EVENTS[name], "cause": _SPOOL_FULL, "count": ring.dropped, "per_cpu": []}
            for name, ring in self._rings.items()
            if ring.dropped
        ]

    def _missed(self) -> list[dict[str, Any]]:
        """Hits that the kernel skipped, by the names of the programs."""
        skipped, stood_in = (
            {name: count - before.get(name, 0) for name, count in now.items()}
            for now, before in zip(self._skipped(), self._skipped_before)
        )
        return [
            {"probe": name, "cause": "missed by the kernel", "count": count, "per_cpu": []}
            for name, count in seen_by_none(skipped, stood_in).items()
            if count
        ]

    def _skipped(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many hits the kernel skipped for each program, and how often backups ran alone."""
        loaded = self._attacher.programs().items()
        return {name: missed(program) for name, program in loaded}, self._state.stood_in()

    def _failures(self) -> list[str]:
        failures = [self._failure, *(ring.failure for ring in self._rings.values())]
        return sorted({str(failure.strerror) for failure in failures if failure is not None})


def _answer(recorder: Recorder, request: dict[str, Any], control: socket.socket) -> None:
    if request["kind"] == "living":
        protocol.send(control, "living", processes=recorder.living()[:_MAX_NAMED])
        return
    recorder.trace(request["pid"])
    protocol.send(control, "tracing")


def _wanted(options: dict[str, Any], gpu_calls: bool, names_hidden: bool) -> Options:
    """What the programs are compiled for."""
    return Options(
        bool(options.get("every_read")),
        bool(options.get("all_files")),
        backend=str(options.get("backend", "auto")),
        gpu_calls=gpu_calls,
        names_hidden=names_hidden,
    )


def serve(control: socket.socket) -> None:
    """Record until the session at the other end of the socket says stop, or is gone."""
    configured = protocol.receive(control)
    if configured is None:
        return
    message, descriptors = configured
    signal.alarm(_START_WATCHDOG_S)
    recorder = Recorder(message["options"], dict(zip(message["files"], descriptors)))
    protocol.send(control, "ready")
    poll = select.poll()
    for waking in (control.fileno(), *recorder.waking_rings):
        poll.register(waking, select.POLLIN)
    while True:
        signal.alarm(_WATCHDOG_S)
        ready = dict(poll.poll(_DRAIN_INTERVAL_S * 1000))
        if control.fileno() in ready:
            request = protocol.receive(control)
            if request is None or request[0]["kind"] == "stop":
                break
            _answer(recorder, request[0], control)
        recorder.step()
    signal.alarm(_WATCHDOG_S)
    result = recorder.stop(was_asked=request is not None)
    if request is not None:
        protocol.send(control, "stopped", **result)
