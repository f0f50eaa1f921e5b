"""Uprobes on the functions that libraries of the CUDA driver export, in every version of each."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from ...probes.catalog import DRIVER_FUNCTIONS, UPROBE_MULTI, DriverFunction
from ...probes.gpu import base_name
from ...probes.programs import GPU_CALL, GPU_LAUNCH, GPU_RETURN
from ...probes.symbols import Binary, NotElf, exported_functions
from . import driver_files, fuse_free_path
from .attach import Probe
from .uprobe_multi import Link, Place
from .uprobes import Uprobes

CALL, LAUNCH = "GPU call", "GPU launch"
_FUNCTIONS = {function.name: function for function in DRIVER_FUNCTIONS}


@dataclass(frozen=True)
class _Library:
    """A library: its path, a path to the same file that cannot be redirected, the functions by
    their offsets in it, and the descriptors of the probes on its launches.
    """

    path: str
    pinned: str
    binary: Binary
    functions: dict[int, DriverFunction]
    launches: list[int] = field(default_factory=list[int])


class DriverProbes:
    """The libraries that are probed. Another thread may release launches and probe them again."""

    def __init__(self, uprobes: Uprobes) -> None:
        self._uprobes = uprobes
        self._files = set[tuple[int, int]]()
        self._libraries = list[_Library]()  # those of which launches may be probed
        self._launches_wanted = True
        self._changing_launches = threading.Lock()

    def attach(self, path: str) -> tuple[Probe, ...]:
        """Probe a library, once per file. Returns the new rows of `probes`."""
        try:
            with fuse_free_path.opened(path) as file:
                return self._attach_file(path, file)
        except (FileNotFoundError, ProcessLookupError):  # its process has ended
            return ()
        except (OSError, NotElf) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return tuple(Probe(event, "none", path, reason=reason) for event in (CALL, LAUNCH))

    def _attach_file(self, path: str, file: int) -> tuple[Probe, ...]:
        status = os.fstat(file)
        if (status.st_dev, status.st_ino) in self._files:
            return ()
        self._files.add((status.st_dev, status.st_ino))
        driver_files.check_owner(status)
        opened = Path(f"/proc/self/fd/{file}")
        binary = exported_functions(opened, lambda name: base_name(name) in _FUNCTIONS)
        functions = {  # several names may lead to one place, which is probed once
            place.file_offset: _FUNCTIONS[base_name(place.symbol)]
            for places in binary.functions.values()
            for place in places
        }
        pinned = f"/proc/self/fd/{os.dup(file)}"  # stays open: launches may be probed again
        library = _Library(path, pinned, binary, functions)
        return self._attach_calls(library), self._attach_launches(library)

    def _attach_calls(self, library: _Library) -> Probe:
        returns = list[int]()
        try:  # returns first: an entry whose return is not seen would never be closed
            returns = self._probed(library, GPU_RETURN)
            self._probed(library, GPU_CALL)
        except OSError as error:
            _release(returns)
            return self._row(CALL, library, str(error))
        return self._row(CALL, library)

    def _attach_launches(self, library: _Library) -> Probe:
        with self._changing_launches:
            try:
                if self._launches_wanted:
                    library.launches.extend(self._probed(library, GPU_LAUNCH))
            except OSError as error:
                return self._row(LAUNCH, library, str(error))
            self._libraries.append(library)
        return self._row(LAUNCH, library)

    def _row(self, event: str, library: _Library, refused: str | None = None) -> Probe:
        counted = event == LAUNCH
        if not any(function.counted == counted for function in library.functions.values()):
            refused = "it exports no such function of the CUDA driver"
        family = "none" if refused else self._uprobes.family
        binary = library.binary
        return Probe(event, family, library.path, binary.build_id, binary.source, refused)

    def release_launches(self) -> None:
        """Take the probes off all launches; it takes tens of milliseconds. Those of libraries that
        are probed later stay off too.
        """
        with self._changing_launches:
            self._release_all()

    def _release_all(self) -> None:
        self._launches_wanted = False
        for library in self._libraries:
            _release(library.launches)

    def probe_launches(self) -> str | None:
        """Probe launches again. Returns why not: if a library is refused, all stay off."""
        with self._changing_launches:
            self._launches_wanted = True
            try:
                for library in self._libraries:
                    library.launches.extend(self._probed(library, GPU_LAUNCH))
            except OSError as error:
                self._release_all()
                return str(error)
        return None

    def rows_of_launches(self, reason: str) -> tuple[Probe, ...]:
        """The rows of launches that are observed, with a remark."""
        family = self._uprobes.family
        return tuple(
            Probe(LAUNCH, family, each.path, each.binary.build_id, each.binary.source, reason)
            for each in tuple(self._libraries)
            if any(function.counted for function in each.functions.values())
        )

    def _probed(self, library: _Library, program: str) -> list[int]:
        """Attach a program to the functions that it is for. Returns descriptors. Raises OSError."""
        counted, returns = program == GPU_LAUNCH, program == GPU_RETURN
        places = {at: each for at, each in library.functions.items() if each.counted == counted}
        if self._uprobes.family == UPROBE_MULTI:
            cookies = tuple(Place(at, function.cookie) for at, function in places.items())
            link = Link(library.pinned, cookies, returns)
            return [self._uprobes.attach_all(program, link)] if places else []
        probes = list[int]()
        try:
            for at, function in places.items():
                name = function.exit if returns else function.entry
                probes.append(self._uprobes.attach_one(name, library.pinned, at, returns))
        except OSError:
            _release(probes)
            raise
        return probes


def _release(probes: list[int]) -> None:
    while probes:
        os.close(probes.pop())
