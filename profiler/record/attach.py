"""Attaching the programs: kernel events by the catalogue, the daemon's functions per library."""

from __future__ import annotations

import ctypes
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
from . import daemons, fuse_free_path, prog_load, trampoline, uprobe_multi

_PERF_TYPE_SOFTWARE = 1
#: arguments of libbcc's bpf_attach_uprobe
_UPROBE_ENTRY, _UPROBE_RETURN = 0, 1
_EVERY_PROCESS, _NO_COUNTER = -1, 0


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
    """A library: the path that names it, the one that leads to the very file, its functions."""

    path: str
    itself: str
    binary: Binary


def check_backend(facts: KernelFacts, backend: str) -> None:
    """Raises CvmprofError where a kernel cannot serve the backend that was asked for by name."""
    for event in catalog.EVENTS:
        found = catalog.resolve(event, facts, backend)
        if isinstance(found, catalog.Unsupported) and catalog.is_forced(event, backend):
            raise _cannot_serve(backend, event, found.reason)


def _cannot_serve(backend: str, event: LogicalEvent, reason: str) -> CvmprofError:
    fact = f"the backend {backend} cannot observe '{event.name}': {reason}"
    return CvmprofError(fact, "leave the choice to cvmprof: --backend auto")


class Attacher:
    """Attaches to one loaded object; everything it attached vanishes with this process."""

    def __init__(self, bcc: Any, bpf: Any, facts: KernelFacts, backend: str = "auto") -> None:
        self._backend = backend
        self._bcc = bcc
        self._bpf = bpf
        self._facts = facts
        self._uprobe_family = catalog.uprobe_family(facts)
        self._multi_type = facts.enumerators.get("UPROBE_MULTI_TYPE", 0)
        self._links = list[int]()  # alive as long as their descriptors
        self._libraries = set[tuple[int, int]]()
        self.probes: list[Probe] = []

    def attach_kernel_events(self) -> None:
        """Attaches every logical event that this kernel can serve, ends before starts.

        Raises CvmprofError where one fails without which nothing can be said.
        """
        for event in reversed(catalog.EVENTS):
            reason = self._attach_event(event)
            if reason and catalog.is_forced(event, self._backend):
                raise _cannot_serve(self._backend, event, reason)
            if reason and event.mandatory:
                fact = f"cannot observe '{event.name}' on {self._facts.release}: {reason}"
                way_out = "the same once more with --debug, and report it"
                raise CvmprofError(fact, way_out)

    def _attach_event(self, event: LogicalEvent) -> str | None:
        """Attaches the first alternative that the kernel takes; why none, where it takes none."""
        found = catalog.candidates(event, self._facts, self._backend)
        if isinstance(found, catalog.Unsupported):
            self.probes.append(Probe(event.name, "none", "", reason=found.reason))
            return found.reason
        reasons = list[str]()
        for attachment in found:
            reason = self.attach_points(attachment.points)
            if reason is None:
                self.probes += [_row(event, point, None) for point in attachment.points]
                return None
            reasons.append(reason)
        points = found[-1].points
        self.probes += [_row(event, point, "; ".join(reasons)) for point in points]
        return "; ".join(reasons)

    def programs(self) -> dict[str, int]:
        """Every loaded program by its name: its descriptor."""
        return {name.decode(): int(loaded.fd) for name, loaded in self._bpf.funcs.items()}

    def attach_library(self, path: str) -> tuple[Probe, ...]:
        """Probes the client's functions in a library, once per file; the new rows of `probes`."""
        try:
            with fuse_free_path.opened(path) as file:
                new = self._attach_file(path, file)
        except (FileNotFoundError, ProcessLookupError):  # its process has ended meanwhile
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
        itself = f"/proc/self/fd/{file}"  # nobody can put another in its place
        wanted = tuple(function.qualified_name for function in catalog.DAEMON_FUNCTIONS)
        debug_files = daemons.debug_files(path, file)
        library = _Library(path, itself, read_binary(Path(itself), wanted, debug_files))
        refused = self._attach_at_once(library)
        return tuple(
            self._attach_function(library, function, refused)
            for function in catalog.DAEMON_FUNCTIONS
            if not function.optional or function.qualified_name in library.binary.functions
        )

    def _attach_at_once(self, library: _Library) -> str | None:
        """Probes all functions through two links where the kernel can; why it refused, if so."""
        functions = library.binary.functions
        if self._uprobe_family != catalog.UPROBE_MULTI or not functions:
            return None
        places = tuple(
            uprobe_multi.Place(place.file_offset, DAEMON_FUNCTIONS.index(function.function))
            for function in catalog.DAEMON_FUNCTIONS
            for place in functions.get(function.qualified_name, ())
        )
        try:  # the returns first: an entry seen alone would wait for its return for ever
            for program, returns in ((CALL_PROGRAMS[1], True), (CALL_PROGRAMS[0], False)):
                loaded = self._call_program(program)
                uprobe_multi.attach(loaded, self._multi_type, library.itself, places, returns)
        except OSError as error:
            return str(error)
        return None

    def _call_program(self, program: str) -> int:
        """The descriptor of one of the pair that serves every library, loaded once."""
        known = self._bpf.funcs.get(program.encode())
        if known is not None:
            return int(known.fd)
        purpose = prog_load.Purpose(self._bcc.BPF.KPROBE, self._multi_type)
        return prog_load.load(self._bcc, self._bpf, program, purpose)

    def attach_points(self, points: tuple[AttachPoint, ...]) -> str | None:
        """Attaches one alternative of an event; why it was refused, if it was: no link stays."""
        kept = len(self._links)
        for point in points:
            try:
                self._attach(point)
            except Exception as error:  # noqa: BLE001  bcc raises bare Exception
                while len(self._links) > kept:  # what stands behind the one that was refused
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
        """Past bcc's own Python method, which allows one program for each tracepoint."""
        loaded = self._bpf.load_func(point.program.encode(), self._bcc.BPF.RAW_TRACEPOINT)
        link = int(self._bcc.lib.bpf_attach_raw_tracepoint(loaded.fd, point.target.encode()))
        if link < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._links.append(link)

    def _attach_function(
        self, library: _Library, function: DaemonFunction, refused: str | None
    ) -> Probe:
        target, binary = f"{library.path}:{function.qualified_name}", library.binary
        places = binary.functions.get(function.qualified_name, ())
        clones = ", ".join(binary.clones.get(function.qualified_name, ()))
        if not places:
            reason = _not_found(function.qualified_name, clones, binary)
            return Probe("daemon call", "none", target, binary.build_id, binary.source, reason)
        if self._uprobe_family == catalog.UPROBE:
            attached = [self._attach_uprobes(library.itself, place, function) for place in places]
            refused = next((reason for reason in attached if reason), None)
        family = "none" if refused else self._uprobe_family
        remark = refused or (f"calls of {clones} are not seen" if clones else None)
        sources = ", ".join(dict.fromkeys(place.source for place in places))
        return Probe("daemon call", family, target, binary.build_id, sources, remark)

    def _attach_uprobes(self, path: str, place: Function, function: DaemonFunction) -> str | None:
        """Probes one function by perf events; why it was refused, if it was.

        Past bcc's own Python method, which leaves out the last argument of the library's function:
        the offset of a reference counter, then taken from whatever lies on the stack (bcc 0.26).
        """
        # the return first: an entry seen alone would wait for it for ever
        for program, kind in ((function.exit, _UPROBE_RETURN), (function.entry, _UPROBE_ENTRY)):
            try:
                loaded = self._bpf.load_func(program.encode(), self._bcc.BPF.KPROBE)
            except Exception as error:  # noqa: BLE001  bcc raises bare Exception
                return str(error)
            name, where = f"cvmprof_{program}".encode(), (os.fsencode(path), place.file_offset)
            attach = self._bcc.lib.bpf_attach_uprobe
            if attach(loaded.fd, kind, name, *where, _EVERY_PROCESS, _NO_COUNTER) < 0:
                return f"{program} cannot be attached"
        return None


def _not_found(name: str, clones: str, binary: Binary) -> str:
    only = f", only {clones}, which are given other arguments" if clones else ""
    remarks = "".join(f"; {remark}" for remark in binary.remarks)
    return f"no symbol {name}{only} (symbols read: {binary.source}{remarks})"


def rows(probes: tuple[Probe, ...]) -> list[dict[str, str | None]]:
    """The probes as the journal keeps them."""
    return [asdict(probe) for probe in probes]


def _row(event: LogicalEvent, point: AttachPoint, reason: str | None) -> Probe:
    return Probe(event.name, "none" if reason else point.family, point.target, reason=reason)
