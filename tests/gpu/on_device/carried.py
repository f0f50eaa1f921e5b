"""What travels to the machine with a GPU; unpacked there, but not into its own directories.

A carried library is used only where that machine has none of its name: its own suit its Python.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from cvmprof.probes.gpu_library import LIBRARY

#: below the clone
PACKED = Path(".venv/gpu-carry/carried.tar.xz")
#: directories in it
LIBRARIES, BCC, CLIENT, PACKAGES, INJECTION = "lib", "python", "client", "packages", "injection"
_LINKED = "linked"
#: bcc, clang and what was built with them
_TOGETHER = ("libbcc", "libbpf", "libLLVM", "libclang", "libz3")
_SYSTEM_PYTHON = Path("/usr/bin/python3")


@dataclass(frozen=True)
class Carried:
    """Where it was unpacked."""

    place: Path

    @property
    def packages(self) -> Path:
        """Python packages for this process."""
        return self.place / PACKAGES

    @property
    def client(self) -> Path:
        """The lab's client: starts it with the libraries that it needs."""
        return self.place / "bin" / "cvmfs2"

    @property
    def recorder_python(self) -> Path:
        """A Python that has bcc: takes the options that a recorder is started with."""
        return self.place / "bin" / "python3"

    @property
    def injection(self) -> Path:
        """The injection library, as compiled where this was packed."""
        return self.place / INJECTION / LIBRARY.name


def unpack(packed: Path, place: Path, *, every_library: bool) -> Carried:
    """Unpack it and write the two programs. ``every_library``: also those that are installed.

    Raises OSError, lzma.LZMAError or tarfile.TarError if it cannot be unpacked.
    """
    with lzma.open(packed) as file, tarfile.open(fileobj=file) as tar:
        tar.extractall(place)
    installed = frozenset[str]() if every_library else _installed()
    (place / _LINKED).mkdir()
    for library in (place / LIBRARIES).iterdir():
        if library.name not in installed or library.name.startswith(_TOGETHER):
            (place / _LINKED / library.name).symlink_to(library)
    carried = Carried(place)
    paths = f"LD_LIBRARY_PATH={place / _LINKED}"
    _program(carried.client, f'{paths} exec {place / CLIENT / "cvmfs2"} "$@"')
    python = _SYSTEM_PYTHON if _SYSTEM_PYTHON.exists() else Path(sys.executable)
    # the first option, -I, would hide the packages
    _program(
        carried.recorder_python, f'shift; {paths} PYTHONPATH={place / BCC} exec {python} -s "$@"'
    )
    return carried


def _installed() -> frozenset[str]:
    """Names of the libraries that the dynamic linker finds by itself; none if it does not say."""
    command = [shutil.which("ldconfig") or "/sbin/ldconfig", "-p"]
    try:
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return frozenset()
    return frozenset(line.split()[0] for line in listing.splitlines()[1:] if line.strip())


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
