"""Let CUDA's driver load our library into the command's processes, and say what became of it.

The driver loads the library that a variable names, when a process initialises it. The library
writes two files a process into the run's spool: `probes.gpu_library` says where it comes from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import CvmprofError
from ...probes.catalog import GPU_ACTIVITY
from ...probes.events import GPU_RECORD
from ...probes.gpu_library import LIBRARY
from ...probes.gpus import library_path
from ..run.directory import GPU_DIRECTORY, SPOOL_DIRECTORY
from ..run.journal import json_lines
from ..run.plain_files import open_plain

#: names the library for the driver; other tools use it too
INJECTION_VARIABLE = "CUDA_INJECTION64_PATH"
#: names the directory for the library
DIRECTORY_VARIABLE = "CVMPROF_GPU_DIR"
# The files belong to the user: no more of them is read here than says why something is missing.
_MOST_FILES, _MOST_BYTES, _MOST_REASONS, _MOST_CHARACTERS = 1000, 1 << 20, 3, 1000
_LAST_BYTES = 4096


@dataclass(frozen=True)
class GpuInjection:
    """Whether the library is loaded, and where it writes to.

    ``directory`` is None where it is not loaded. ``reason`` says why not; None where it was not
    asked for, or no GPU is here.
    """

    directory: Path | None = None
    reason: str | None = None

    def variables(self) -> dict[str, str]:
        """What to add to the command's environment."""
        if self.directory is None:
            return {}
        return {INJECTION_VARIABLE: str(LIBRARY), DIRECTORY_VARIABLE: str(self.directory)}

    def probe_rows(self) -> list[dict[str, str | None]]:
        """The row for the table `probes`, after the command; none where nobody wanted one."""
        if self.directory is None and self.reason is None:
            return []
        trouble = [self.reason] if self.reason else self._trouble()
        reasons = [*trouble, *self._cut_off()]
        return [
            {
                "event": GPU_ACTIVITY.name,
                "family": "none" if trouble and not self._recorded() else "cupti",
                "target": LIBRARY.name,
                "build_id": None,
                "reason": "; ".join(reasons) or None,
            }
        ]

    def hit_rows(self) -> list[dict[str, Any]]:
        """How many records were written, as the journal has it."""
        rows = [{"event": GPU_ACTIVITY.name, "hits": self._recorded()}]
        return rows if self.directory is not None else []

    def _recorded(self) -> int:
        return sum(_size(path) // GPU_RECORD.size for path in self._files("*.records"))

    def _trouble(self) -> list[str]:
        """What the library wrote about trouble; the same of several processes once."""
        texts = dict.fromkeys(
            f"{line['text']}"[:_MOST_CHARACTERS]
            for path in self._files("*.lines")
            for line in json_lines(_read(path, _MOST_BYTES))
            if line.get("kind") == "trouble" and "text" in line
        )
        return list(texts)[:_MOST_REASONS]

    def _cut_off(self) -> list[str]:
        """Say of how many processes the records may lack the end."""
        count = sum(not _has_ended(path) for path in self._files("*.lines"))
        why = "killed, replaced by another program, or still running"
        return [f"the last records of {_processes(count)} may be missing: {why}"] if count else []

    def _files(self, pattern: str) -> Iterator[Path]:
        """Plain files; none where the command's user took the directory away."""
        found = list[Path]()
        with suppress(OSError):
            found = sorted(self.directory.glob(pattern)) if self.directory is not None else []
        return (path for path in islice(found, _MOST_FILES) if _is_plain_file(path))


def prepare_injection(run: Path, choice: str, environment: Mapping[str, str]) -> GpuInjection:
    """Make the library's directory in the spool, unless something stands against it.

    Raises CvmprofError where CUPTI was asked for and the library is not there, or the directory
    cannot be made.
    """
    if choice not in {"auto", "cupti"}:
        return GpuInjection()
    if environment.get(INJECTION_VARIABLE):
        by = environment[INJECTION_VARIABLE]
        return GpuInjection(reason=f"{INJECTION_VARIABLE} is set to {by} already, and left alone")
    if not os.access(LIBRARY, os.R_OK):
        return _without_library(choice, environment)
    directory = Path(os.path.abspath(run)) / SPOOL_DIRECTORY / GPU_DIRECTORY
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        fact = f"cannot make the directory {directory}: {error.strerror}"
        raise CvmprofError(fact, "free some space, or choose another place with -o") from error
    return GpuInjection(directory)


def _without_library(choice: str, environment: Mapping[str, str]) -> GpuInjection:
    fact = f"{LIBRARY} is missing" if not LIBRARY.exists() else f"{LIBRARY} cannot be read"
    help_text = "install gcc, then cvmprof again: make install"
    if choice == "cupti":
        raise CvmprofError(fact, help_text)
    is_wanted = library_path("libcuda.so.1", environment) is not None
    return GpuInjection(reason=f"{fact}: {help_text}") if is_wanted else GpuInjection()


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count:,} processes"


def _has_ended(path: Path) -> bool:
    """Whether the library wrote its last line, or said that it records nothing more."""
    last = _read(path, _LAST_BYTES, at=max(0, _size(path) - _LAST_BYTES))
    return b'"kind":"end"' in last or b'"kind":"trouble"' in last


def _is_plain_file(path: Path) -> bool:
    with suppress(OSError):
        return path.is_file() and not path.is_symlink()
    return False


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _read(path: Path, most_bytes: int, *, at: int = 0) -> bytes:
    """A part of a plain file; nothing of what a process may have put in its place since."""
    with suppress(OSError):
        file = open_plain(path)
        if file is not None:
            with file:
                file.seek(at)
                return file.read(most_bytes)
    return b""
