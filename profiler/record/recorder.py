"""The recording itself: attach, drain the rings to the spool, flush at the end.

Runs as root in a process of its own under the distribution's Python. What it writes to, it was
handed open.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from typing import Any, Callable

from ...probes import events, syscalls
from ...probes.catalog import UPROBE, uprobe_family
from ...probes.kernel import running_kernel
from ...probes.programs import CALL_PROGRAMS, RING_EVENTS, Options
from . import attach, daemons, journal, load, protocol
from .misses import by_nobody, missed
from .ring import Ring
from .state import OPEN_STATE, TOUCH_FILES, State

JOURNAL = "journal.jsonl"
_DRAIN_INTERVAL_S = 0.025
#: whatever hangs the recorder for so long: the kernel ends it, and takes off all probes
_WATCHDOG_S, _START_WATCHDOG_S = 60, 300
_TOUCH_INTERVAL_NS = 5_000_000_000
_LIBRARY_PATIENCE_NS = 10_000_000_000
_SPOOL_FULL = "spool full"


def spool_files() -> tuple[str, ...]:
    """Names of the files that a recorder is handed, besides the journal."""
    rings = tuple(f"{layout.name}.ring" for layout in events.RINGS)
    return rings + tuple(file for file, _, _ in OPEN_STATE.values()) + TOUCH_FILES


class Recorder:
    """One recording: made with everything attached, ended by `stop`."""

    def __init__(self, options: dict[str, Any], files: dict[str, int]) -> None:
        self._files = files
        self._failure: OSError | None = None
        self._journal = files[JOURNAL]
        facts, backend = running_kernel(), str(options.get("backend", "auto"))
        attach.check_backend(facts, backend)
        bcc = load.import_bcc()
        wanted = (bool(options.get("every_read")), bool(options.get("all_files")))
        chosen = Options(*wanted, backend=backend)
        self._bpf = load.load(bcc, facts, chosen)
        self._state = State(bcc, self._bpf)
        self._state.set_syscall_classes(syscalls.class_table(facts.machine))
        if uprobe_family(facts) == UPROBE:
            self._state.set_programs("call_programs", CALL_PROGRAMS)
        self._rings = {
            layout.name: Ring(self._map_fd(bcc, layout), layout, files[f"{layout.name}.ring"])
            for layout in events.RINGS
        }
        self._attacher = attach.Attacher(bcc, self._bpf, facts, backend)
        self._waiting_for_library: dict[int, int] = {}  # daemon -> give up at
        self._known_devices = set[int]()
        self._touches_flushed_ns = time.monotonic_ns()
        self._begin()
        self._cpu_before_ns = time.process_time_ns()

    def trace(self, pid: int) -> None:
        """Follows a process and all that it will start."""
        self._state.set_role(pid, events.ROLE_TARGET)

    def step(self) -> None:
        """Drains every ring once and attends to what has appeared."""
        for name, ring in self._rings.items():
            span = ring.drain()
            if span is not None and name == "task":
                self._attend_tasks(span, ring.layout.stride)
            elif span is not None and name == "file":
                self._attend_files(span, ring.layout.stride)
            elif span is not None and name == "cache_file" and daemons.loads_library(span):
                self._attend_loading(span, ring.layout.stride)
        self._look_for_libraries()
        now = time.monotonic_ns()
        if now - self._touches_flushed_ns > _TOUCH_INTERVAL_NS:
            self._touches_flushed_ns = now
            self._keep(self._state.flush_touches, self._files, now - 1_000_000_000)

    def stop(self, was_asked: bool) -> dict[str, Any]:
        """Drains to the end, flushes what is in flight, and tells what was lost.

        A session that vanished did not ask for it: the run is not complete.
        """
        for daemon in daemons.running_daemons():
            self._note_cache(daemon.pid)
        # first, so that what ends meanwhile is in both and not in neither
        self._keep(self._state.flush_open, self._files)
        for ring in self._rings.values():
            ring.drain_all()
        self._keep(self._state.flush_touches, self._files, 1 << 62)
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
        """Writes beside the rings; a full disk is remembered, and the recording goes on."""
        try:
            write(*arguments, **values)
        except OSError as error:
            self._failure = error

    def _note(self, kind: str, **values: Any) -> None:
        self._keep(journal.append, self._journal, kind, **values)

    def _note_cache(self, pid: int) -> None:
        names, place = daemons.cache_names(pid), daemons.working_directory(pid)
        if place is not None:
            self._note("cache", pid=pid, directory=place, names=names)

    def _begin(self) -> None:
        self._attacher.attach_kernel_events()
        self._skipped_before = self._skipped()  # a second one may be there before its first
        found = daemons.running_daemons()
        for daemon in found:
            self._state.set_daemon(daemon.pid, daemon.threads)
            journal.append(
                self._journal, "daemon", pid=daemon.pid, name=daemon.name, threads=daemon.threads
            )
            self._note_cache(daemon.pid)
        mapped = (path for daemon in found for path in daemons.libraries_of(daemon.pid))
        for path in (*dict.fromkeys(mapped), *daemons.installed_libraries()):
            self._attacher.attach_library(path)
        journal.append(self._journal, "probes", rows=attach.rows(tuple(self._attacher.probes)))
        journal.append(self._journal, "mountinfo", pid=os.getpid(), text=journal.mountinfo())

    def _map_fd(self, bcc: Any, layout: events.Layout) -> int:
        return int(bcc.lib.bpf_table_fd(self._bpf.module, f"{layout.name}_ring".encode()))

    def _attend_tasks(self, span: memoryview, stride: int) -> None:
        for at in range(events.RING_HEADER_BYTES, len(span), stride):
            (pid,) = struct.unpack_from("<I", span, at + _TASK_PID)
            kind, role = struct.unpack_from("<HH", span, at + _TASK_KIND)
            if role == events.ROLE_DAEMON and kind in _BEGINNINGS:
                self._waiting_for_library[pid] = time.monotonic_ns() + _LIBRARY_PATIENCE_NS
                self._attach_libraries(daemons.libraries_near(pid))

    def _attend_loading(self, span: memoryview, stride: int) -> None:
        """A daemon opened a library of the client: it begins, or it loads its code anew."""
        for at in range(events.RING_HEADER_BYTES, len(span), stride):
            name = bytes(span[at + _NAME : at + _NAME + _NAME_BYTES]).partition(b"\0")[0]
            path = name.decode("utf-8", "backslashreplace")
            (result,) = struct.unpack_from("<q", span, at + _NAME_RESULT)
            if result < 0 or not daemons.is_library(path):
                continue
            (pid,) = struct.unpack_from("<I", span, at + _NAME_PID)
            (start_ns,) = struct.unpack_from("<Q", span, at + _NAME_START)
            self._note("library", pid=pid, path=path, opened_ns=start_ns)
            self._waiting_for_library[pid] = time.monotonic_ns() + _LIBRARY_PATIENCE_NS
            self._attach_libraries((daemons.path_of(pid, path),))

    def _attend_files(self, span: memoryview, stride: int) -> None:
        """A superblock appeared: keep the mounts that its user sees, for as long as it lives."""
        for at in range(events.RING_HEADER_BYTES, len(span), stride):
            (device,) = struct.unpack_from("<I", span, at + _FILE_DEV)
            (pid,) = struct.unpack_from("<I", span, at + _FILE_PID)
            if device not in self._known_devices:
                text = journal.mountinfo(pid)
                if text:  # else it has ended: the next one tells
                    self._known_devices.add(device)
                    self._note("mountinfo", pid=pid, text=text)

    def _look_for_libraries(self) -> None:
        for pid, deadline_ns in list(self._waiting_for_library.items()):
            found = daemons.libraries_of(pid)
            self._attach_libraries(found)
            if found or time.monotonic_ns() > deadline_ns:
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
        """Hits that the kernel skipped, under the names of the programs."""
        skipped, stood_in = (
            {name: count - before.get(name, 0) for name, count in now.items()}
            for now, before in zip(self._skipped(), self._skipped_before)
        )
        return [
            {"probe": name, "cause": "missed by the kernel", "count": count, "per_cpu": []}
            for name, count in by_nobody(skipped, stood_in).items()
            if count
        ]

    def _skipped(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many hits the kernel skipped each program for, and a second one was there alone."""
        loaded = self._attacher.programs().items()
        return {name: missed(program) for name, program in loaded}, self._state.stood_in()

    def _failures(self) -> list[str]:
        failures = [self._failure, *(ring.failure for ring in self._rings.values())]
        return sorted({str(failure.strerror) for failure in failures if failure is not None})


_NAME, _NAME_PID = events.CACHE_FILE.offset("path"), events.CACHE_FILE.offset("pid")
_NAME_RESULT, _NAME_START = events.CACHE_FILE.offset("result"), events.CACHE_FILE.offset("start_ns")
_NAME_BYTES = events.CACHE_FILE.offset("new_path") - _NAME
_TASK_PID, _TASK_KIND = events.TASK.offset("pid"), events.TASK.offset("kind")
_FILE_DEV, _FILE_PID = events.FILE.offset("dev"), events.FILE.offset("pid")
_BEGINNINGS = (events.TASK_KINDS.index("seen"), events.TASK_KINDS.index("exec"))


def serve(control: socket.socket) -> None:
    """Records as the session at the other end of the socket says, until it says stop or is gone."""
    configured = protocol.receive(control)
    if configured is None:
        return
    message, descriptors = configured
    signal.alarm(_START_WATCHDOG_S)
    recorder = Recorder(message["options"], dict(zip(message["files"], descriptors)))
    protocol.send(control, "ready")
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        signal.alarm(_WATCHDOG_S)
        if poll.poll(_DRAIN_INTERVAL_S * 1000):
            request = protocol.receive(control)
            if request is None or request[0]["kind"] == "stop":
                break
            recorder.trace(request[0]["pid"])
            protocol.send(control, "tracing")
        recorder.step()
    signal.alarm(_WATCHDOG_S)
    result = recorder.stop(was_asked=request is not None)
    if request is not None:
        protocol.send(control, "stopped", **result)
