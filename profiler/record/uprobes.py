"""Uprobes: programs at the functions of a file, through one link or each through a perf event."""

from __future__ import annotations

import os
from typing import Any

from ...probes import catalog
from ...probes.kernel import KernelFacts
from . import uprobe_multi
from .prog_load import Purpose, load_program

#: arguments of libbcc's bpf_attach_uprobe
_ENTRY, _RETURN = 0, 1
_EVERY_PROCESS, _NO_COUNTER = -1, 0


class Uprobes:
    """Attaches programs of one object. A probe lives as long as the descriptor that is returned."""

    def __init__(self, bcc: Any, bpf: Any, facts: KernelFacts) -> None:
        self._bcc = bcc
        self._bpf = bpf
        self._multi_type = facts.enumerators.get("UPROBE_MULTI_TYPE", 0)
        self.family = catalog.uprobe_family(facts)

    def attach_all(self, program: str, link: uprobe_multi.Link) -> int:
        """Attach a program at many places at once; the family must be that. Raises OSError."""
        return uprobe_multi.attach(self._loaded(program), self._multi_type, link)

    def _loaded(self, program: str) -> int:
        """The descriptor of a program for all libraries, which is loaded once."""
        loaded = self._bpf.funcs.get(program.encode())
        if loaded is not None:
            return int(loaded.fd)
        purpose = Purpose(self._bcc.BPF.KPROBE, self._multi_type)
        return load_program(self._bcc, self._bpf, program, purpose)

    def attach_one(self, program: str, path: str, file_offset: int, returns: bool) -> int:
        """Attach a program at one place, by a perf event. Raises OSError.

        bcc's own Python method is not used: it omits the last argument of the library's function,
        the offset of a reference counter, which is then whatever lies on the stack (bcc 0.26).
        """
        try:
            loaded = self._bpf.load_func(program.encode(), self._bcc.BPF.KPROBE)
        except Exception as error:  # bcc raises bare Exception
            raise OSError(str(error)) from error
        name, where = f"cvmprof_{program}".encode(), (os.fsencode(path), file_offset)
        kind = _RETURN if returns else _ENTRY
        attach = self._bcc.lib.bpf_attach_uprobe
        probe = int(attach(loaded.fd, kind, name, *where, _EVERY_PROCESS, _NO_COUNTER))
        if probe < 0:
            raise OSError(f"{program} cannot be attached")
        return probe
