"""Attaching programs: to kernel events by the catalogue, to the daemon's functions by library."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import CvmprofError
from ...probes import catalog
from ...probes.catalog import AttachPoint, DaemonFunction, LogicalEvent
from ...probes.events import DAEMON_FUNCTIONS
from ...probes.kernel import KernelFacts
from ...probes.programs import CALL_PROGRAMS
from ...probes.symbols import Binary, Function, NotElf, read_binary
from . import daemons, fuse_free_path, trampoline, uprobe_multi
from .bpf_call import last_error
from .uprobes import Uprobes

_PERF_TYPE_SOFTWARE = 1


@dataclass(frozen=True)
class Probe:
    """A row of the table `probes`: what observes an event, or why nothing does."""

    event: str
    family: str
    target: str
    build_id: str | None = None
    symbols: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Library:
    """A library: its path, a path to the same file that cannot be redirected, its functions."""

    path: str
    pinned: str
    binary: Binary


def check_backend(facts: KernelFacts, backend: str) -> None:
    """Raises CvmprofError if the kernel does not support the backend that the user chose."""
    for event in catalog.EVENTS:
        chosen = catalog.resolve(event, facts, backend)
        if isinstance(chosen, catalog.Unsupported) and catalog.is_forced(event, backend):
            raise _unsupported_backend(backend, event, chosen.reason)


def _unsupported_backend(backend: str, event: LogicalEvent, reason: str) -> CvmprofError:
    fact = f"the backend {backend} cannot observe '{event.name}': {reason}"
    return CvmprofError(fact, "let cvmprof choose: --backend auto")


class Attacher:
    """Attaches the programs of one object. The kernel detaches them when this process ends."""

    def __init__(self, bcc: Any, bpf: Any, facts: KernelFacts, backend: str = "auto") -> None:
        self._backend = backend
        self._bcc = bcc
        self._bpf = bpf
        self._facts = facts
        self._uprobes = Uprobes(bcc, bpf, facts)
        self._links = list[int]()  # a link lives as long as its descriptor
        self._libraries = set[tuple[int, int]]()
        self.probes: list[Probe] = []

    def attach_kernel_events(self) -> None:
        """Attach every logical event that this kernel supports, ends before starts.

        Raises CvmprofError if a mandatory one, or one of the chosen backend, fails.
        """
        for event in reversed(catalog.EVENTS):
            reason = self._attach_event(event)
            if reason and catalog.is_forced(event, self._backend):
                raise _unsupported_backend(self._backend, event, reason)
            if reason and event.mandatory:
                fact = f"cannot observe '{event.name}' on {self._facts.release}: {reason}"
                raise CvmprofError(fact, "run it again with --debug, and report the output")

    def _attach_event(self, event: LogicalEvent) -> str | None:
        """Attach the first alternative that the kernel accepts. Returns why, if it accepts none."""
        candidates = catalog.candidates(event, self._facts, self._backend)
        if isinstance(candidates, catalog.Unsupported):
            self.probes.append(Probe(event.name, "none", "", reason=candidates.reason))
            return candidates.reason
        reasons = list[str]()
        for attachment in candidates:
            reason = self.attach_points(attachment.points)
            if reason is None:
                self.probes += [_row(event, point, None) for point in attachment.points]
                return None
            reasons.append(reason)
        points = candidates[-1].points
        self.probes += [_row(event, point, "; ".join(reasons)) for point in points]
        return "; ".join(reasons)

    def programs(self) -> dict[str, int]:
        """The descriptors of the loaded programs, by name."""
        return {name.decode(): int(loaded.fd) for name, loaded in self._bpf.funcs.items()}

    def attach_library(self, path: str) -> tuple[Probe, ...]:
        """Probe the client's functions in a library, once per file. Returns the new rows."""
        try:
            with fuse_free_path.opened(path) as file:
                new = self._attach_file(path, file)
        except (FileNotFoundError, ProcessLookupError):  # its process has ended
            return ()
        except (OSError, NotElf) as error:
            reason = getattr(error, "strerror", None) or str(error)
            new = (Probe("daemon call", "none", path, reason=reason),)
        self.probes += new
        return new

    def _attach_file(self, path: str, file: int) -> tuple[Probe, ...]:
        status = os.fstat(file)
        if (status.st_dev, status.st_ino) in self._libraries:
            return ()
        self._libraries.add((status.st_dev, status.st_ino))
        pinned = f"/proc/self/fd/{file}"  # leads to this file even if the path is replaced
        names = tuple(function.qualified_name for function in catalog.DAEMON_FUNCTIONS)
        debug_files = daemons.debug_files(path, file)
        library = _Library(path, pinned, read_binary(Path(pinned), names, debug_files))
        refused = self._attach_all_functions(library)
        return tuple(
            self._attach_function(library, function, refused)
            for function in catalog.DAEMON_FUNCTIONS
            if not function.optional or function.qualified_name in library.binary.functions
        )

    def _attach_all_functions(self, library: _Library) -> str | None:
        """Probe all functions through two links, if the kernel can. Returns why it refused."""
        functions = library.binary.functions
        if self._uprobes.family != catalog.UPROBE_MULTI or not functions:
            return None
        places = tuple(
            uprobe_multi.Place(place.file_offset, DAEMON_FUNCTIONS.index(function.function))
            for function in catalog.DAEMON_FUNCTIONS
            for place in functions.get(function.qualified_name, ())
        )
        try:  # returns first: an entry whose return is not seen would never be closed
            for program, returns in ((CALL_PROGRAMS[1], True), (CALL_PROGRAMS[0], False)):
                link = uprobe_multi.Link(library.pinned, places, returns)
                self._uprobes.attach_all(program, link)
        except OSError as error:
            return str(error)
        return None

    def attach_points(self, points: tuple[AttachPoint, ...]) -> str | None:
        """Attach one alternative of an event. If it is refused, leaves no link and returns why."""
        kept = len(self._links)
        for point in points:
            try:
                self._attach(point)
            except Exception as error:  # noqa: BLE001  bcc raises bare Exception
                while len(self._links) > kept:  # of the points before the refused one
                    os.close(self._links.pop())
                return f"{point.target}: {getattr(error, 'strerror', None) or error}"
        return None

    def _attach(self, point: AttachPoint) -> None:
        program = point.program.encode()
        if point.family == catalog.RAW_TRACEPOINT:
            self._attach_raw_tracepoint(point)
        elif point.family == catalog.KPROBE:
            self._bpf.attach_kprobe(event=point.target.encode(), fn_name=program)
        elif point.family == catalog.KRETPROBE:
            self._bpf.attach_kretprobe(event=point.target.encode(), fn_name=program)
        elif point.family in (catalog.FENTRY, catalog.FEXIT):
            function = self._facts.functions[point.target]
            link = trampoline.attach(self._bcc, self._bpf, point, function)
            self._links.append(link)
        else:
            self._bpf.attach_perf_event(
                ev_type=_PERF_TYPE_SOFTWARE,
                ev_config=catalog.SOFTWARE_EVENTS[point.target],
                fn_name=program,
                sample_period=1,
            )

    def _attach_raw_tracepoint(self, point: AttachPoint) -> None:
        """Does not use bcc's Python method, which allows one program for each tracepoint."""
        loaded = self._bpf.load_func(point.program.encode(), self._bcc.BPF.RAW_TRACEPOINT)
        link = int(self._bcc.lib.bpf_attach_raw_tracepoint(loaded.fd, point.target.encode()))
        if link < 0:
            raise last_error()
        self._links.append(link)

    def _attach_function(
        self, library: _Library, function: DaemonFunction, refused: str | None
    ) -> Probe:
        target, binary = f"{library.path}:{function.qualified_name}", library.binary
        places = binary.functions.get(function.qualified_name, ())
        clones = ", ".join(binary.clones.get(function.qualified_name, ()))
        if not places:
            reason = _no_symbol(function.qualified_name, clones, binary)
            return Probe("daemon call", "none", target, binary.build_id, binary.source, reason)
        if self._uprobes.family == catalog.UPROBE:
            attached = [self._attach_uprobes(library.pinned, place, function) for place in places]
            refused = next((reason for reason in attached if reason), None)
        family = "none" if refused else self._uprobes.family
        remark = refused or (f"calls of {clones} are not seen" if clones else None)
        sources = ", ".join(dict.fromkeys(place.source for place in places))
        return Probe("daemon call", family, target, binary.build_id, sources, remark)

    def _attach_uprobes(self, path: str, place: Function, function: DaemonFunction) -> str | None:
        """Probe one function by perf events. Returns why it was refused, if it was."""
        try:  # the return first: an entry whose return is not seen would never be closed
            for program, returns in ((function.exit, True), (function.entry, False)):
                self._uprobes.attach_one(program, path, place.file_offset, returns)
        except OSError as error:
            return str(error)
        return None


def _no_symbol(name: str, clones: str, binary: Binary) -> str:
    only = f", only {clones}, which take other arguments" if clones else ""
    remarks = "".join(f"; {remark}" for remark in binary.remarks)
    return f"no symbol {name}{only} (symbols read: {binary.source}{remarks})"


def rows(probes: tuple[Probe, ...]) -> list[dict[str, str | None]]:
    """The probes as rows of the journal."""
    return [asdict(probe) for probe in probes]


def _row(event: LogicalEvent, point: AttachPoint, reason: str | None) -> Probe:
    return Probe(event.name, "none" if reason else point.family, point.target, reason=reason)
